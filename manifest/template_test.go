package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// env is what templates of ProvidesScope may name in these tests.
var env = map[string]string{"ENV": "production", "mount": "/m", "HOST": "never: the built-in wins"}

func TestParseTemplate(t *testing.T) {
	key := func(k string, change func(*Part)) Part {
		p := Part{Key: k}
		if change != nil {
			change(&p)
		}
		return p
	}
	lit := func(s string) Part { return Part{Literal: s} }
	for _, c := range []struct {
		text  string
		scope Scope
		want  []Part
	}{
		{"", RequiresScope, nil},
		{"plain", RequiresScope, []Part{lit("plain")}},
		{"{{a}}{{", RequiresScope, []Part{lit("{a}{")}},
		{"{KEY}", RequiresScope, []Part{key("KEY", nil)}},
		{"a{K1_}b", RequiresScope, []Part{lit("a"), key("K1_", nil), lit("b")}},
		{"{{{KEY}}}", RequiresScope, []Part{lit("{"), key("KEY", nil), lit("}")}},
		{"{KEY?}", RequiresScope, []Part{key("KEY", func(p *Part) { p.Optional = true })}},
		{"{KEY:-a b?[]/:-}", RequiresScope, []Part{key("KEY", func(p *Part) { p.Default, p.HasDefault = "a b?[]/:-", true })}},
		{"{KEY:-}", RequiresScope, []Part{key("KEY", func(p *Part) { p.HasDefault = true })}},
		{"{KEY[]}", RequiresScope, []Part{key("KEY", func(p *Part) { p.List, p.Sep = true, "," })}},
		{"{KEY[, ]?}", RequiresScope, []Part{key("KEY", func(p *Part) { p.List, p.Sep, p.Optional = true, ", ", true })}},
		{"{KEY[:-?]:-x}", RequiresScope, []Part{key("KEY", func(p *Part) { p.List, p.Sep, p.Default, p.HasDefault = true, ":-?", "x", true })}},
		{"{a-1/KEY}", RequiresScope, []Part{key("KEY", func(p *Part) { p.Service = "a-1" })}},
		{"{a/KEY[;]?}", RequiresScope, []Part{key("KEY", func(p *Part) { p.Service, p.List, p.Sep, p.Optional = "a", true, ";", true })}},
		{"{a/HOST}", RequiresScope, []Part{key("HOST", func(p *Part) { p.Service = "a" })}},
		{"{ENV}", RequiresScope, []Part{key("ENV", nil)}},
		{"{ENV}{mount}", ProvidesScope, []Part{{EnvVar: "ENV"}, {EnvVar: "mount"}}},
		{"{region}{ID}", ProvidesScope, []Part{{Builtin: "REGION"}, {Builtin: "ID"}}},
		{"{HOST}", ProvidesScope, []Part{{Builtin: "HOST"}}},
		{"{host}:80", RequiresScope, []Part{{Builtin: "HOST", Bracket: true}, lit(":80")}},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := ParseTemplate(c.text, c.scope, env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Template{c.text, c.want}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if got.String() != c.text {
				t.Errorf("String %q", got.String())
			}
		})
	}
}

func TestParseTemplateErrors(t *testing.T) {
	for _, c := range []struct {
		text  string
		scope Scope
		want  string
	}{
		{"é{", RequiresScope, `column 2: { without } (write {{ for a literal brace)`},
		{"a}b}", RequiresScope, "column 2: } without { (write }} for a literal brace)\ncolumn 4: } without { (write }} for a literal brace)"},
		{"{A{B}}", RequiresScope, `column 3: { inside a placeholder (placeholders do not nest and defaults hold no braces; write {{ for a literal brace)`},
		{"{}", RequiresScope, `column 1: empty placeholder (write {KEY}, or {{}} for literal braces)`},
		{"{?}", RequiresScope, `column 1: {?}: "" is no key (write a key of [A-Z][A-Z0-9_]*, such as {PRIMARY_DATABASE_URL})`},
		{"{Host}", RequiresScope, `column 1: {Host}: "Host" is no key (write {HOST})`},
		{"{hots}", RequiresScope, `column 1: {hots}: "hots" is no key (write {HOST})`},
		{"{database-url}", RequiresScope, `column 1: {database-url}: "database-url" is no key (write {DATABASE_URL})`},
		{"{1A}", RequiresScope, `column 1: {1A}: "1A" is no key (write a key of [A-Z][A-Z0-9_]*, such as {PRIMARY_DATABASE_URL})`},
		{"{api/url}", RequiresScope, `column 1: {api/url}: "url" is no key (write {api/URL})`},
		{"{API/URL}", RequiresScope, `column 1: {API/URL}: "API" is no service (write {service/KEY} with a service of [a-z0-9][a-z0-9-]*)`},
		{"{a/b/C}", RequiresScope, `column 1: {a/b/C}: "b/C" is no key (write a key of [A-Z][A-Z0-9_]*, such as {PRIMARY_DATABASE_URL})`},
		{"{KEY?[]}", RequiresScope, `column 1: {KEY?[]}: cannot read "?[]" (write {KEY}, {KEY?}, {KEY:-text}, {KEY[]} or {KEY[;]?})`},
		{"{KEY:x}", RequiresScope, `column 1: {KEY:x}: cannot read ":x" (write {KEY}, {KEY?}, {KEY:-text}, {KEY[]} or {KEY[;]?})`},
		{"{KEY?:-x}", RequiresScope, `column 1: {KEY?:-x}: optional and with a default (write {KEY:-x}; a default makes it optional)`},
		{"{KEY[;}", RequiresScope, `column 1: {KEY[;}: [ without ] (write {KEY[]} or {KEY[;]})`},
		{"{HOST?}{PORT[]}{id:-x}", RequiresScope, "column 1: {HOST?}: a built-in is one value and always there (write {HOST})\n" +
			"column 8: {PORT[]}: a built-in is one value and always there (write {PORT})\n" +
			"column 16: {id:-x}: a built-in is one value and always there (write {id})"},
		{"{KEY}", ProvidesScope, `column 1: {KEY} is neither built-in nor in environment (add it to environment, or write one of {FEDERATION} {HOST} {ID} {NODE} {PORT} {REGION})`},
		{"{Mount}", ProvidesScope, `column 1: {Mount} is neither built-in nor in environment (write {mount})`},
		{"{api/KEY}", ProvidesScope, `column 1: {api/KEY} is neither built-in nor in environment (write {NAME} only; {KEY?}, {KEY:-text} and lists belong in requires)`},
	} {
		t.Run(c.text, func(t *testing.T) {
			_, err := ParseTemplate(c.text, c.scope, env)
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestBracket(t *testing.T) {
	for text, want := range map[string]string{
		"{HOST}":                      "::1",
		"{NODE}/{HOST}":               "n/::1",
		"http://{HOST}":               "http://[::1]",
		"http://{HOST}:{PORT}/x":      "http://[::1]:80/x",
		"postgres://u:p@{HOST}/db":    "postgres://u:p@[::1]/db",
		"{NODE}://{HOST}/":            "n://[::1]/",
		"http://{NODE}/?h={HOST}":     "http://n/?h=::1",
		"{HOST}:{PORT}":               "[::1]:80",
		"{HOST}:8080":                 "[::1]:8080",
		"{HOST}: {PORT}":              "::1: 80",
		"a {HOST},{HOST}":             "a ::1,::1",
		"http://{HOST}/ and {HOST}":   "http://[::1]/ and ::1",
		"http://{HOST},http://{HOST}": "http://[::1],http://[::1]",
		"http://{NODE} {HOST}":        "http://n ::1",
		"{HOST}:":                     "::1:",
	} {
		tmpl := tmpl(t, text, RequiresScope, nil)
		got, _, _ := tmpl.Expand(func(p Part) (string, bool) {
			return map[string]string{"HOST": "::1", "PORT": "80", "NODE": "n"}[p.Builtin], true
		})
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	// What is in brackets, or no IPv6 address, stays as it is.
	tmpl := tmpl(t, "{HOST}:1", RequiresScope, nil)
	for _, host := range []string{"[::1]", "10.0.0.5", ""} {
		if got, _, _ := tmpl.Expand(func(Part) (string, bool) { return host, true }); got != host+":1" {
			t.Errorf("got %s", got)
		}
	}
}

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "{A} {{ }} {", "EMPTY": "", "HOST": "h"}
	lookup := func(p Part) (string, bool) {
		v, ok := values[p.Key+p.Builtin]
		return v, ok
	}
	for _, c := range []struct {
		text, want string
		absent     bool
		missing    string
	}{
		{text: "", want: ""},
		{text: "x", want: "x"},
		{text: "{A}", want: "1"},
		{text: "{B}", want: "{A} {{ }} {"},
		{text: "<{A}|{B}>", want: "<1|{A} {{ }} {>"},
		{text: "{A}{A}{A}{A}{A}{A}{A}{A}{A}{A}", want: "1111111111"},
		{text: "{EMPTY:-x}", want: ""},
		{text: "{NONE:-x}{NONE:-}{NONE[]:-y}", want: "xy"},
		{text: "{A?}", want: "1"},
		{text: "a{NONE?}b", absent: true},
		{text: "{NONE}", missing: "no value for {NONE}"},
		{text: "{NONE}{A}{x/OTHER[]}", missing: "no value for {NONE}, {x/OTHER[]}"},
		{text: "{NONE?}{OTHER}", missing: "no value for {OTHER}"},
		{text: "{HOST}{ID}", missing: "no value for {ID}"},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, absent, err := tmpl(t, c.text, RequiresScope, nil).Expand(lookup)
			if got != c.want || absent != c.absent || (err != nil) != (c.missing != "") {
				t.Errorf("got %q, %v, %v", got, absent, err)
			}
			var missing *MissingError
			if errors.As(err, &missing) && missing.Error() != c.missing {
				t.Errorf("got %s", missing)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	tmpl := tmpl(t, "{B}{HOST}{A?}{x/B}{C[]}{{D}}", RequiresScope, nil)
	if diff := cmp.Diff([]string{"A", "B", "C"}, tmpl.Keys()); diff != "" {
		t.Error(diff)
	}
	m := &Manifest{Requires: map[string]Template{"X": tmpl, "Y": {Parts: []Part{{Key: "B"}, {Key: "AA"}}}}}
	if diff := cmp.Diff([]string{"A", "AA", "B", "C"}, m.Keys()); diff != "" {
		t.Error(diff)
	}
	Builtins()[0] = "X"
	if !slices.IsSorted(Builtins()) || len(Builtins()) != 6 {
		t.Error(Builtins())
	}
}

// text writes a template from its parts.
func text(parts []Part) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.String())
	}
	return b.String()
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"", "a", "{{}}", "{KEY}", "{KEY?}", "{KEY:-x y}", "{a-b/KEY[;]?}", "http://{HOST}:{PORT}/{{", "{ENV}{mount}", "{A", "}", "{{{K[]:-}}}"} {
		f.Add(s, "{KEY}", true)
		f.Add(s, "}}{{", false)
	}
	f.Fuzz(func(t *testing.T, s, value string, requires bool) {
		scope := ProvidesScope
		if requires {
			scope = RequiresScope
		}
		tmpl, err := ParseTemplate(s, scope, env)
		if err != nil {
			return
		}
		again, err := ParseTemplate(text(tmpl.Parts), scope, env)
		if err != nil {
			t.Fatalf("%q becomes %q, which is wrong: %v", s, text(tmpl.Parts), err)
		}
		if diff := cmp.Diff(tmpl.Parts, again.Parts); diff != "" {
			t.Fatalf("%q and %q differ: %s", s, text(tmpl.Parts), diff)
		}
		onePass(t, tmpl, value)
	})
}

// onePass: each value is in the result exactly as it was fetched, between the
// literals.
func onePass(t *testing.T, tmpl Template, value string) {
	var want strings.Builder
	calls := 0
	for _, p := range tmpl.Parts {
		if p.Literal != "" {
			want.WriteString(p.Literal)
			continue
		}
		calls++
		if p.Bracket && strings.Contains(value, ":") && value[0] != '[' {
			fmt.Fprintf(&want, "[%s]", value)
		} else {
			want.WriteString(value)
		}
	}
	got, absent, err := tmpl.Expand(func(Part) (string, bool) { calls--; return value, true })
	if err != nil || absent || got != want.String() || calls != 0 {
		t.Fatalf("%q with %q: %q, absent %v, %v, want %q", tmpl, value, got, absent, err, want.String())
	}
}

func FuzzLiteral(f *testing.F) {
	f.Add("{a}")
	f.Add("}}{{{}")
	f.Fuzz(func(t *testing.T, s string) {
		tmpl, err := ParseTemplate(Part{Literal: s}.String(), RequiresScope, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := tmpl.Expand(func(p Part) (string, bool) { t.Fatalf("looked up %v", p); return "", false })
		if err != nil || got != s {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

func BenchmarkExpand(b *testing.B) {
	tmpl, err := ParseTemplate("postgres://{DB_USER}:{DB_PASSWORD}@{DB_HOST}:{DB_PORT:-5432}/app", RequiresScope, nil)
	if err != nil {
		b.Fatal(err)
	}
	values := map[string]string{"DB_USER": "app", "DB_PASSWORD": "secret", "DB_HOST": "10.0.0.5"}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tmpl.Expand(func(p Part) (string, bool) { v, ok := values[p.Key]; return v, ok }); err != nil {
			b.Fatal(err)
		}
	}
}
