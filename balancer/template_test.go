package balancer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/balancer"
)

// render is what a template writes for a plan with one server.
func render(ctx context.Context, t *testing.T, text string) (string, error) {
	t.Helper()
	tmpl, err := balancer.NewTemplate("x.tmpl", text)
	if err != nil {
		return "", err
	}
	b, err := tmpl.Render(ctx, plan(t, local(key("API_URL", up("a")))))
	return string(b), err
}

// TestFunctions runs each example, and keeps the table in the documentation.
func TestFunctions(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| function | what it gives | example | writes |\n| --- | --- | --- | --- |\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, f := range balancer.Functions() {
		got, err := render(t.Context(), t, f.Example)
		if err != nil || got != f.Result {
			t.Errorf("%s writes %q, %v, want %q", f.Example, got, err, f.Result)
		}
		if !strings.Contains(f.Example, f.Name) {
			t.Errorf("the example of %s is not one: %s", f.Name, f.Example)
		}
		result := "nothing"
		if f.Result != "" {
			result = "`" + cell(f.Result) + "`"
		}
		fmt.Fprintf(&table, "| `%s %s` | %s | `%s` | %s |\n", f.Name, f.Args, cell(f.What), cell(f.Example), result)
	}
	const begin, end = "<!-- functions: go test ./balancer -update -->\n", "<!-- end of functions -->\n"
	page := filepath.Join("..", "docs", "balancers.md")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), begin)
	was, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no lines %s and %s", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(head+begin+table.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(table.String(), was); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", page, d)
	}
}

func TestTemplateErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, want string }{
		{"syntax", "a\n{{if}}", "x.tmpl:2: missing value for if"},
		{"unknown function", "\n\n{{getenv \"HOME\"}}", `x.tmpl:3: function "getenv" not defined`},
		{"unknown member", "\n{{.Nothing}}", `x.tmpl:2:2: executing "x.tmpl" at <.Nothing>: can't evaluate field Nothing in type *balancer.Plan`},
		{"function fails", "\n{{first .Problems}}", `x.tmpl:2:2: executing "x.tmpl" at <first .Problems>: error calling first: the list is empty`},
		{"injection", "{{quote \"a\\nb\"}}", `x.tmpl:1:2: executing "x.tmpl" at <quote "a\nb">: error calling quote: the text has a newline or a NUL`},
		{"unknown template", "{{template \"y\"}}", `x.tmpl:1:11: executing "x.tmpl" at <{{template "y"}}>: template "y" not defined`},
		{"calls itself", `{{define "a"}}{{if .}}{{template "b"}}{{end}}{{end}}{{define "b"}}{{range .}}{{template "a"}}{{end}}{{end}}`, "calls itself"},
		{"writes much", `{{range 200000}}` + strings.Repeat("0123456789", 20) + `{{end}}`, "x.tmpl: the template writes more than 16777216 bytes"},
		{"doubles", `{{$x := "0123456789"}}{{range 100}}{{$x = print $x $x}}{{end}}`, "more than 16777216 bytes"},
		{"doubles by join", `{{$x := "0123456789"}}{{range 100}}{{$x = join $x (split "1" $x)}}{{end}}`, "more than 16777216 bytes"},
		{"doubles by replace", `{{$x := "00000"}}{{range 100}}{{$x = replace "0" "00" $x}}{{end}}`, "more than 16777216 bytes"},
		{"doubles by printf", `{{$x := "00000"}}{{range 100}}{{$x = printf "%s%s" $x $x}}{{end}}`, "more than 16777216 bytes"},
		{"wide", `{{printf "%9999999d" 1}}`, "a width in a format has more than three digits"},
		{"huge", strings.Repeat(" ", balancer.MaxTemplate+1), "x.tmpl: the template has 1048577 bytes, more than 1048576"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := render(t.Context(), t, tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestTemplateEnds: what writes nothing for ever ends, too.
func TestTemplateEnds(t *testing.T) {
	t.Parallel()
	chain := `{{define "z"}}{{end}}`
	last := "z"
	for i := range 60 {
		name := fmt.Sprintf("t%d", i)
		chain += fmt.Sprintf(`{{define %q}}{{template %q}}{{template %q}}{{end}}`, name, last, last)
		last = name
	}
	for name, text := range map[string]string{
		"empty loop":   `{{range 1000000000000}}{{end}}`,
		"nested loops": `{{range 1000000}}{{range 1000000}}{{end}}{{end}}`,
		"else":         `{{range 0}}{{else}}{{range 1000000000000}}{{end}}{{end}}`,
		"calls":        chain + fmt.Sprintf(`{{template %q}}`, last),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := render(ctx, t, text); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want a deadline", err)
			}
		})
	}
}

func TestRoutesOfHost(t *testing.T) {
	t.Parallel()
	in := balancer.Input{Kind: balancer.Public, Region: "us", Keys: []balancer.Key{
		key("A_URL", up("a", public("/", "a.org"))), key("B_URL", up("a", public("/b", "a.org", "b.org"))),
		key("C_URL", up("a", public("/", "*.org"))), key("D_URL", up("a", public("/d"))), key("E_URL", up("a", public("/b/e"))),
	}}
	tmpl, err := balancer.NewTemplate("x", `{{range hosts (first .Frontends).Routes}}{{default "any" .}}:{{range routes . (first $.Frontends).Routes}} {{.Path}}={{.Backend}}{{end}}
{{end}}`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Render(t.Context(), plan(t, in))
	if err != nil {
		t.Fatal(err)
	}
	const want = "a.org: /b=B_URL:2Fb /=A_URL\nb.org: /b=B_URL:2Fb /=C_URL\n*.org: /=C_URL\nany: /b/e=E_URL:2Fb:2Fe /d=D_URL:2Fd\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
