package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// NodeDoc is what a run's steps learn from node.json.
type NodeDoc struct {
	RunID      string
	Datastores map[string]string // store key → value
	Services   []NodeService     // in any order
}

// NodeService is one service in node.json.
type NodeService struct {
	ID          string
	RunList     []string // nil for a service that the node step does not provision
	Environment []Var    // in any order
	// Extra are members of the manifest that mean nothing to us, as raw JSON;
	// they stand beside "environment".
	Extra map[string][]byte
}

// NodeJSON renders node.json, the same bytes for the same content:
//
//	{"run_list": […], "configuration": {"datastores": {KEY: value}},
//	 "listener": {"run_id": …, "services": {ID: {"environment": {…}, EXTRA: …}}}}
//
// run_list is that of all services in the order of their ids; of duplicates
// the first stays. It refuses what JSON cannot hold (text that is not UTF-8), an
// id given twice, an Extra that is not JSON or called "environment", and what Env refuses.
func NodeJSON(d NodeDoc) ([]byte, error) {
	services := slices.Clone(d.Services)
	slices.SortFunc(services, func(a, b NodeService) int { return cmp.Compare(a.ID, b.ID) })
	w := jsonWriter{b: make([]byte, 0, 1024*(1+len(services)))}
	w.raw(`{"run_list": [`)
	for i, item := range runList(services) {
		w.comma(i, ", ")
		w.text(item, "run list item")
	}
	w.raw("],\n \"configuration\": {\"datastores\": {")
	keys := slices.AppendSeq(make([]string, 0, len(d.Datastores)), maps.Keys(d.Datastores))
	slices.Sort(keys)
	for i, key := range keys {
		w.comma(i, ",")
		w.raw("\n  ")
		w.member(key, d.Datastores[key], "datastore ", key)
	}
	w.raw("}},\n \"listener\": {")
	w.member("run_id", d.RunID, "run id")
	w.raw(", \"services\": {")
	for i, s := range services {
		w.comma(i, ",")
		if i > 0 && services[i-1].ID == s.ID {
			return nil, fmt.Errorf("render node.json: service %s is given twice", s.ID)
		}
		w.raw("\n  ")
		w.service(s)
	}
	w.raw("}}}\n")
	if w.err != nil {
		return nil, fmt.Errorf("render node.json: %w", w.err)
	}
	return w.b, nil
}

// runList joins the run lists; of duplicates the first stays.
func runList(services []NodeService) []string {
	var list []string
	seen := make(map[string]bool)
	for _, s := range services {
		for _, item := range s.RunList {
			if !seen[item] {
				seen[item] = true
				list = append(list, item)
			}
		}
	}
	return list
}

// jsonWriter appends JSON and keeps the first error.
type jsonWriter struct {
	b   []byte
	err error
}

func (w *jsonWriter) raw(s string) { w.b = append(w.b, s...) }

func (w *jsonWriter) comma(i int, text string) {
	if i > 0 {
		w.raw(text)
	}
}

// text writes a string; what, joined, names it in an error, which never holds the string.
func (w *jsonWriter) text(s string, what ...string) {
	b, err := jsontext.AppendQuote(w.b, s)
	if err != nil {
		w.fail(fmt.Errorf("%s: not UTF-8, which JSON requires", strings.Join(what, "")))
		return
	}
	w.b = b
}

func (w *jsonWriter) member(name, value string, what ...string) {
	w.text(name, what...)
	w.raw(": ")
	w.text(value, what...)
}

func (w *jsonWriter) service(s NodeService) {
	vars, err := sortVars(s.Environment)
	if err != nil {
		w.fail(fmt.Errorf("service %s: %w", s.ID, err))
		return
	}
	w.text(s.ID, "service id")
	w.raw(`: {"environment": {`)
	for i, v := range vars {
		w.comma(i, ", ")
		w.member(v.Name, v.Value, "service ", s.ID, ": variable ", v.Name)
	}
	w.raw("}")
	for _, name := range slices.Sorted(maps.Keys(s.Extra)) {
		what := fmt.Sprintf("service %s: member %q", s.ID, name)
		value := jsontext.Value(slices.Clone(s.Extra[name]))
		if name == "environment" {
			w.fail(fmt.Errorf("%s: the name is taken", what))
		}
		if err := value.Compact(); err != nil {
			w.fail(fmt.Errorf("%s: not JSON: %w", what, err))
		}
		w.raw(", ")
		w.text(name, what)
		w.raw(": ")
		w.b = append(w.b, value...)
	}
	w.raw("}")
}

func (w *jsonWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
