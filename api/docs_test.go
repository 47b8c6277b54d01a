package api

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/status"
)

// docs/api.md has every route, error code and metric, and no other.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	first := func(pattern string) []string {
		var out []string
		for _, m := range regexp.MustCompile("(?m)^\\| `("+pattern+")` \\|").FindAllStringSubmatch(string(data), -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	same := func(what string, want, got []string) {
		t.Helper()
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(want, got) {
			t.Errorf("docs/api.md, %s:\nhas  %v\nwant %v", what, got, want)
		}
	}
	var routes, metrics []string
	for _, r := range (&Server{}).routes() {
		routes = append(routes, r.method+" "+r.path)
	}
	same("routes", routes, first("[A-Z]+ /[^`]+"))

	now := time.Now()
	text := exposition(status.Status{
		Pending: &status.Pending{Since: now}, LastRun: &status.Run{Started: now, Ended: now},
		Publishing: &status.Publishing{Published: []status.Published{{State: "up"}}, Checks: []status.CheckResult{{Service: "a"}}},
		Balancers:  []status.Balancer{{Kind: "local", Path: "/a"}},
	})
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			metrics = append(metrics, name)
		}
	}
	same("metrics", metrics, first("listener_[a-z_]+"))

	// Those that come without a sentinel are checked here by hand.
	errs := []string{"invalid", "settings", "no_route", "method", "too_large", "internal"}
	for _, c := range codes() {
		errs = append(errs, c.code)
		if want := "| `" + c.code + "` | " + strconv.Itoa(c.status) + " |"; !strings.Contains(string(data), want) {
			t.Errorf("docs/api.md has no line %s", want)
		}
	}
	same("error codes", errs, slices.DeleteFunc(first("[a-z_]+"), func(s string) bool { return strings.HasPrefix(s, "listener_") }))
}
