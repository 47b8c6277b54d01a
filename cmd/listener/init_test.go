package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/listener-agent/listener/config"
)

// What init writes for a provisioner is what its example has.
func TestInitPresets(t *testing.T) {
	t.Parallel()
	example := map[string]string{"chef": "chef", "puppet": "puppet", "ansible": "ansible"}
	for _, p := range presets() {
		dir, ok := example[p.name]
		if !ok {
			continue
		}
		delete(example, p.name)
		path := filepath.Join(t.TempDir(), "listener.toml")
		if err := os.WriteFile(path, initFlags{preset: p.name, dir: "x"}.settings(), 0o644); err != nil {
			t.Fatal(err)
		}
		got := provisionOf(t, path)
		want := provisionOf(t, filepath.Join("../../examples/provisioners", dir, "listener.toml"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: init and the example differ (-example +init):\n%s", p.name, diff)
		}
	}
	if len(example) > 0 {
		t.Errorf("init has no preset of %v", example)
	}
}

func provisionOf(t *testing.T, path string) config.Provision {
	t.Helper()
	cfg, err := config.Load(config.Options{Path: path, SkipHost: true})
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Provision
}
