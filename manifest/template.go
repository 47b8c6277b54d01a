package manifest

import (
	"slices"
	"strings"
)

// Scope is what a template may name.
type Scope int

const (
	// RequiresScope: keys of the store and built-ins.
	RequiresScope Scope = iota
	// ProvidesScope (provides and check): built-ins and the service's own
	// environment, so that what a node offers never depends on the store.
	ProvidesScope
)

var builtins = []string{"FEDERATION", "HOST", "ID", "NODE", "PORT", "REGION"}

// Builtins are the names that need no store, sorted. In a template they are
// written in upper or in lower case and win over a key of the same name.
func Builtins() []string { return slices.Clone(builtins) }

// String is the template as it was written.
func (t Template) String() string { return t.Text }

// Keys are the store keys that t names, sorted, each once.
func (t Template) Keys() []string {
	var keys []string
	for i := range t.Parts {
		if k := t.Parts[i].Key; k != "" {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Keys are the store keys that m requires, sorted, each once.
func (m *Manifest) Keys() []string {
	var keys []string
	for _, t := range m.Requires {
		keys = append(keys, t.Keys()...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// ParseTemplate reads text with placeholders. env is what ProvidesScope may
// name beside the built-ins. The error is Errors, without file and line.
func ParseTemplate(text string, scope Scope, env map[string]string) (Template, error) {
	t, flaws := parseTemplate(text, scope, env)
	if len(flaws) == 0 {
		return t, nil
	}
	var errs Errors
	for _, f := range flaws {
		errs = append(errs, &Error{Column: 1 + len([]rune(text[:f.off])), Text: f.text, Hint: f.hint})
	}
	return Template{}, errs
}

// flaw is an error at a byte of a template's text.
type flaw struct {
	off        int
	text, hint string
}

type templateParser struct {
	text  string
	scope Scope
	env   map[string]string
	lit   []byte // literal text not yet in parts
	parts []Part
	flaws []flaw
}

func parseTemplate(text string, scope Scope, env map[string]string) (Template, []flaw) {
	p := templateParser{text: text, scope: scope, env: env}
	for i := 0; i >= 0 && i < len(text); {
		switch {
		case strings.HasPrefix(text[i:], "{{"), strings.HasPrefix(text[i:], "}}"):
			p.lit = append(p.lit, text[i])
			i += 2
		case text[i] == '{':
			i = p.placeholder(i)
		case text[i] == '}':
			p.flaw(i, "} without {", "write }} for a literal brace")
			i++
		default:
			n := strings.IndexAny(text[i:], "{}")
			if n < 0 {
				n = len(text) - i
			}
			p.lit = append(p.lit, text[i:i+n]...)
			i += n
		}
	}
	p.flush()
	p.markBrackets()
	return Template{Text: text, Parts: p.parts}, p.flaws
}

func (p *templateParser) flaw(off int, text, hint string) {
	p.flaws = append(p.flaws, flaw{off, text, hint})
}

// flush makes one part of neighbouring literals.
func (p *templateParser) flush() {
	if len(p.lit) > 0 {
		p.parts = append(p.parts, Part{Literal: string(p.lit)})
		p.lit = p.lit[:0]
	}
}

// placeholder reads the one that opens at i and returns where to go on, -1 for
// nowhere. It ends at the first }: a default cannot hold braces, for in
// {{{KEY:-x}}} nobody could tell whose they are.
func (p *templateParser) placeholder(i int) int {
	body := p.text[i+1:]
	n := strings.IndexAny(body, "{}")
	if n < 0 {
		p.flaw(i, "{ without }", "write {{ for a literal brace")
		return -1
	}
	if body[n] == '{' {
		p.flaw(i+1+n, "{ inside a placeholder", "placeholders do not nest and defaults hold no braces; write {{ for a literal brace")
		return -1
	}
	body = body[:n]
	if part, ok := p.part(i, body); ok {
		p.flush()
		p.parts = append(p.parts, part)
	}
	return i + 1 + n + 1
}

func (p *templateParser) part(off int, body string) (Part, bool) {
	name := body
	if i := strings.IndexAny(body, "?[:"); i >= 0 {
		name = body[:i]
	}
	if strings.TrimSpace(body) == "" {
		p.flaw(off, "empty placeholder", "write {KEY}, or {{}} for literal braces")
		return Part{}, false
	}
	if b := builtin(name); b != "" {
		if name != body {
			p.flaw(off, "{"+body+"}: a built-in is one value and always there", "write {"+name+"}")
			return Part{}, false
		}
		return Part{Builtin: b}, true
	}
	if p.scope == ProvidesScope {
		return p.envPart(off, body)
	}
	return p.keyPart(off, body, name)
}

// builtin is the built-in's name in upper case, "" if name is none.
func builtin(name string) string {
	for _, b := range builtins {
		if name == b || name == strings.ToLower(b) {
			return b
		}
	}
	return ""
}

func (p *templateParser) envPart(off int, body string) (Part, bool) {
	if _, ok := p.env[body]; ok {
		return Part{EnvVar: body}, true
	}
	known := slices.Clone(builtins)
	for name := range p.env {
		known = append(known, name)
	}
	slices.Sort(known)
	hint := "add it to environment, or write one of {" + strings.Join(builtins, "} {") + "}"
	switch n := nearest(body, known); {
	case n != "":
		hint = "write {" + n + "}"
	case !variablePattern(body):
		hint = "write {NAME} only; {KEY?}, {KEY:-text} and lists belong in requires"
	}
	p.flaw(off, "{"+body+"} is neither built-in nor in environment", hint)
	return Part{}, false
}

func (p *templateParser) keyPart(off int, body, name string) (Part, bool) {
	var part Part
	part.Key = name
	if service, key, ok := strings.Cut(name, "/"); ok {
		if part.Service, part.Key = service, key; !idPattern(service) {
			p.flaw(off, "{"+body+"}: "+quote(service)+" is no service", "write {service/KEY} with a service of [a-z0-9][a-z0-9-]*")
			return Part{}, false
		}
	}
	if !keyPattern(part.Key) {
		p.flaw(off, "{"+body+"}: "+quote(part.Key)+" is no key", "write "+p.suggest(part))
		return Part{}, false
	}
	if text, hint := part.suffix(body[len(name):]); text != "" {
		p.flaw(off, "{"+body+"}: "+text, hint)
		return Part{}, false
	}
	return part, true
}

// suggest is the placeholder that was probably meant.
func (p *templateParser) suggest(part Part) string {
	if part.Service == "" {
		if n := nearest(part.Key, builtins); n != "" {
			return "{" + n + "}"
		}
	}
	up := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_", " ", "").Replace(part.Key))
	if !keyPattern(up) {
		return "a key of [A-Z][A-Z0-9_]*, such as {PRIMARY_DATABASE_URL}"
	}
	return Part{Service: part.Service, Key: up}.String()
}

// suffix reads what follows the key: [separator], then ? or :-default.
func (p *Part) suffix(s string) (text, hint string) {
	if list, ok := strings.CutPrefix(s, "["); ok {
		sep, rest, closed := strings.Cut(list, "]")
		if !closed {
			return "[ without ]", "write {" + p.Key + "[]} or {" + p.Key + "[;]}"
		}
		p.List, p.Sep, s = true, sep, rest
		if sep == "" {
			p.Sep = ","
		}
	}
	switch def, ok := strings.CutPrefix(s, ":-"); {
	case s == "":
	case s == "?":
		p.Optional = true
	case ok:
		p.Default, p.HasDefault = def, true
	case strings.HasPrefix(s, "?:-"):
		return "optional and with a default", "write " + Part{Key: p.Key, Default: s[3:], HasDefault: true}.String() + "; a default makes it optional"
	default:
		return "cannot read " + quote(s), "write {KEY}, {KEY?}, {KEY:-text}, {KEY[]} or {KEY[;]?}"
	}
	return "", ""
}

// markBrackets finds each HOST in the authority of a URL or before a port.
func (p *templateParser) markBrackets() {
	authority := false
	for i := range p.parts {
		part := &p.parts[i]
		if part.literal() {
			authority = opensAuthority(part.Literal, authority)
		}
		if part.Builtin == "HOST" {
			part.Bracket = authority || p.portFollows(i)
		}
	}
}

// opensAuthority reports whether the text after s is in a URL's authority,
// given whether the text before s was.
func opensAuthority(s string, before bool) bool {
	if i := strings.LastIndex(s, "://"); i >= 0 {
		s, before = s[i+3:], true
	}
	return before && !strings.ContainsAny(s, "/?# ,")
}

// portFollows: a colon and then a digit or another placeholder.
func (p *templateParser) portFollows(i int) bool {
	if i+1 >= len(p.parts) {
		return false
	}
	rest, ok := strings.CutPrefix(p.parts[i+1].Literal, ":")
	if rest == "" {
		return ok && i+2 < len(p.parts)
	}
	return ok && rest[0] >= '0' && rest[0] <= '9'
}
