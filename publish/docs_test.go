package publish

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/listener-agent/listener/store"
)

// docs/publish.md shows an entry as it is, each state, and each condition.
func TestDocs(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/publish.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	_, rest, _ := strings.Cut(page, "```json\n")
	shown, _, _ := strings.Cut(rest, "```")
	p, err := store.DecodeProvider([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(compact(shown), string(p.Encode())); diff != "" {
		t.Errorf("the entry:\n%s", diff)
	}
	for _, s := range []store.State{store.Up, store.Down, store.Draining, store.Standby, store.Left} {
		if !strings.Contains(page, "\n| `"+string(s)+"` |") {
			t.Errorf("no line for the state %s", s)
		}
	}
	source, err := os.ReadFile("report.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`add\("\w+", "([a-z ]+)"`).FindAllStringSubmatch(string(source), -1)
	names = append(names, regexp.MustCompile(`return "([a-z ]+)", "`).FindAllStringSubmatch(string(source), -1)...)
	found := map[string]bool{}
	for _, m := range names {
		found[m[1]] = true
	}
	if len(found) < 8 {
		t.Errorf("found only %d conditions in the code: has its form changed?", len(found))
	}
	_, rest, _ = strings.Cut(page, "\n## Conditions\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z ]+)`").FindAllStringSubmatch(rest, -1) {
		if !found[m[1]] {
			t.Errorf("nothing produces the condition %q", m[1])
		}
		delete(found, m[1])
	}
	for name := range found {
		t.Errorf("no line for the condition %q", name)
	}
}

// compact takes the spaces out of a document whose texts have none.
func compact(s string) string { return strings.Join(strings.Fields(s), "") }
