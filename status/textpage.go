package status

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// page collects lines of bounded width.
type page struct {
	now   time.Time
	width int
	out   bytes.Buffer
}

// indent is the column of the text in a row.
const indent = 10

// room is how many lines of the screen are left.
func (p *page) room() int { return maxLines - bytes.Count(p.out.Bytes(), []byte("\n")) }

// row writes a label and a text of at most two lines.
func (p *page) row(label, format string, args ...any) {
	text := clean(fmt.Sprintf(format, args...))
	first, rest := text, ""
	room := p.width - indent
	if p.width > 0 && utf8.RuneCountInString(text) > room {
		first, rest = split(text, room)
	}
	fmt.Fprintf(&p.out, "%-*s%s\n", indent, label, first)
	if rest != "" {
		p.line(strings.Repeat(" ", indent+2) + rest)
	}
}

// line writes text, cut to the width.
func (p *page) line(text string) {
	p.out.WriteString(strings.TrimRight(cut(clean(text), p.width), " ") + "\n")
}

// split breaks at the last space that fits.
func split(text string, room int) (first, rest string) {
	runes := []rune(text)
	if room < 1 || room >= len(runes) {
		return text, ""
	}
	at := room
	for i := room; i > room/2; i-- {
		if runes[i] == ' ' {
			at = i
			break
		}
	}
	return string(runes[:at]), strings.TrimLeft(string(runes[at:]), " ")
}

func cut(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// clean keeps what commands and values print from driving the terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsControl(r) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, text)
}

// ago is "12s ago (10:42:11)".
func (p *page) ago(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	if p.now.Sub(t) < time.Second {
		return "just now (" + p.clock(t) + ")"
	}
	return span(p.now.Sub(t)) + " ago (" + p.clock(t) + ")"
}

// at is a time to come: "10:42:20 (in 8s)".
func (p *page) at(t time.Time) string {
	if !t.After(p.now) {
		return p.clock(t) + " (now)"
	}
	return p.clock(t) + " (in " + span(t.Sub(p.now)) + ")"
}

// when is "10:42:20 (12s)".
func (p *page) when(t time.Time) string {
	if t.IsZero() {
		return "the start"
	}
	return p.clock(t) + " (" + span(p.now.Sub(t)) + ")"
}

func (p *page) since(t time.Time) string {
	if t.IsZero() {
		return "since the start"
	}
	return "since " + p.when(t)
}

// clock is the time of day, with the date if that is not today's.
func (p *page) clock(t time.Time) string {
	t = t.In(p.now.Location())
	if t.Format(time.DateOnly) == p.now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2006-01-02 15:04")
}

// span is a duration for people: two units at most.
func span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// names lists a few and says how many more there are.
func names(list []string) string {
	if len(list) <= maxNames {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:maxNames], ", "), len(list)-maxNames)
}

// because says why a run is or was: its reasons, which name the keys.
func because(reasons, keys []string) string {
	if len(reasons) == 0 {
		reasons = keys
	}
	if len(reasons) == 0 {
		return ""
	}
	return "; " + names(reasons)
}

func mark(result string) string {
	if result == "" {
		return "running"
	}
	if result == "ok" {
		return "ok"
	}
	return strings.ToUpper(result)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
