package config

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func seeds(f *testing.F) {
	f.Helper()
	for _, s := range []string{
		"", "node = 'a'", "[store]\nkind = \"etcd\"\n[store.etcd]\nendpoints = [ # x\n'h', \"\"\"i\"\"\" ]",
		"[[balancer]]\nkind = 'local'\n[[balancer]]\npath = '/x' # y", "balancer = [{path = '/a', check = []},\n{path='/b'}]",
		"a.b.'c d'.\"e\\u0041\" = {x = 1, y = [[1, 2], {z = 2026-01-01 07:00:00}]}", "x = '''\n'''''\ny = \"\"\"\\\"\"\"\"\"\"",
		"[[a.b]]\n[a.b.c]\nd = 1\n[[a.b]]\n[[a.b.e]]\nf = 1", "throttle.settle = 0\r\nhistory.max_size = '1kB'\r\n", "\xef\xbb\xbfnode = 'x'",
	} {
		f.Add([]byte(s))
	}
}

// FuzzLoad: no file makes Load panic; a file is refused with a place and a
// text, or its settings survive being printed and read again.
func FuzzLoad(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := loadBytes(data)
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("%#v is no Errors", err)
			}
			for _, e := range all {
				if e.Text == "" || e.Line == 0 || strings.ContainsFunc(e.Error(), isControl) {
					t.Fatalf("not a good error: %#v", e)
				}
			}
			return
		}
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		again, err := loadBytes(b.Bytes())
		if err != nil {
			t.Fatalf("printed settings are refused: %v\n%s", err, b.String())
		}
		if diff := Diff(c, again); diff != nil {
			t.Fatalf("printed settings differ in %v\n%s", diff, b.String())
		}
	})
}

func loadBytes(data []byte) (*Config, error) {
	l := &loader{cfg: Default(), base: "/etc/listener"}
	l.cfg.Host = "10.0.0.5" // finding one takes a system call
	l.file("l.toml", data)
	return l.finish()
}

// FuzzPositions: the scanner finds the keys that the TOML library finds.
func FuzzPositions(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		src := stripBOM(string(data))
		var tree map[string]any
		md, err := toml.Decode(src, &tree)
		found := positions(src) // valid or not, it must end
		if err != nil || strings.ContainsAny(src, `\`) {
			return // keys with escapes keep them
		}
		lines := strings.Split(src, "\n")
		have := map[string]bool{}
		for key, at := range found {
			if at.line < 1 || at.line > len(lines) || at.column < 1 || at.column > len(lines[at.line-1])+1 {
				t.Fatalf("%q is at %d:%d", key, at.line, at.column)
			}
			parts := slices.DeleteFunc(strings.Split(key, "\x00"), func(part string) bool { return strings.HasPrefix(part, "[") })
			have[pathKey(parts...)] = true
		}
		for _, key := range md.Keys() {
			if strings.ContainsAny(strings.Join(key, ""), "[\x00") {
				continue
			}
			if !have[pathKey(key...)] {
				t.Fatalf("%q is not found in %q: %v", key, src, found)
			}
		}
	})
}

// FuzzAttributes: no panic, places in errors, only good keys and values.
func FuzzAttributes(f *testing.F) {
	seeds(f)
	f.Add([]byte("A = 1\n[regions.eu]\nB = 'x'"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, errs := ParseAttributes("a.toml", data)
		for _, e := range errs {
			if e.Text == "" || e.Line == 0 {
				t.Fatalf("not a good error: %#v", e)
			}
		}
		for k, v := range a.General {
			if !isKey(k) || strings.ContainsAny(v, "\n\x00") {
				t.Fatalf("%q = %q", k, v)
			}
		}
	})
}

// FuzzText: no variable or flag makes Load panic.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a,b", `["a"]`, `[{"kind": "local"}]`, "[1e400]", "10s", "1GB", "0640", "[[]]", "[{}]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, field := range settings().fields {
			l := &loader{cfg: Default(), base: "/"}
			l.cfg.Host = "10.0.0.5"
			l.text(field.name, s, origin{file: "flag"})
			if _, err := l.finish(); err != nil && !errors.As(err, new(Errors)) {
				t.Fatalf("%s: %#v", field.name, err)
			}
		}
	})
}
