package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadAttributes(t *testing.T) {
	dir := t.TempDir()
	a := write(t, dir, "a.toml", `
A = "first"
B = ""
N = 1_000
HEX = 0x10
F = 1_0.50
YES = true
regions.eu.A = "eu"
[regions.us-east]
A = "us"
["regions"."a b"]
`)
	b := write(t, dir, "b.toml", "A = 'second'\n[regions]\neu = { B = 'eu b' }\nus-east.A = 'us 2'")
	got, err := LoadAttributes([]string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"A": "second", "B": "", "N": "1000", "HEX": "16", "F": "10.50", "YES": "true"}; !maps.Equal(got.General, want) {
		t.Errorf("got %v, want %v", got.General, want)
	}
	want := map[string]map[string]string{"eu": {"A": "eu", "B": "eu b"}, "us-east": {"A": "us 2"}, "a b": {}}
	if !maps.EqualFunc(got.Regions, want, maps.Equal) {
		t.Errorf("got %v, want %v", got.Regions, want)
	}
}

// TestAttributesErrors gives exact texts, none of which shows a value.
func TestAttributesErrors(t *testing.T) {
	const keyHint = "keys are A-Z, 0-9 and _, and begin with a letter"
	for _, c := range []struct{ file, want string }{
		{"a-b = 's3cret'", "1:1: a-b: this is not a key (write A_B)"},
		{"\n  'ü' = 's3cret'", "2:3: ü: this is not a key (" + keyHint + ")"},
		{"1A = 's3cret'", "1:1: 1A: this is not a key (" + keyHint + ")"},
		{"[us-east]\nA = 's3cret'", "1:1: us-east: this is not a key (write [regions.us-east] for the values of a region)"},
		{"A = ['s3cret']", `1:1: A: this is a list, not a text (write A = "value")`},
		{"[A]\nB = 's3cret'", `1:1: A: this is a table, not a text (write A = "value")`},
		{"A = 2026-01-01", `1:1: A: this is a date, not a text (write A = "value")`},
		{"A = inf", `1:1: A: this is a number with a fraction, not a text (write A = "value")`},
		{`A = "s3cret\nx"`, "1:1: A: a value cannot have a newline or NUL byte (write it on one line)"},
		{`A = "s3cret\u0000"`, "1:1: A: a value cannot have a newline or NUL byte (write it on one line)"},
		{"regions = 's3cret'", `1:1: regions: this is a text, not a table (write [regions.us-east] and KEY = "value" below it)`},
		{"[regions]\nA = 's3cret'", `2:1: regions.A: this is a text, not the table of a region (write [regions.us-east] and KEY = "value" below it)`},
		{"[[regions]]\nA = 's3cret'", `1:1: regions: this is a list, not a table (write [regions.us-east] and KEY = "value" below it)`},
		{"[regions.\"a\\tb\"]", `1:1: "regions.a\tb": this is not the name of a region (write [regions.us-east] and KEY = "value" below it)`},
		{"[regions.x]\nA = 1\nb = 's3cret'\n[regions.x.y]", "3:1: regions.x.b: this is not a key (write B)\n" + "FILE:4:1: regions.x.y: this is not a key (write Y)"},
		{"A = 1\nA = 's3cret'", "2:7: broken TOML: key 'A' has already been defined"},
		{"A = secret", `1:5: broken TOML (write KEY = "value")`},
		{"A = 0b3", `1:5: broken TOML (write KEY = "value")`},
	} {
		path := write(t, t.TempDir(), "a.toml", c.file)
		_, err := LoadAttributes([]string{path})
		if want := path + ":" + strings.ReplaceAll(c.want, "FILE", path); err == nil || err.Error() != want {
			t.Errorf("%q: got\n%v\nwant\n%s", c.file, err, want)
		}
	}
}

func TestAttributesFilesThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good.toml", "A = 1")
	none := filepath.Join(dir, "none.toml")
	got, err := LoadAttributes([]string{none, good})
	if got.General["A"] != "1" {
		t.Errorf("the file that is there was not read: %v", got)
	}
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != none+": no such file or directory" || !OnlyMissing(err) {
		t.Errorf("got %v", err)
	}
	open := write(t, dir, "open.toml", "A = 2")
	if err := os.Chmod(open, 0o646); err != nil {
		t.Fatal(err)
	}
	got, err = LoadAttributes([]string{none, good, open})
	if got.General["A"] != "1" || !errors.Is(err, fs.ErrPermission) || OnlyMissing(err) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err = LoadAttributes(nil); err != nil || got.General == nil || got.Regions == nil {
		t.Errorf("without files: %v, %v", got, err)
	}
	if OnlyMissing(nil) {
		t.Error("nothing reported is not a missing file")
	}
}
