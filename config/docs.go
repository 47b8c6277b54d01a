package config

import (
	_ "embed" // docs.txt
	"reflect"
	"strings"
)

// docsText is made from the comments of settings.go by `go test ./config -update`:
// a line for each table and setting, its name, a tab and its text.
//
//go:embed docs.txt
var docsText string

// Doc is the documentation of one setting or table.
type Doc struct {
	// Name such as store.kind; settings of balancers are balancer.NAME.
	Name string
	// Type is text, number, duration, size, mode, list of texts, list of
	// numbers, table or list of tables.
	Type string
	// Default as a settings file would have it, or words where it depends on
	// the machine; empty for tables.
	Default string
	// Text says what it is for: unit, range, what empty or zero means.
	Text string
}

// Docs is the documentation of all settings in their order, each table before
// its settings.
func Docs() []Doc { return parseDocs(docsText) }

func parseDocs(text string) []Doc {
	var docs []Doc
	for line := range strings.Lines(text) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		d := Doc{Name: name, Type: "table", Text: text}
		if f, v, ok := defaultOf(name); ok {
			d.Type, d.Default = typeName(f.typ), f.shown
			if f.shown == "" && f.typ != balancerType {
				d.Default = literal(v.FieldByIndex(f.index).Interface())
			}
		}
		docs = append(docs, d)
	}
	return docs
}

// defaultOf finds a setting and the defaults that it is a field of.
func defaultOf(name string) (field, reflect.Value, bool) {
	if in, ok := strings.CutPrefix(name, balancerName+"."); ok {
		f, ok := balancerSettings().lookup(in)
		return f, reflect.ValueOf(defaultBalancer()), ok
	}
	f, ok := settings().lookup(name)
	return f, reflect.ValueOf(Default()).Elem(), ok
}
