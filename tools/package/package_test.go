package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var when = time.Unix(1_700_000_000, 0).UTC()

// What people type keeps its signs, and nothing in a text is a request.
func TestRoff(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"--if-version":         `\-\-if\-version`,
		`a\b "c" 'd' ^~` + "`": `a\(rsb \(dqc\(dq \(aqd\(aq \(ha\(ti\(ga`,
		"ARG…":                 `ARG\[u2026]`,
		".so /etc/passwd":      `\&.so /etc/passwd`,
		"'br":                  `\(aqbr`,
	} {
		if got := line(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestMan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const tree = `{"path": "x", "usage": "x", "short": "does x", "flags": [{"name": "all", "text": "for all"}], "commands": [
		{"path": "x runs", "usage": "x runs [flags]", "group": "Asking:", "short": "runs", "aliases": ["history"], "flags": [{"name": "last", "shorthand": "n", "argument": "N", "text": "how many"}],
			"commands": [{"path": "x runs show", "usage": "x runs show ID", "short": "one run", "example": "  x runs show latest"}]}]}`
	if err := man(strings.NewReader(tree), dir, when); err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"man1/x.1":             {`.TH "X" "1" "2023-11-14"`, ".SS \"Asking\"\n", "\\fBruns\\fR\nruns\n", "x\\-runs(1)"},
		"man1/x-runs.1":        {"\\fB\\-n, \\-\\-last N\\fR\nhow many\n", ".SH \"OPTIONS OF ALL COMMANDS\"\n.TP\n\\fB\\-\\-all\\fR"},
		"man1/x-history.1":     {".so man1/x-runs.1\n"},
		"man1/x-runs-show.1":   {"\nx runs show latest\n", "x\\-runs(1), listener.toml(5)"},
		"man5/listener.toml.5": {".SS \"[store.etcd]\"", ".SS \"[[balancer]]\"", "\\fBsettle (duration)\\fR"},
	} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s has no %q:\n%.600s", file, want, data)
			}
		}
	}
}

// The bill of this very test: a Go program that is linked with our module.
func TestSBOM(t *testing.T) {
	t.Parallel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := sbom(out, "listener", "1.0", []string{binary, binary}, when); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("two bills of one binary differ")
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	refs := map[string]int{b.Metadata.Component.Ref: 1}
	for _, c := range b.Components {
		refs[c.Ref]++
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.DependsOn, d.Ref) {
			if refs[ref] == 0 {
				t.Errorf("%s is used, and is no component", ref)
			}
		}
	}
	if b.Format != "CycloneDX" || b.Metadata.Timestamp != "2023-11-14T22:13:20Z" || len(b.Dependencies) == 0 {
		t.Errorf("the bill is %+v", b)
	}
	if _, err := read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a binary that is not there has a bill")
	}
}

// A module without a licence is not passed over.
func TestLicense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := license(&out, "x", dir); err == nil {
		t.Error("no licence is no error")
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE.md"), []byte("do what you like\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := license(&out, "x", dir); err != nil || !strings.Contains(out.String(), "=== x: LICENSE.md\n\ndo what you like\n") {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestUsage(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if err := run([]string{"man", t.TempDir()}, nil, nil); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
		t.Errorf("without a time: %v", err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	if err := run([]string{"sbom", "x"}, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "usage") {
		t.Errorf("without arguments: %v", err)
	}
}
