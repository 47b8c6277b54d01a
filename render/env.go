// Package render turns what was resolved into this node's files: environment
// files in three formats and node.json. It stages all files of a run, checks
// them, and swaps them in only then.
package render

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The formats of an environment file.
const (
	Shell   = "shell"   // export K='v', for sh and its kin to source; ID.conf
	Systemd = "systemd" // K="v", for EnvironmentFile=; ID.env
	JSON    = "json"    // one object; ID.json
)

// Var is one variable of a service's environment.
type Var struct{ Name, Value string }

// VarError says that a variable cannot be written. It never holds the value.
type VarError struct {
	Name string
	Text string // what is wrong
}

func (e *VarError) Error() string { return fmt.Sprintf("variable %q: %s", e.Name, e.Text) }

// Env renders vars, sorted by name, in one of the formats. Each format gives
// every value back byte for byte, newlines included. Refused with a *VarError:
// a name that is not [A-Za-z_][A-Za-z0-9_]*, a name given twice, NUL in any
// format, and what the format itself cannot hold (see appendSystemd, appendJSON).
func Env(format string, vars []Var) ([]byte, error) {
	var appendVars func([]byte, []Var) ([]byte, error)
	switch format {
	case Shell:
		appendVars = appendShell
	case Systemd:
		appendVars = appendSystemd
	case JSON:
		appendVars = appendJSON
	default:
		return nil, fmt.Errorf("unknown format %q of an environment file (shell, systemd, json)", format)
	}
	sorted, err := sortVars(vars)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, v := range sorted {
		size += len(v.Name) + len(v.Value) + len("export =''\n")
	}
	return appendVars(make([]byte, 0, size+8), sorted)
}

// EnvPath is where the environment file of service id lies; "" for an unknown format.
func EnvPath(dir, id, format string) string {
	for _, s := range suffixes {
		if s.format == format {
			return filepath.Join(dir, id+s.ending)
		}
	}
	return ""
}

// FormatOf is the format of a path that EnvPath made; "" for any other path.
func FormatOf(path string) string {
	for _, s := range suffixes {
		if filepath.Ext(path) == s.ending {
			return s.format
		}
	}
	return ""
}

var suffixes = [...]struct{ format, ending string }{{Shell, ".conf"}, {Systemd, ".env"}, {JSON, ".json"}}

// sortVars returns a sorted copy and refuses what no format can hold.
func sortVars(vars []Var) ([]Var, error) {
	sorted := slices.Clone(vars)
	slices.SortFunc(sorted, func(a, b Var) int { return cmp.Compare(a.Name, b.Name) })
	for i, v := range sorted {
		switch {
		case !validName(v.Name):
			return nil, &VarError{v.Name, "the name is not of the form [A-Za-z_][A-Za-z0-9_]*"}
		case i > 0 && sorted[i-1].Name == v.Name:
			return nil, &VarError{v.Name, "is given twice"}
		case strings.IndexByte(v.Value, 0) >= 0:
			return nil, &VarError{v.Name, "the value contains a NUL byte, which no environment can hold"}
		}
	}
	return sorted, nil
}

// validName accepts the portable names of POSIX (Base Definitions 8.1), either
// case. Anything else would be code to a shell.
func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// appendShell quotes with single quotes, inside which a shell knows no special
// character but the quote itself.
func appendShell(b []byte, vars []Var) ([]byte, error) {
	for _, v := range vars {
		b = append(append(append(b, "export "...), v.Name...), "='"...)
		rest := v.Value
		for {
			before, after, found := strings.Cut(rest, "'")
			b = append(b, before...)
			if !found {
				break
			}
			b = append(b, `'\''`...)
			rest = after
		}
		b = append(b, "'\n"...)
	}
	return b, nil
}

// appendSystemd quotes as systemd.exec(5) describes for EnvironmentFile=: inside
// double quotes a backslash takes the special meaning from " \ ` and $ and
// stays as it is before any other character, no expansion takes place and lines may
// break. systemd drops the whole file for text that is not UTF-8, or that
// has noncharacters or a byte order mark, so these are refused here.
func appendSystemd(b []byte, vars []Var) ([]byte, error) {
	for _, v := range vars {
		if !Text(v.Value) {
			return nil, &VarError{v.Name, "the value is not text that systemd accepts (UTF-8 without noncharacters and byte order mark)"}
		}
		b = append(append(b, v.Name...), `="`...)
		for _, c := range []byte(v.Value) {
			if strings.IndexByte("\"\\`$", c) >= 0 {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, "\"\n"...)
	}
	return b, nil
}

// Text reports whether every format can hold s: UTF-8 without byte order
// marks and noncharacters, which systemd.exec(5) refuses.
func Text(s string) bool {
	for _, r := range s {
		// U+FFFE and U+FFFF of each plane, and U+FDD0 to U+FDEF.
		if r == '\ufeff' || r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef {
			return false
		}
	}
	return utf8.ValidString(s)
}

// appendJSON writes one object, one member a line. JSON is UTF-8: other text is refused.
func appendJSON(b []byte, vars []Var) ([]byte, error) {
	b = append(b, '{')
	for i, v := range vars {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, "\n  \""...), v.Name...), "\": "...)
		var err error
		if b, err = jsontext.AppendQuote(b, v.Value); err != nil {
			return nil, &VarError{v.Name, "the value is not UTF-8, which JSON requires"}
		}
	}
	if len(vars) > 0 {
		b = append(b, '\n')
	}
	return append(b, "}\n"...), nil
}
