// Package layout_test checks the rules of the repository that no linter knows;
// CONTRIBUTING.md has them in words. No other Go code is in this folder.
package layout_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/listener-agent/listener"

// shared are the packages that all others may use: types that everybody
// speaks, and one way to write a file.
var shared = []string{"store", "manifest", "status", "internal/atomicfile"}

// imports has a line for each package: what of ours it may import, directly.
// It is the table of ARCHITECTURE.md; imports go down only.
var imports = map[string][]string{
	"internal/atomicfile": {},
	"internal/benchenv":   {},
	"internal/fleettest":  {"status", "store"},
	"internal/freeport":   {},
	"internal/systemd":    {},
	"manifest":            {},
	"status":              {},
	"store":               {},
	"store/etcd":          {"store", "store/internal/feed"},
	"store/internal/feed": {"store"},
	"store/local":         {"store", "store/internal/feed", "internal/atomicfile"},
	"store/nats":          {"store", "store/internal/feed"},
	"store/storetest":     {"store", "store/internal/feed"},

	"api":                  shared,
	"balancer":             shared,
	"config":               shared,
	"graph":                shared,
	"provision":            append([]string{"provision/supervisor"}, shared...),
	"provision/supervisor": {},
	"publish":              shared,
	"render":               shared,
	"resolve":              shared,
	"throttle":             shared,

	"listener": append([]string{"api", "balancer", "config", "provision", "publish", "render", "resolve", "throttle"}, shared...),

	// All of ours: nobody else knows which stores there are.
	"cmd/listener": {anything},
}

const anything = "..."

// testImports may be imported by every test beside what its package may: the
// store that needs no server.
var testImports = []string{"internal/benchenv", "store", "store/local", "store/storetest"}

// onlyStandard may not import other modules either: the supervisor starts anew
// for each step, and what it links delays the command.
var onlyStandard = []string{"provision/supervisor"}

// mayLog are the packages that log, and the one that has a place for log lines;
// all others return errors.
var mayLog = []string{"cmd/listener", "internal/systemd", "listener"}

// mayPrint are the packages that may use standard output; the supervisor
// copies a step's output to it.
var mayPrint = []string{"cmd/listener", "internal/benchenv", "provision/supervisor"}

// maxLines is how long a file may be, tests aside. longFiles are the
// exceptions, each with its reason.
const maxLines = 400

var longFiles = map[string]string{}

// slowCalls must not be made while packages initialise, which every command
// and every supervisor waits for; sync.OnceValue makes them when needed.
var slowCalls = map[string][]string{
	"regexp":        {"Compile", "CompilePOSIX", "MustCompile", "MustCompilePOSIX"},
	"text/template": {"Must", "New", "ParseFS", "ParseFiles"},
	"html/template": {"Must", "New", "ParseFS", "ParseFiles"},
}

// prints are what writes to standard output, or logs past the agent's logger.
var prints = map[string][]string{
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println"},
	"os":  {"Stdout"},
}

// words must not be in any file but this one.
var words = []struct{ pattern, why string }{
	{`\b(TODO|FIXME|XXX|HACK)\b`, "what is not finished is not merged; what is planned goes to an issue"},
	{`\b(DESIGN|STYLE|TESTING|contracts)(\.md|\s+§)`, "names a document that is not in the repository"},
	{`(^|[\s"'=(:` + "`" + `])/(home|Users|work|workspace|builds)/\w`, "names a path of somebody's machine"},
}

func TestLayout(t *testing.T) {
	t.Parallel()
	for _, finding := range check(t, ".") {
		t.Error(finding)
	}
	picture, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for p := range imports {
		if !bytes.Contains(picture, []byte("`"+p+"`")) {
			t.Errorf("ARCHITECTURE.md: has no line for %s in the table of packages", p)
		}
	}
	for p, why := range longFiles {
		if b, err := os.ReadFile(p); err != nil || bytes.Count(b, []byte("\n")) <= maxLines {
			t.Errorf("longFiles: %s (%s) needs no exception", p, why)
		}
	}
}

// checker goes through the files of a module and notes what breaks a rule.
type checker struct {
	fset      *token.FileSet
	words     []*regexp.Regexp
	findings  []string            // "file:line: text"
	commented map[string][]string // folder → files with a package comment
}

// check returns what breaks a rule in the module at root.
func check(t *testing.T, root string) []string {
	t.Helper()
	c := &checker{fset: token.NewFileSet(), commented: map[string][]string{}}
	for _, w := range words {
		c.words = append(c.words, regexp.MustCompile(w.pattern))
	}
	if err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "bin" || name == ".git"):
			return fs.SkipDir
		case !d.Type().IsRegular() || name == ".git" || path.Base(name) == "go.sum":
			return nil
		}
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		c.text(name, b)
		if path.Ext(name) == ".go" && ours(root, path.Dir(name)) {
			c.source(name, b)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range slices.Sorted(maps.Keys(c.commented)) {
		if files := c.commented[dir]; len(files) != 1 {
			c.report(dir, "has %d package comments, wants one: %s", len(files), strings.Join(files, " "))
		}
	}
	return c.findings
}

// ours reports whether dir belongs to the module at root: not to a module
// inside it, and not to test data.
func ours(root, dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if path.Base(dir) == "testdata" {
			return false
		}
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return false
		}
	}
	return true
}

func (c *checker) report(at, format string, args ...any) {
	c.findings = append(c.findings, at+": "+fmt.Sprintf(format, args...))
}

func (c *checker) at(n ast.Node) string {
	p := c.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// text checks the words of any file that is text.
func (c *checker) text(name string, b []byte) {
	if name == "layout_test.go" || bytes.IndexByte(b, 0) >= 0 {
		return
	}
	for i, w := range c.words {
		if !w.Match(b) {
			continue
		}
		for n, line := range bytes.Split(b, []byte("\n")) {
			if m := w.Find(line); m != nil {
				c.report(fmt.Sprintf("%s:%d", name, n+1), "%q: %s", bytes.TrimSpace(m), words[i].why)
			}
		}
	}
}

// source checks one Go file.
func (c *checker) source(name string, b []byte) {
	f, err := parser.ParseFile(c.fset, name, b, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		c.report(name, "%v", err)
		return
	}
	dir := path.Dir(name)
	if strings.HasSuffix(name, "_test.go") {
		if dir != "." {
			c.imports(dir, f, slices.Concat(testImports, imports[dir], []string{dir}), true)
		}
		return
	}
	c.imports(dir, f, imports[dir], false)

	if _, ok := c.commented[dir]; !ok {
		c.commented[dir] = nil // a package without a comment has its line too
	}
	if f.Doc.Text() != "" {
		c.commented[dir] = append(c.commented[dir], path.Base(name))
		if want := "Package " + f.Name.Name + " "; f.Name.Name != "main" && !strings.HasPrefix(f.Doc.Text(), want) {
			c.report(c.at(f.Doc), "the package comment wants to begin with %q", want)
		}
	}
	if n := bytes.Count(b, []byte("\n")); n > maxLines && longFiles[name] == "" {
		c.report(name, "has %d lines, more than %d: split it, or give the reason in longFiles", n, maxLines)
	}
	c.starts(f)
	if !slices.Contains(mayPrint, dir) {
		c.printing(f)
	}
}

// imports checks what a file of the package in dir imports; tests may use any
// module and log.
func (c *checker) imports(dir string, f *ast.File, allowed []string, test bool) {
	if _, ok := imports[dir]; !ok {
		c.report(c.at(f), "package %s has no line in the table of layout_test.go", dir)
		return
	}
	for _, spec := range f.Imports {
		p := importPath(spec)
		first, _, _ := strings.Cut(p, "/")
		of, isOurs := strings.CutPrefix(p, module+"/")
		switch {
		case isOurs && !slices.Contains(allowed, of) && !slices.Contains(allowed, anything):
			c.report(c.at(spec), "%s may not import %s", dir, of)
		case !isOurs && !test && strings.Contains(first, ".") && slices.Contains(onlyStandard, dir):
			c.report(c.at(spec), "%s may import the standard library only, not %s", dir, p)
		case p == "log/slog" && !test && !slices.Contains(mayLog, dir):
			c.report(c.at(spec), "%s may not log: return an error", dir)
		}
	}
}

// starts checks what a file does while its package initialises.
func (c *checker) starts(f *ast.File) {
	names := importNames(f)
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit: // runs later, unless it is called here
			return false
		case *ast.CallExpr:
			if lit, ok := n.Fun.(*ast.FuncLit); ok {
				ast.Inspect(lit.Body, visit)
			}
			if call := among(slowCalls, names, n.Fun); call != "" {
				c.report(c.at(n), "%s while the package initialises: every command waits for it", call)
			}
		}
		return true
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			ast.Inspect(d, visit)
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				ast.Inspect(d.Body, visit)
			}
		}
	}
}

// printing checks that a file leaves standard output alone.
func (c *checker) printing(f *ast.File) {
	names := importNames(f)
	ast.Inspect(f, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		if use := among(prints, names, e); use != "" {
			c.report(c.at(n), "%s: only the command line prints", use)
		}
		return true
	})
}

// among returns "package.Name" if e names one of the functions or variables.
func among(set map[string][]string, names map[string]string, e ast.Expr) string {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(set[names[x.Name]], sel.Sel.Name) {
		return path.Base(names[x.Name]) + "." + sel.Sel.Name
	}
	return ""
}

// importNames maps the names by which a file knows its imports to their paths.
func importNames(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		p := importPath(spec)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic(err) // the parser took it
	}
	return p
}

// TestCheck breaks each rule in a tree of its own.
func TestCheck(t *testing.T) {
	t.Parallel()
	const head = "// Package throttle spaces runs.\npackage throttle\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"nothing to say", map[string]string{
			"throttle/throttle.go":      head + `import "github.com/listener-agent/listener/store"` + "\nvar a = func() { regexp.MustCompile(a) }\n",
			"throttle/throttle_test.go": "package throttle_test\n" + `import ("fmt"; _ "github.com/listener-agent/listener/store/local")` + "\nfunc f() { fmt.Println() }\n",
			"throttle/testdata/x.go":    "package broken {",
			"tools/go.mod":              "module example.com/tools\n",
			"tools/tools.go":            "package tools\n",
			"bin/listener":              "TODO",
		}, nil},
		{"sideways import", map[string]string{
			"throttle/throttle.go": head + `import _ "github.com/listener-agent/listener/render"`,
		}, []string{"throttle/throttle.go:3: throttle may not import render"}},
		{"upward import of a test", map[string]string{
			"throttle/throttle.go": head,
			"throttle/x_test.go":   `package throttle; import _ "github.com/listener-agent/listener/listener"`,
		}, []string{"throttle/x_test.go:1: throttle may not import listener"}},
		{"store outside of the command line", map[string]string{
			"listener/listener.go": "// Package listener runs.\npackage listener\n" + `import _ "github.com/listener-agent/listener/store/local"`,
		}, []string{"listener/listener.go:3: listener may not import store/local"}},
		{"supervisor with a dependency", map[string]string{
			"provision/supervisor/supervisor.go": "// Package supervisor waits.\npackage supervisor\n" + `import _ "golang.org/x/sys/unix"`,
		}, []string{"provision/supervisor/supervisor.go:3: provision/supervisor may import the standard library only, not golang.org/x/sys/unix"}},
		{"unknown package", map[string]string{"util/util.go": "// Package util helps.\npackage util"}, []string{
			"util/util.go:2: package util has no line in the table of layout_test.go",
		}},
		{"code at the root", map[string]string{"main.go": "// Listener.\npackage main"}, []string{
			"main.go:2: package . has no line in the table of layout_test.go",
		}},
		{"no package comment", map[string]string{"throttle/throttle.go": "package throttle"}, []string{
			"throttle: has 0 package comments, wants one: ",
		}},
		{"two package comments", map[string]string{"throttle/a.go": head, "throttle/b.go": head}, []string{
			"throttle: has 2 package comments, wants one: a.go b.go",
		}},
		{"package comment of another form", map[string]string{"throttle/a.go": "// Spaces runs.\npackage throttle"}, []string{
			`throttle/a.go:1: the package comment wants to begin with "Package throttle "`,
		}},
		{"logging", map[string]string{
			"throttle/throttle.go": head + `import ("log/slog"; l "log")` + "\nfunc f() { l.Print(slog.LevelInfo) }",
		}, []string{"throttle/throttle.go:3: throttle may not log: return an error", "throttle/throttle.go:4: log.Print: only the command line prints"}},
		{"printing", map[string]string{
			"throttle/throttle.go": head + `import ("fmt"; "os")` + "\nfunc f() { fmt.Println(); fmt.Fprintln(os.Stdout) }",
		}, []string{"throttle/throttle.go:4: fmt.Println: only the command line prints", "throttle/throttle.go:4: os.Stdout: only the command line prints"}},
		{"slow start", map[string]string{
			"throttle/throttle.go": head + `import ("regexp"; "text/template")` + "\nvar r = regexp.MustCompile(`a`)\n" +
				"var t = func() any { return template.Must(nil, nil) }()\nfunc init() { regexp.Compile(`b`) }\nfunc f() { regexp.Compile(`c`) }",
		}, []string{
			"throttle/throttle.go:4: regexp.MustCompile while the package initialises: every command waits for it",
			"throttle/throttle.go:5: template.Must while the package initialises: every command waits for it",
			"throttle/throttle.go:6: regexp.Compile while the package initialises: every command waits for it",
		}},
		{"long file", map[string]string{"throttle/throttle.go": head + strings.Repeat("\n", maxLines-1)}, []string{
			"throttle/throttle.go: has 401 lines, more than 400: split it, or give the reason in longFiles",
		}},
		{"words", map[string]string{
			"docs/a.md":               "fine\nTODO: more\n",
			"docs/b.md":               "see DESIGN.md\n",
			"cmd/listener/testdata/c": "open /home/me/x",
			"cmd/listener/testdata/d": "\x00TODO: not text",
		}, []string{
			`cmd/listener/testdata/c:1: "/home/m": names a path of somebody's machine`,
			`docs/a.md:2: "TODO": what is not finished is not merged; what is planned goes to an issue`,
			`docs/b.md:1: "DESIGN.md": names a document that is not in the repository`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for name, text := range tc.files {
				p := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(tc.want, check(t, root)); d != "" {
				t.Errorf("findings (-want +got):\n%s", d)
			}
		})
	}
}
