package status_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/listener-agent/listener/status"
)

// docs/cli.md has a table for each type that -o json prints, with exactly its
// fields; one that may be left out is marked.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{}
	parts := strings.Split(string(data), "<!-- status.")
	for _, part := range parts[1:] {
		name, rest, _ := strings.Cut(part, " -->\n\n")
		tables[name], _, _ = strings.Cut(rest, "\n\n")
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\*maybe\\*)?")
	for _, v := range []any{
		status.Status{},
		status.Off{},
		status.Store{},
		status.Pending{},
		status.Failure{},
		status.Condition{},
		status.Service{},
		status.Balancer{},
		status.Publishing{},
		status.Published{},
		status.CheckResult{},
		status.Drain{},
		status.Run{},
		status.Step{},
		status.Explain{},
		status.Gate{},
		status.DueService{},
		status.Resolved{},
		status.ResolvedKey{},
		status.Event{},
		status.Provider{},
		status.KeyProviders{},
		status.Node{},
		status.Fleet{},
		status.Environment{},
		status.Hold{},
		status.FleetValue{},
	} {
		typ := reflect.TypeOf(v)
		var want, got []string
		for f := range typ.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if options != "" {
				name += " maybe"
			}
			want = append(want, name)
		}
		for _, m := range row.FindAllStringSubmatch(tables[typ.Name()], -1) {
			name := m[1]
			if m[2] != "" {
				name += " maybe"
			}
			got = append(got, name)
		}
		if !slices.Equal(want, got) {
			t.Errorf("docs/cli.md, status.%s:\nhas  %v\nwant %v", typ.Name(), got, want)
		}
		delete(tables, typ.Name())
	}
	for name := range tables {
		t.Errorf("docs/cli.md has a table for status.%s, which nothing prints", name)
	}
}
