package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// The variables that the command line reads. Load looks at ConfigVariable and
// StoreVariable; any other LISTENER_* variable but LISTENER_CFG_* is ignored.
const (
	ConfigVariable = "LISTENER_CONFIG"
	SocketVariable = "LISTENER_SOCKET"
	StoreVariable  = "LISTENER_STORE"

	settingVariables = "LISTENER_CFG_"
)

// Variable is the environment variable of a setting: LISTENER_CFG_STORE__KIND
// for store.kind.
func Variable(name string) string {
	return settingVariables + strings.ToUpper(strings.ReplaceAll(name, ".", "__"))
}

// getenv is the last value of a variable; empty when there is none.
func getenv(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// environ puts the variables onto the configuration, sorted by name.
func (l *loader) environ(environ []string) {
	vars := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, settingVariables) {
			vars[k] = v
		}
	}
	known := settings()
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		o := origin{file: "environment " + k}
		name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(k, settingVariables), "__", "."))
		_, ok := known.lookup(name)
		switch {
		case ok && k == Variable(name):
			l.text(name, vars[k], o)
		case known.isTable(name):
			l.fail(o, name, &problem{"this is a table, not a setting", "name one of its settings, such as " + Variable(known.firstOf(name))})
		default:
			l.fail(o, name, unknown(Variable(known.nearest(name, false))))
		}
	}
	if url := getenv(environ, StoreVariable); url != "" {
		l.storeURL(url, origin{file: "environment " + StoreVariable})
	}
}

// firstOf is the first setting of a table.
func (s *schema) firstOf(table string) string {
	for _, f := range s.fields {
		if strings.HasPrefix(f.name, table+".") {
			return f.name
		}
	}
	return table
}

// flags puts flags onto the configuration: a store URL first, so that a flag
// for one setting of the store counts beside it.
func (l *loader) flags(flags map[string]string) {
	if url, ok := flags["store"]; ok {
		l.storeURL(url, origin{file: "flag --store"})
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		o := origin{file: "flag --" + name}
		switch name {
		case "store":
		case "socket":
			l.text("api.socket", flags[name], o)
		default:
			l.text(name, flags[name], o)
		}
	}
}

// text sets one setting from text.
func (l *loader) text(name, text string, o origin) {
	known := settings()
	f, ok := known.lookup(name)
	if !ok {
		l.fail(o, name, unknown(known.nearest(name, false)))
		return
	}
	v, p := fromText(f.typ, text)
	if p != nil {
		l.fail(o, name, p)
		return
	}
	if f.typ == balancerType {
		l.balancers(assignment{field: f, value: v, origin: o}, func(...string) origin { return o }, true)
		return
	}
	l.assign(f, v, o, workDir)
}

// storeURL does for a store URL what [store] does.
func (l *loader) storeURL(url string, o origin) {
	s, err := ParseStoreURL(url)
	if err != nil {
		e := *err.(*Error) //nolint:errorlint // it is what ParseStoreURL makes, never wrapped
		e.File = o.file
		l.errs = append(l.errs, &e)
		return
	}
	to := &l.cfg.Store
	to.Kind = s.Kind
	l.note("store.kind", o)
	switch s.Kind {
	case kindLocal:
		to.Path = s.Path
		l.note("store.path", o)
	case kindEtcd:
		to.Etcd.Endpoints = s.Etcd.Endpoints
		l.note("store.etcd.endpoints", o)
	case kindNATS:
		to.NATS.Servers = s.NATS.Servers
		l.note("store.nats.servers", o)
	}
}

// baseDir makes relative paths absolute.
type baseDir func(path string) (string, error)

// workDir is the base of variables and flags.
var workDir baseDir = filepath.Abs

// fileDir is the base of settings files in dir.
func fileDir(dir string) baseDir {
	return func(path string) (string, error) {
		if filepath.IsAbs(path) {
			return filepath.Clean(path), nil
		}
		return filepath.Join(dir, path), nil
	}
}

// resolve makes the paths of a setting absolute, as its `path` tag says.
// Empty texts stay empty.
func (b baseDir) resolve(tag string, v any) (any, *problem) {
	abs := func(path string) (string, *problem) {
		if path == "" {
			return "", nil
		}
		p, err := b(credential(path))
		if err != nil {
			return "", &problem{fmt.Sprintf("find the directory that %q is relative to: %v", path, err), "write an absolute path"}
		}
		return p, nil
	}
	switch tag {
	case "text":
		return abs(v.(string))
	case "engine":
		if v == engineHAProxy {
			return v, nil
		}
		return abs(v.(string))
	case "list":
		list := v.([]string)
		for i := range list {
			p, bad := abs(list[i])
			if bad != nil {
				return nil, bad
			}
			list[i] = p
		}
	case "argv":
		if argv := v.([]string); len(argv) > 0 && strings.Contains(argv[0], "/") {
			p, bad := abs(argv[0])
			if bad != nil {
				return nil, bad
			}
			argv[0] = p
		}
	}
	return v, nil
}
