package manifest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func (p *parser) id(v *value) {
	if !idPattern(v.text) {
		p.wrong(v, quote(v.text)+" is no id", `write lower-case letters, digits and "-", such as "`+p.exampleID()+`"`)
		return
	}
	p.m.ID = v.text
	if b := p.base(); b != "" && b != v.text {
		p.wrong(v, fmt.Sprintf("id %q in the file %s.json", v.text, b), fmt.Sprintf("rename the file to %s.json, or write %q", v.text, b))
	}
}

func (p *parser) command(v *value) {
	switch v.kind {
	case 't':
		p.m.Command = Command{Node: true}
	case 'f':
		p.m.Command = Command{}
	case '"':
		if p.filled(v, "write a shell command, or false for none") {
			p.m.Command = Command{Argv: []string{"/bin/sh", "-c", v.text}}
		}
	case '[':
		p.m.Command = Command{Argv: p.argv(v)}
	}
}

// argv is the texts of an array whose first names a program.
func (p *parser) argv(v *value) []string {
	if len(v.elems) == 0 {
		p.wrong(v, "an empty command", `write ["program", "argument", "…"]`)
		return nil
	}
	argv := p.texts(v, `"argument"`)
	if first := v.elems[0]; first.kind == '"' {
		p.filled(first, "write the program to run")
	}
	return argv
}

// texts is an array's strings; any other element is an error.
func (p *parser) texts(v *value, write string) []string {
	texts := make([]string, 0, len(v.elems))
	for _, e := range v.elems {
		if p.is(e, `"`, "write "+write) {
			texts = append(texts, e.text)
		}
	}
	return texts
}

// names is an array's strings, which must differ.
func (p *parser) names(v *value, write string) []*value {
	var names []*value
	for _, e := range v.elems {
		switch same := func(o *value) bool { return strings.EqualFold(o.text, e.text) }; {
		case !p.is(e, `"`, "write "+write):
		case slices.ContainsFunc(names, same):
			p.wrong(e, quote(e.text)+" is there twice", "remove one")
		default:
			names = append(names, e)
		}
	}
	return names
}

func (p *parser) filled(v *value, hint string) bool {
	if strings.TrimSpace(v.text) == "" {
		p.wrong(v, "an empty string", hint)
		return false
	}
	return true
}

func (p *parser) runList(v *value) {
	p.m.RunList = p.texts(v, `"nginx::default"`)
	for _, e := range v.elems {
		if e.kind == '"' {
			p.filled(e, `write an entry such as "nginx::default", or remove it`)
		}
	}
}

// standIn is put for a variable that is wrong, so that templates which name it
// bring no second error. Nobody sees it, for the manifest is refused.
const standIn = "1"

func (p *parser) environment(v *value) {
	p.m.Environment = make(map[string]string, len(v.members))
	for _, m := range v.members {
		text := standIn
		if p.variable(m) && p.is(m.value, `"0tf`, `write a string, a number, true or false`) {
			text = m.value.text
		}
		p.m.Environment[m.name] = text
	}
}

// stepVariables are set by the agent for each step: its own must win, for it
// finds what is left of a run by LISTENER_RUN_ID.
var stepVariables = []string{
	"LISTENER_RUN_ID", "LISTENER_REASON", "LISTENER_CHANGED_KEYS", "LISTENER_CHANGED_SERVICES",
	"LISTENER_SERVICES", "LISTENER_RUN_LIST", "LISTENER_NODE_JSON",
}

func (p *parser) variable(m member) bool {
	switch {
	case !variablePattern(m.name):
		p.add(m.start, m.value.pointer(), quote(m.name)+" is no variable name", `write letters, digits and "_", such as DATABASE_URL`)
	case slices.Contains(stepVariables, m.name):
		p.add(m.start, m.value.pointer(), m.name+" is set by listener itself", "choose another name")
	default:
		return true
	}
	return false
}

func (p *parser) requires(v *value) {
	p.m.Requires = make(map[string]Template, len(v.members))
	for _, m := range v.members {
		if !p.variable(m) || !p.is(m.value, `"`, `write "{PRIMARY_DATABASE_URL}"`) {
			continue
		}
		if keyPattern(m.value.text) {
			p.wrong(m.value, quote(m.value.text)+" is plain text, not a placeholder", `write "{`+m.value.text+`}", or move it to environment`)
			continue
		}
		t, ok := p.template(m.value, RequiresScope)
		if !ok {
			continue
		}
		if !slices.ContainsFunc(t.Parts, func(part Part) bool { return !part.literal() }) {
			p.note("requires %s has no placeholder; such text belongs in environment", m.name)
		}
		p.m.Requires[m.name] = t
	}
}

func (p *parser) provides(v *value) {
	p.m.Provides = make(map[string]Template, len(v.members))
	for _, m := range v.members {
		if !keyPattern(m.name) {
			p.add(m.start, m.value.pointer(), quote(m.name)+" is no key", `write upper-case letters, digits and "_", such as WWW_URL`)
			continue
		}
		if !p.is(m.value, `"`, `write "http://{HOST}:{PORT}/"`) {
			continue
		}
		if builtin(m.name) != "" {
			p.note("provides %s can only be required as {%s/%s}; {%s} is built in", m.name, p.m.ID, m.name, m.name)
		}
		if t, ok := p.template(m.value, ProvidesScope); ok && p.oneLine(m.value, t) {
			p.m.Provides[m.name] = t
		}
	}
}

// oneLine: the store refuses line breaks in values.
func (p *parser) oneLine(v *value, t Template) bool {
	if i := strings.IndexAny(v.text, "\r\n"); i >= 0 {
		p.wrongIn(v, i, "a line break in what is provided", "write one line")
		return false
	}
	for _, part := range t.Parts {
		if strings.ContainsAny(p.m.Environment[part.EnvVar], "\r\n") {
			p.wrong(v, part.String()+" holds a line break", "provide a variable of one line")
			return false
		}
	}
	return true
}

// template reads a string with placeholders.
func (p *parser) template(v *value, scope Scope) (Template, bool) {
	t, flaws := parseTemplate(v.text, scope, p.m.Environment)
	for _, f := range flaws {
		p.wrongIn(v, f.off, f.text, f.hint)
	}
	ok := len(flaws) == 0
	for _, part := range t.Parts {
		if part.Builtin == "PORT" && !p.port(v) {
			return t, false
		}
	}
	return t, ok
}

// port reports whether {PORT} has a value.
func (p *parser) port(v *value) bool {
	text, set := p.m.Environment["PORT"]
	if n, err := strconv.Atoi(text); set && (err != nil || n < 1 || n > 65535) {
		p.wrong(v, "{PORT} is environment.PORT, "+quote(text)+", which is no port", "write a number from 1 to 65535 there")
		return false
	}
	if !set && p.have["local_port"] == nil {
		p.wrong(v, "{PORT} has no value", `add "PORT": 8080 to environment, or "local_port": 8080`)
		return false
	}
	return true
}

// number is a whole number from least to most.
func (p *parser) number(v *value, least, most int) int {
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil || f != math.Trunc(f) || f < float64(least) || f > float64(most) {
		p.wrong(v, v.text+" is out of range", fmt.Sprintf("write a whole number from %d to %d", least, most))
		return 0
	}
	return int(f)
}

func (p *parser) localPort(v *value) { p.m.LocalPort = p.number(v, 1, 65535) }
func (p *parser) priority(v *value)  { p.m.Priority = p.number(v, -65535, 65535) }
func (p *parser) weight(v *value)    { p.m.Weight = p.number(v, 0, 256) }
func (p *parser) public(v *value)    { p.m.Public = v.kind == 't' }

func (p *parser) hosts(v *value) {
	for _, e := range p.names(v, `"www.example.com"`) {
		if !hostPattern(e.text) {
			p.wrong(e, quote(e.text)+" is no host name", `write a name such as "www.example.com", without scheme, port, path or *`)
			continue
		}
		p.m.Hosts = append(p.m.Hosts, strings.ToLower(e.text))
	}
}

func (p *parser) federation(v *value) {
	if p.m.Federation = v.text; !federationPattern(v.text) {
		p.wrong(v, quote(v.text)+" is no federation", `write letters, digits, ".", "_" and "-", such as "seatgeek"`)
	}
}

func (p *parser) balance(v *value) {
	p.m.Balance = p.oneOf(v, "roundrobin", "leastconn", "hash")
}

func (p *parser) binding(v *value) {
	p.m.Relaxed = p.oneOf(v, "strict", "relaxed") == "relaxed"
}

func (p *parser) oneOf(v *value, words ...string) string {
	if !slices.Contains(words, v.text) {
		hint := `write "` + strings.Join(words, `" or "`) + `"`
		if n := nearest(v.text, words); n != "" {
			hint = `write "` + n + `"`
		}
		p.wrong(v, "unknown "+v.name+" "+quote(v.text), hint)
	}
	return v.text
}

func (p *parser) exclusive(v *value) {
	names := p.names(v, `"WWW_URL"`)
	if own := p.have["provides"]; own != nil && own.kind != '{' {
		return // told already
	}
	for _, e := range names {
		if !slices.ContainsFunc(membersOf(p.have["provides"]), func(m member) bool { return m.name == e.text }) {
			p.wrong(e, quote(e.text)+" is not in provides", "add it there, or remove it here")
			continue
		}
		p.m.Exclusive = append(p.m.Exclusive, e.text)
	}
}

func (p *parser) account(v *value) string {
	if !accountPattern(v.text) {
		p.wrong(v, quote(v.text)+" is no "+v.name, `write a name such as "www-data", or a number`)
	}
	return v.text
}

// quote shows text of a file, cut when it is long.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(s)
}
