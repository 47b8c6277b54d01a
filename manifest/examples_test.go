package manifest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const examples = "../examples"

func TestExamples(t *testing.T) {
	s := compileSchema(t)
	files, bad := ReadDirs([]string{filepath.Join(examples, "data_bags/service")})
	if len(bad) > 0 || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), bad)
	}
	var ms []*Manifest
	for _, f := range files {
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		if len(f.Manifest.Notes) > 0 {
			t.Errorf("%s: %q", f.Path, f.Manifest.Notes)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(f.Raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); err != nil {
			t.Error(err)
		}
		ms = append(ms, f.Manifest)
	}
	if p := CheckSet(ms); p != nil {
		t.Errorf("%v", p)
	}
	everyKeyHasAValue(t, ms)
}

// everyKeyHasAValue: a newcomer's first run waits for nothing.
func everyKeyHasAValue(t *testing.T, ms []*Manifest) {
	t.Helper()
	have := map[string]any{}
	if _, err := toml.DecodeFile(filepath.Join(examples, "attributes.toml"), &have); err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		for key := range m.Provides {
			have[key] = m.ID
		}
	}
	for _, m := range ms {
		for variable, tmpl := range m.Requires {
			_, absent, err := tmpl.Expand(func(p Part) (string, bool) { _, ok := have[p.Key]; return "", ok })
			if absent || err != nil {
				t.Errorf("%s %s: absent %v, %v", m.ID, variable, absent, err)
			}
		}
	}
}

// The command of examples/listener.toml reads node.json with nothing but sh,
// however that file is laid out.
func TestExampleCommand(t *testing.T) {
	var settings struct{ Provision struct{ Command []string } }
	if _, err := toml.DecodeFile(filepath.Join(examples, "listener.toml"), &settings); err != nil {
		t.Fatal(err)
	}
	const node = `{"run_list":["api","nginx::default"],"configuration":{"datastores":{"PRIMARY_DATABASE_URL":"postgres://db/1"}},"listener":{"run_id":"r1","services":{` +
		`"api":{"environment":{"DATABASE_URL":"postgres://db/1","PORT":"8081"}},` +
		`"app-www":{"environment":{"API_URL":"http://a,b/{}","DATABASE_URL":"postgres://db/2","ENV":"development"}}}}}`
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(node), "", "  "); err != nil {
		t.Fatal(err)
	}
	const want = `api: DATABASE_URL=postgres://db/1
app-www: DATABASE_URL=postgres://db/2
`
	for _, doc := range []string{node, indented.String()} {
		for _, services := range []string{"api,app-www", "api app-www"} {
			path := filepath.Join(t.TempDir(), "node.json")
			write(t, path, doc, 0o600)
			cmd := exec.Command(settings.Provision.Command[0], settings.Provision.Command[1:]...)
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "LISTENER_SERVICES=" + services, "LISTENER_NODE_JSON=" + path,
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if diff := cmp.Diff(want, string(out)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		}
	}
}
