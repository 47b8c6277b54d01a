package manifest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The manifest and the placeholders that docs/manifest.md shows are taken.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/manifest.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	_, example, _ := strings.Cut(page, "```json\n")
	example, _, _ = strings.Cut(example, "```")
	m, err := Parse("app-www.json", []byte(example))
	if err != nil {
		t.Fatalf("the manifest of docs/manifest.md: %v", err)
	}
	if len(m.Notes) > 0 {
		t.Errorf("the manifest of docs/manifest.md: %v", m.Notes)
	}

	_, section, _ := strings.Cut(page, "\n## Placeholders\n")
	section, _, _ = strings.Cut(section, "\n## ")
	seen := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*) \|`).FindAllStringSubmatch(section, -1) {
		forms, _, _ := strings.Cut(row[1], " | ")
		for _, form := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(forms, -1) {
			seen[form[1]] = true
			tmpl, err := ParseTemplate(form[1], RequiresScope, nil)
			if err != nil {
				t.Errorf("docs/manifest.md: %v", err)
			} else if braces := form[1] == "{{" || form[1] == "}}"; braces != (len(tmpl.Parts) == 1 && tmpl.Parts[0].Literal != "") {
				t.Errorf("docs/manifest.md: %s is %+v", form[1], tmpl.Parts)
			}
		}
	}
	for _, b := range Builtins() {
		if !seen["{"+b+"}"] {
			t.Errorf("docs/manifest.md: has no {%s}", b)
		}
	}
	if len(seen) < 15 {
		t.Errorf("docs/manifest.md: found only %d forms of placeholders", len(seen))
	}
	for _, f := range fields {
		if !strings.Contains(page, "`"+f.name+"`") {
			t.Errorf("docs/manifest.md: has no line for %s", f.name)
		}
	}
}
