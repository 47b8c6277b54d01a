package config

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs.txt and docs/settings.md")

// TestDocs holds docs.txt and docs/settings.md to the comments of settings.go.
func TestDocs(t *testing.T) {
	text := docsFromSource(t)
	compareFile(t, "docs.txt", text)
	compareFile(t, "../docs/settings.md", settingsPage(parseDocs(text)))
}

func compareFile(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the comments say: run `go test ./config -run TestDocs -update`", path)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	documented := map[string]string{}
	for _, d := range Docs() {
		documented[d.Name] = d.Text
	}
	var names []string
	for _, f := range settings().fields {
		names = append(names, f.name)
	}
	for _, f := range balancerSettings().fields {
		names = append(names, balancerName+"."+f.name)
	}
	names = append(names, settings().tables...)
	for _, name := range names {
		if len(documented[name]) < 10 {
			t.Errorf("%s: no documentation", name)
		}
	}
	if len(documented) != len(names) {
		t.Errorf("%d names are documented, there are %d", len(documented), len(names))
	}
}

// docsFromSource makes docs.txt from the comments of settings.go.
func docsFromSource(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "settings.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	var b bytes.Buffer
	var write func(structName, prefix string)
	write = func(structName, prefix string) {
		for _, f := range structs[structName].Fields.List {
			if f.Tag == nil {
				continue
			}
			name := prefix + reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("toml")
			fmt.Fprintf(&b, "%s\t%s\n", name, strings.Join(strings.Fields(f.Doc.Text()), " "))
			switch typ := f.Type.(type) {
			case *ast.Ident:
				if structs[typ.Name] != nil {
					write(typ.Name, name+".")
				}
			case *ast.ArrayType:
				if of, ok := typ.Elt.(*ast.Ident); ok && structs[of.Name] != nil {
					write(of.Name, name+".")
				}
			}
		}
	}
	write("Config", "")
	return b.String()
}

const pageHead = `# Settings

<!-- Made from the comments of config/settings.go by "go test ./config -run TestDocs -update". Do not edit. -->

The settings file is ` + "`/etc/listener/listener.toml`" + `, or the one that ` + "`--config`" + ` or ` + "`LISTENER_CONFIG`" + ` names. Everything has a default
that works on one machine, so the file may be missing. ` + "`listener config`" + ` prints the effective settings, each with where it comes from.

From lowest to highest:

1. the defaults below
2. the settings file
3. ` + "`conf.d/*.toml`" + ` beside it, in the order of their names (names that begin with a dot are skipped)
4. ` + "`LISTENER_CFG_*`" + ` variables: ` + "`LISTENER_CFG_STORE__KIND`" + ` is ` + "`store.kind`" + `; then ` + "`LISTENER_STORE`" + `, a store as a URL
5. flags: ` + "`--store local:DIR`" + `, ` + "`--store etcd://h1:2379,h2:2379`" + ` or ` + "`--store nats://h:4222`" + ` do what ` + "`[store]`" + ` does

A list replaces that of the layer below, but for ` + "`[[balancer]]`" + `, which adds up over files. In variables and flags a list is
` + "`a,b`" + ` or ` + "`[\"a\", \"b\"]`" + `.

- A **duration** is a text with its unit: ` + "`\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h30m\"`" + `; never negative. 0 needs no unit.
- A **size** is a text with its unit: ` + "`\"100MB\"`" + ` (powers of 1000) or ` + "`\"64MiB\"`" + ` (powers of 1024); a number alone is bytes.
- A **mode** is octal in quotes: ` + "`\"0640\"`" + `.
- Relative **paths** are relative to the directory of the settings file (for files in ` + "`conf.d`" + ` too), in variables and flags to the working directory.
- A path that begins with ` + "`$CREDENTIALS_DIRECTORY/`" + ` is a credential that systemd gives to the agent's unit (` + "`LoadCredential=`" + `); where that
  variable is not set, ` + "`/run/credentials/listener.service/`" + ` takes its place.
- The files name commands that run as root: one that others may write to, or that belongs to somebody other than root and the agent's user, is refused.
- An unknown setting is an error that names the nearest known one.

Settings marked *restart* take effect when the agent starts, all others with ` + "`listener reload`" + ` too.
`

// settingsPage makes docs/settings.md.
func settingsPage(docs []Doc) string {
	var b strings.Builder
	b.WriteString(pageHead)
	restart := RestartOnly()
	b.WriteString("\n## At the top\n\n" + tableHead)
	for _, d := range docs {
		_, name := splitName(d.Name)
		switch d.Type {
		case "table":
			fmt.Fprintf(&b, "\n## `[%s]`\n\n%s\n\n%s", d.Name, d.Text, tableHead)
		case "list of tables":
			fmt.Fprintf(&b, "\n## `[[%s]]`\n\n%s\n\n%s", d.Name, d.Text, tableHead)
		default:
			value := "`" + d.Default + "`"
			if f, _, _ := defaultOf(d.Name); f.shown != "" {
				value = d.Default
			}
			text := d.Text
			if slices.Contains(restart, d.Name) {
				text += " *restart*"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, d.Type, value, strings.ReplaceAll(text, "|", `\|`))
		}
	}
	b.WriteString(pageTail)
	return b.String()
}

const pageTail = `
## Attributes files

The files of ` + "`attributes`" + ` hold static fallback values, for keys that nobody put into the store and nobody provides:

` + "```toml" + `
PRIMARY_DATABASE_URL = "mysql://10.0.0.5/app"

[regions.us-east]
PRIMARY_DATABASE_URL = "mysql://10.1.0.5/app"
` + "```" + `

Keys are A-Z, 0-9 and _, and begin with a letter. Numbers and booleans count as their text; a newline or NUL byte is refused, and so is a file that
anyone may write to.
`

const tableHead = "| setting | type | default | meaning |\n| --- | --- | --- | --- |\n"
