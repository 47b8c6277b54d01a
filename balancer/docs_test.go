package balancer_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/manifest"
)

// TestDocs makes plans of the manifests in docs/balancers.md.
func TestDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "balancers.md"))
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string][]balancer.Entry{}
	for _, block := range regexp.MustCompile("(?s)\n```json\n(.*?)```").FindAllSubmatch(page, -1) {
		id := regexp.MustCompile(`"id": "([^"]+)"`).FindSubmatch(block[1])
		m, err := manifest.Parse(string(id[1])+".json", block[1])
		if err != nil {
			t.Fatalf("%s: %v", id[1], err)
		}
		for k := range m.Provides {
			byKey[k] = append(byKey[k], up("web1", of(m.ID), localPort(m.LocalPort), weight(m.Weight), balance(m.Balance)))
		}
	}
	in := local()
	for k, entries := range byKey {
		in.Keys = append(in.Keys, key(k, entries...))
	}
	want := []string{
		"local-9000 http SEARCH_URL: local-9000", "local-9002 http THUMBS_URL: local-9002",
		"local-9000 SEARCH_URL http roundrobin",
		"  us::web1::search 10.0.0.1:8000 90", "  us::web1::search-next 10.0.0.1:8000 10",
		"local-9002 THUMBS_URL http hash", "  us::web1::thumbs 10.0.0.1:8000 100",
	}
	if d := cmp.Diff(want, text(balancer.MakePlan(in))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
