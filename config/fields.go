package config

import (
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// field is one setting as the struct of its table declares it.
type field struct {
	name  string // dotted, such as store.etcd.endpoints
	index []int  // for reflect.Value.FieldByIndex
	typ   reflect.Type
	path  string // the tag that says which of its texts are paths
	shown string // the default in the documentation, where it depends on the machine
}

// schema is what names there are, in the order of the structs.
type schema struct {
	fields []field
	byName map[string]int // index in fields
	tables []string       // dotted names of tables
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	modeType     = reflect.TypeFor[fs.FileMode]()
	sizeType     = reflect.TypeFor[int64]()
	textType     = reflect.TypeFor[string]()
	listType     = reflect.TypeFor[[]string]()
	numberType   = reflect.TypeFor[int]()
	numbersType  = reflect.TypeFor[[]int]()
	balancerType = reflect.TypeFor[[]Balancer]()

	// Made at first use: nothing of this runs when the program starts.
	settings         = sync.OnceValue(func() *schema { return newSchema(reflect.TypeFor[Config]()) })
	balancerSettings = sync.OnceValue(func() *schema { return newSchema(reflect.TypeFor[Balancer]()) })
)

const balancerName = "balancer"

func newSchema(t reflect.Type) *schema {
	s := &schema{byName: map[string]int{}}
	s.add(t, "", nil)
	for i, f := range s.fields {
		s.byName[f.name] = i
	}
	return s
}

func (s *schema) add(t reflect.Type, prefix string, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name := prefix + f.Tag.Get("toml")
		at := append(slices.Clone(index), i)
		if f.Type.Kind() == reflect.Struct {
			s.tables = append(s.tables, name)
			s.add(f.Type, name+".", at)
			continue
		}
		s.fields = append(s.fields, field{
			name: name, index: at, typ: f.Type,
			path: f.Tag.Get("path"), shown: f.Tag.Get("default"),
		})
	}
}

func (s *schema) lookup(name string) (field, bool) {
	i, ok := s.byName[name]
	if !ok {
		return field{}, false
	}
	return s.fields[i], true
}

func (s *schema) isTable(name string) bool { return slices.Contains(s.tables, name) }

// nearest is the known name that name was most likely meant to be. A setting
// of that very name in another table counts as one letter off.
func (s *schema) nearest(name string, tables bool) string {
	name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	last := name[strings.LastIndexByte(name, '.')+1:]
	best, least := "", -1
	consider := func(known string) {
		d := distance(name, known)
		if d > 1 && last == known[strings.LastIndexByte(known, '.')+1:] {
			d = 1
		}
		if least < 0 || d < least {
			best, least = known, d
		}
	}
	for _, f := range s.fields {
		consider(f.name)
	}
	if tables {
		for _, t := range s.tables {
			consider(t)
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with their
// neighbour to make b of a (optimal string alignment). It looks at the first
// 64 bytes, more than any name has.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	var before, last, row [65]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// typeName is the word of the documentation for a setting's type.
func typeName(t reflect.Type) string {
	switch t {
	case textType:
		return "text"
	case listType:
		return "list of texts"
	case numberType:
		return "number"
	case numbersType:
		return "list of numbers"
	case durationType:
		return "duration"
	case sizeType:
		return "size"
	case modeType:
		return "mode"
	default:
		return "list of tables"
	}
}

// shape says how to write a value of the type.
func shape(t reflect.Type) string {
	switch t {
	case textType:
		return `write a text in quotes`
	case listType:
		return `write a list of texts, such as ["a", "b"]`
	case numberType:
		return `write a whole number, such as 6`
	case numbersType:
		return `write a list of whole numbers, such as [0, 2]`
	case durationType:
		return `write a duration with its unit, such as "500ms", "10s", "5m" or "1h30m"`
	case sizeType:
		return `write a size with its unit, such as "100MB" or "64MiB"`
	case modeType:
		return `write an octal mode in quotes, such as "0640"`
	default:
		return `write one [[balancer]] table for each`
	}
}
