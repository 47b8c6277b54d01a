package config

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Every block of settings in the documentation can be loaded.
func TestDocsBlocks(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, page := range append(pages, "../README.md") {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)\n```toml\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
			blocks++
			path := filepath.Join(t.TempDir(), "listener.toml")
			if err := os.WriteFile(path, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(Options{Path: path})
			if regexp.MustCompile(`(?m)^[A-Z][A-Z0-9_]* = `).MatchString(m[1]) {
				_, err = LoadAttributes([]string{path}) // of an attributes file
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, m[1])
			}
		}
	}
	if blocks < 4 {
		t.Errorf("found only %d blocks", blocks)
	}
}
