package balancer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// Limits of what a template may do. What it gets from providers comes from
// other nodes, so a template that was fine yesterday can grow today.
const (
	MaxTemplate = 1 << 20          // bytes of the template file
	MaxOutput   = 16 << 20         // bytes that it writes, or that one function returns
	MaxTime     = 10 * time.Second // of one Render
)

// Template renders plans for a balancer that is not HAProxy: Go's text/template,
// with a *Plan as its dot and the functions of docs/balancers.md. It reaches
// neither files nor the environment. It may be used by several goroutines.
type Template struct {
	name string
	tmpl *template.Template
}

// NewTemplate reads a template; name is the path that errors begin with, as
// name:line.
func NewTemplate(name, text string) (*Template, error) {
	if len(text) > MaxTemplate {
		return nil, fmt.Errorf("%s: the template has %d bytes, more than %d", name, len(text), MaxTemplate)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(funcMap()).Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	tick, err := template.New("tick").Funcs(funcMap()).Parse("{{tick}}")
	if err != nil {
		return nil, err
	}
	calls := map[string]calling{}
	for _, one := range t.Templates() {
		if one.Tree == nil {
			continue
		}
		if err := checkCalls(t, one.Name(), calls); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		count(one.Root, tick.Root.Nodes[0])
	}
	return &Template{name, t}, nil
}

// checkCalls refuses templates that call themselves: nothing ends them but the
// stack.
func checkCalls(t *template.Template, name string, seen map[string]calling) error {
	one := t.Lookup(name)
	switch {
	case one == nil || one.Tree == nil: // told when it is executed
		return nil
	case seen[name] == open:
		return fmt.Errorf("template %q calls itself", name)
	case seen[name] == done:
		return nil
	}
	seen[name] = open
	var err error
	walk(one.Root, func(n parse.Node) {
		if call, ok := n.(*parse.TemplateNode); ok && err == nil {
			err = checkCalls(t, call.Name, seen)
		}
	})
	seen[name] = done
	return err
}

// calling is how far the search for templates that call themselves is with one.
type calling int

const (
	_    calling = iota
	open         // one that it calls is being looked at
	done
)

// count makes each round of a loop, and each template that is called, look
// at the time: one that writes nothing would else go on for ever.
func count(root *parse.ListNode, tick parse.Node) {
	walk(root, func(n parse.Node) {
		if r, ok := n.(*parse.RangeNode); ok {
			r.List.Nodes = append([]parse.Node{tick.Copy()}, r.List.Nodes...)
		}
	})
	root.Nodes = append([]parse.Node{tick.Copy()}, root.Nodes...)
}

// walk visits the nodes below a list that can hold others or call templates.
func walk(list *parse.ListNode, visit func(parse.Node)) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		visit(n)
		switch n := n.(type) {
		case *parse.RangeNode:
			walk(n.List, visit)
			walk(n.ElseList, visit)
		case *parse.IfNode:
			walk(n.List, visit)
			walk(n.ElseList, visit)
		case *parse.WithNode:
			walk(n.List, visit)
			walk(n.ElseList, visit)
		}
	}
}

// Render writes the file for a plan. It ends with parent, after MaxTime, and when
// the output gets longer than MaxOutput; errors are name:line: what.
func (t *Template) Render(parent context.Context, p *Plan) ([]byte, error) {
	ctx, cancel := context.WithTimeout(parent, MaxTime)
	defer cancel()
	tick := func() (string, error) {
		if err := ctx.Err(); err != nil {
			return "", &stopError{err}
		}
		return "", nil
	}
	tmpl, err := t.tmpl.Clone()
	if err != nil {
		return nil, templateError(err)
	}
	out := &limited{tick: tick}
	err = tmpl.Funcs(template.FuncMap{"tick": tick}).Execute(out, p)
	var stop *stopError
	switch {
	case errors.As(err, &stop) && parent.Err() == nil:
		return nil, fmt.Errorf("%s: the template takes longer than %v", t.name, MaxTime)
	case errors.As(err, &stop):
		return nil, fmt.Errorf("%s: %w", t.name, stop.err)
	case errors.Is(err, errLong):
		return nil, fmt.Errorf("%s: the template writes more than %d bytes", t.name, MaxOutput)
	case err != nil:
		return nil, templateError(err)
	}
	return out.buf.Bytes(), nil
}

// stopError ends an execution that takes too long or is not wanted any more.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

var errLong = fmt.Errorf("more than %d bytes", MaxOutput)

// limited keeps what is written, up to MaxOutput and for as long as it may.
type limited struct {
	buf  bytes.Buffer
	tick func() (string, error)
}

func (l *limited) Write(b []byte) (int, error) {
	if _, err := l.tick(); err != nil {
		return 0, err
	}
	if l.buf.Len()+len(b) > MaxOutput {
		return 0, errLong
	}
	return l.buf.Write(b)
}

// templateError is what text/template says without the word in front of the
// file.
func templateError(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "template: "))
}

// funcMap is what templates may call: the documented functions, and tick,
// which Render replaces.
func funcMap() template.FuncMap {
	m := template.FuncMap{"tick": func() string { return "" }}
	for _, f := range functions() {
		m[f.Name] = f.call
	}
	maps.Copy(m, bounded())
	return m
}
