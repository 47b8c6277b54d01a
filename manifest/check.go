package manifest

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// checkFields are the members of check; exactly one is there.
var checkFields = []field{
	{"http", `"`, `"http://127.0.0.1:{PORT}/health"`, (*parser).checkHTTP},
	{"tcp", `"`, `"127.0.0.1:{PORT}"`, (*parser).checkTCP},
	{"exec", `"[`, `["/usr/local/bin/check", "{PORT}"] or "a shell command"`, (*parser).checkExec},
}

func (p *parser) check(v *value) {
	p.m.Check = &Check{}
	known := 0
	for _, m := range v.members {
		f, ok := checkField(m.name)
		if !ok {
			p.add(m.start, m.value.pointer(), fmt.Sprintf("unknown check %q", m.name), "write http, tcp or exec")
			continue
		}
		known++
		if p.is(m.value, f.kinds, "write "+f.write) {
			f.parse(p, m.value)
		}
	}
	switch {
	case known > 1:
		p.wrong(v, "more than one check", "write one of http, tcp and exec")
	case len(v.members) == 0:
		p.wrong(v, "an empty check", `write {"http": "http://127.0.0.1:{PORT}/health"}, or leave it out`)
	}
}

func checkField(name string) (field, bool) {
	for _, f := range checkFields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func (p *parser) checkHTTP(v *value) {
	t, ok := p.template(v, ProvidesScope)
	p.m.Check.HTTP = &t
	if !ok {
		return
	}
	u, err := url.Parse(p.sample(t))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		p.wrong(v, "not an address for http", `write "http://127.0.0.1:{PORT}/health"`)
	}
}

func (p *parser) checkTCP(v *value) {
	t, ok := p.template(v, ProvidesScope)
	p.m.Check.TCP = &t
	if !ok {
		return
	}
	host, port, err := net.SplitHostPort(p.sample(t))
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil || host == "" || n < 1 || n > 65535 {
		p.wrong(v, "not host:port", `write "127.0.0.1:{PORT}"`)
	}
}

func (p *parser) checkExec(v *value) {
	var argv []Template
	if v.kind == '"' {
		if !p.filled(v, "write a shell command") {
			return
		}
		t, _ := p.template(v, ProvidesScope)
		argv = []Template{{Text: "/bin/sh", Parts: []Part{{Literal: "/bin/sh"}}}, {Text: "-c", Parts: []Part{{Literal: "-c"}}}, t}
	} else {
		p.argv(v)
		for _, e := range v.elems {
			if e.kind == '"' {
				t, _ := p.template(e, ProvidesScope)
				argv = append(argv, t)
			}
		}
	}
	p.m.Check.Exec = argv
}

// sample expands t as the node would, with stand-ins for what only it knows.
func (p *parser) sample(t Template) string {
	text, _, _ := t.Expand(func(part Part) (string, bool) {
		switch {
		case part.EnvVar != "":
			return p.m.Environment[part.EnvVar], true
		case part.Builtin == "HOST":
			return "10.0.0.1", true
		case part.Builtin == "PORT":
			return cmp.Or(p.m.Port(), standIn), true
		}
		return strings.ToLower(part.Builtin), true
	})
	return text
}
