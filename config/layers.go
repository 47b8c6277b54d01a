package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// loader puts layers onto cfg, lowest first, and collects what is wrong.
type loader struct {
	cfg  *Config
	base string // directory for relative paths of files
	errs Errors
	// only limits what is taken from files to names for which it is true; nil: all.
	only func(name string) bool
	// anyOwner takes files of any owner: those that a developer runs with dev.
	anyOwner bool
	skipHost bool // as in Options
}

func (l *loader) fail(o origin, name string, p *problem) {
	l.errs = append(l.errs, &Error{
		File: o.file, Line: o.line, Column: o.column, Name: name, Text: p.text, Hint: p.hint,
	})
}

// files reads the settings file and conf.d beside it.
func (l *loader) files(o Options) {
	path, named, from := o.Path, o.Path != "", ""
	if !named {
		if path = getenv(o.Environ, "LISTENER_CONFIG"); path != "" {
			named, from = true, "LISTENER_CONFIG names it"
		} else {
			path = cmp.Or(o.defaultPath, DefaultPath)
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		l.errs = append(l.errs, &Error{File: path, Text: "find the working directory: " + err.Error(), Err: err})
		return
	}
	l.base = filepath.Dir(abs)
	data, ferr := readFile(path, l.anyOwner)
	switch {
	case ferr == nil:
		l.file(path, data)
	case errors.Is(ferr, fs.ErrNotExist) && !named:
	default:
		if from != "" && ferr.Hint == "" {
			ferr.Hint = from
		}
		l.errs = append(l.errs, ferr)
		if errors.Is(ferr, fs.ErrNotExist) || errors.Is(ferr, syscall.ENOTDIR) {
			return // its conf.d is not there either
		}
	}
	l.confD(filepath.Join(filepath.Dir(path), "conf.d"))
}

func (l *loader) confD(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.errs = append(l.errs, fileError(dir, err))
		}
		return
	}
	for _, e := range entries { // sorted by name
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != ".toml" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, ferr := readFile(path, l.anyOwner)
		if ferr != nil {
			l.errs = append(l.errs, ferr)
			continue
		}
		l.file(path, data)
	}
}

// assignment is one setting of a file.
type assignment struct {
	field  field
	value  any
	origin origin
	key    string // of positions
}

// file puts one settings file onto the configuration.
func (l *loader) file(path string, data []byte) {
	src := stripBOM(string(data))
	tree, err := decode(path, src, false)
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	w := walker{path: path, found: positions(src), loader: l}
	w.walk(tree, "", "")
	slices.SortStableFunc(w.sets, func(a, b assignment) int {
		return cmp.Or(a.origin.line-b.origin.line, a.origin.column-b.origin.column)
	})
	slices.SortStableFunc(w.errs, func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column)
	})
	l.errs = append(l.errs, w.errs...)
	for _, a := range w.sets {
		if l.only != nil && !l.only(a.field.name) {
			continue
		}
		if a.field.typ == balancerType {
			l.balancers(a, func(path ...string) origin {
				return w.origin(a.key + "\x00" + pathKey(path...))
			}, false)
			continue
		}
		l.assign(a.field, a.value, a.origin, fileDir(l.base))
	}
}

// walker turns a decoded file into assignments.
type walker struct {
	path   string
	found  map[string]position
	loader *loader
	sets   []assignment
	errs   Errors
}

func (w *walker) origin(key string) origin {
	at := w.found[key]
	return origin{file: w.path, line: at.line, column: at.column}
}

func (w *walker) walk(tree map[string]any, prefix, keys string) {
	known := settings()
	for k, v := range tree {
		name, key := prefix+k, keys+k
		at := w.origin(key)
		f, isField := known.lookup(name)
		table, isMap := v.(map[string]any)
		switch {
		case strings.Contains(k, "."), !isField && !known.isTable(name):
			w.fail(at, name, unknown(known.nearest(name, true)))
		case isField:
			w.sets = append(w.sets, assignment{field: f, value: v, origin: at, key: key})
		case isMap:
			w.walk(table, name+".", key+"\x00")
		default:
			w.fail(at, name, &problem{"this is " + kindOf(v) + ", not a table", fmt.Sprintf("write [%s] on a line of its own and its settings below it", name)})
		}
	}
}

func (w *walker) fail(at origin, name string, p *problem) {
	w.errs = append(w.errs, &Error{File: at.file, Line: at.line, Column: at.column, Name: name, Text: p.text, Hint: p.hint})
}

func unknown(nearest string) *problem {
	return &problem{"unknown setting", "the nearest known one is " + nearest}
}

// assign sets one setting that is not a balancer.
func (l *loader) assign(f field, v any, o origin, dir baseDir) {
	if l.set(reflect.ValueOf(l.cfg).Elem().FieldByIndex(f.index), f, f.name, v, o, dir) {
		l.note(f.name, o)
	}
}

func (l *loader) note(name string, o origin) {
	if l.cfg.origins == nil {
		l.cfg.origins = map[string]origin{}
	}
	l.cfg.origins[name] = o
}

// set converts v, resolves its paths and puts it into target.
func (l *loader) set(target reflect.Value, f field, name string, v any, o origin, dir baseDir) bool {
	x, p := convert(f.typ, v)
	if p == nil {
		x, p = dir.resolve(f.path, x)
	}
	if p != nil {
		l.fail(o, name, p)
		return false
	}
	target.Set(reflect.ValueOf(x))
	return true
}

// balancers adds the tables of one file, or replaces all. at is where a part
// of the list stands.
func (l *loader) balancers(a assignment, at func(path ...string) origin, replace bool) {
	tables, ok := tableList(a.value)
	if !ok {
		l.fail(a.origin, balancerName, &problem{"this is " + kindOf(a.value) + ", not a list of tables", shape(balancerType)})
		return
	}
	if replace || len(tables) == 0 {
		l.cfg.Balancers = []Balancer{}
		maps.DeleteFunc(l.cfg.origins, func(name string, _ origin) bool { return strings.HasPrefix(name, balancerName+"[") })
	}
	l.note(balancerName, a.origin)
	dir := fileDir(l.base)
	if a.origin.line == 0 {
		dir = workDir
	}
	for i, table := range tables {
		name := fmt.Sprintf("%s[%d]", balancerName, len(l.cfg.Balancers))
		l.note(name, at(element(i)))
		b := l.balancer(table, name, dir, func(key string) origin { return at(element(i), key) })
		l.cfg.Balancers = append(l.cfg.Balancers, b)
	}
}

// balancer makes one balancer; name is that of its table.
func (l *loader) balancer(table map[string]any, name string, dir baseDir, at func(key string) origin) Balancer {
	b := defaultBalancer()
	if engine, ok := table["engine"].(string); ok && engine != engineHAProxy {
		b.Path, b.Check, b.Reload = "", []string{}, []string{}
	}
	known := balancerSettings()
	keys := slices.SortedFunc(maps.Keys(table), func(x, y string) int {
		return cmp.Or(at(x).line-at(y).line, at(x).column-at(y).column, strings.Compare(x, y))
	})
	for _, key := range keys {
		o := at(key)
		f, ok := known.lookup(key)
		if !ok {
			l.fail(o, name+"."+key, unknown(balancerName+"."+known.nearest(key, false)))
			continue
		}
		if l.set(reflect.ValueOf(&b).Elem().FieldByIndex(f.index), f, name+"."+key, table[key], o, dir) {
			l.note(name+"."+key, o)
		}
	}
	return b
}

func tableList(v any) ([]map[string]any, bool) {
	switch v := v.(type) {
	case []map[string]any:
		return v, true
	case []any:
		tables := make([]map[string]any, 0, len(v))
		for _, x := range v {
			t, ok := x.(map[string]any)
			if !ok {
				return nil, false
			}
			tables = append(tables, t)
		}
		return tables, true
	}
	return nil, false
}
