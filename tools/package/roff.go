package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// page writes a man page, see man(7) and groff_man(7).
type page struct{ b bytes.Buffer }

func newPage(name, section string, when time.Time) *page {
	p := &page{}
	fmt.Fprintf(&p.b, ".TH %q %q %q \"listener\" \"listener\"\n.nh\n.ad l\n", roff(strings.ToUpper(name)), section, when.Format("2006-01-02"))
	return p
}

func (p *page) bytes() []byte { return p.b.Bytes() }

func (p *page) section(title string)    { fmt.Fprintf(&p.b, ".SH \"%s\"\n", roff(title)) }
func (p *page) subsection(title string) { fmt.Fprintf(&p.b, ".SS \"%s\"\n", roff(title)) }

// text is a paragraph that is filled.
func (p *page) text(text string) { fmt.Fprintf(&p.b, ".PP\n%s\n", line(text)) }

// tagged is a term and what it means.
func (p *page) tagged(term, text string) {
	fmt.Fprintf(&p.b, ".TP\n\\fB%s\\fR\n%s\n", roff(term), line(text))
}

// literal is shown as it is.
func (p *page) literal(text string) {
	p.b.WriteString(".PP\n.RS 4\n.nf\n")
	for l := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		p.b.WriteString(line(l) + "\n")
	}
	p.b.WriteString(".fi\n.RE\n")
}

// paragraphs are separated by empty lines; one with lines that are indented is
// shown as it is.
func (p *page) paragraphs(text string) {
	for par := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if strings.HasPrefix(par, " ") || strings.Contains(par, "\n ") {
			p.literal(par)
			continue
		}
		p.text(strings.ReplaceAll(par, "\n", " "))
	}
}

// line is text at the beginning of a line, where a dot or an apostrophe would
// be a request.
func line(text string) string {
	text = roff(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}

// roff writes text so that it shows as it is in any locale: signs that commands
// are typed with stay those of ASCII.
func roff(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\(rs`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r > 126:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
