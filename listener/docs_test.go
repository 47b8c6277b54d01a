package listener

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every condition and every event that the agent can produce is in its
// table of docs/operations.md, and nothing else is.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	conditions, events := names(t)
	for _, c := range []struct {
		title string
		want  map[string]bool
	}{{"## Conditions", conditions}, {"## Events", events}} {
		_, rest, _ := strings.Cut(string(page), "\n"+c.title+"\n")
		section, _, _ := strings.Cut(rest, "\n## ")
		got := map[string]bool{}
		for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(section, -1) {
			for name := range strings.SplitSeq(row[1], ", ") {
				// The last word in capitals is what differs: "files of SERVICE".
				got[regexp.MustCompile("[A-Z]+$").ReplaceAllString(strings.Trim(name, "`"), "…")] = true
			}
		}
		if len(c.want) < 20 {
			t.Errorf("%s: found only %d in the code: has its form changed?", c.title, len(c.want))
		}
		for _, name := range slices.Sorted(maps.Keys(c.want)) {
			if !got[name] {
				t.Errorf("docs/operations.md, %s: has no line for %q", c.title, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if !c.want[name] {
				t.Errorf("docs/operations.md, %s: nothing produces %q", c.title, name)
			}
		}
	}
}

// names reads from the code which conditions and events there are. A name
// that is made of a text and something else ends in "…".
func names(t *testing.T) (conditions, events map[string]bool) {
	t.Helper()
	conditions, events = map[string]bool{}, map[string]bool{}
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(path string) bool {
		dir := filepath.Base(filepath.Dir(path))
		return dir != "listener" && dir != "publish"
	})
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if id, ok := n.Fun.(*ast.Ident); ok && id.Name == "add" && len(n.Args) == 4 { // package publish
						add(conditions, fn, n.Args[1])
					}
					sel, ok := n.Fun.(*ast.SelectorExpr)
					if !ok || len(n.Args) < 2 {
						return true
					}
					switch sel.Sel.Name {
					case "fault", "later", "also":
						add(conditions, fn, n.Args[0])
					case "emit", "Event":
						add(events, fn, n.Args[0])
					case "emitAt":
						add(events, fn, n.Args[1])
					}
				case *ast.ReturnStmt: // the name and the hint of what failed
					if fn.Name.Name == "failure" {
						add(conditions, fn, n.Results[0])
					}
				case *ast.AssignStmt: // c.Name = "…"
					if sel, ok := n.Lhs[0].(*ast.SelectorExpr); ok && sel.Sel.Name == "Name" {
						add(conditions, fn, n.Rhs[0])
					}
				case *ast.CompositeLit:
					if sel, ok := n.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Condition" {
						for _, e := range n.Elts {
							if kv, ok := e.(*ast.KeyValueExpr); ok && kv.Key.(*ast.Ident).Name == "Name" {
								add(conditions, fn, kv.Value)
							}
						}
					}
				}
				return true
			})
		}
	}
	return conditions, events
}

// add notes the texts that e can be: a literal, one with something after it,
// or a variable of fn that was given literals.
func add(set map[string]bool, fn *ast.FuncDecl, e ast.Expr) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		set[text] = true
	case *ast.BinaryExpr:
		if lit, ok := e.X.(*ast.BasicLit); ok {
			text, _ := strconv.Unquote(lit.Value)
			set[text+"…"] = true
		}
	case *ast.Ident:
		ast.Inspect(fn, func(n ast.Node) bool {
			if as, ok := n.(*ast.AssignStmt); ok && len(as.Lhs) == 1 {
				if id, ok := as.Lhs[0].(*ast.Ident); ok && id.Name == e.Name {
					if lit, ok := as.Rhs[0].(*ast.BasicLit); ok {
						add(set, fn, lit)
					}
				}
			}
			return true
		})
	}
}
