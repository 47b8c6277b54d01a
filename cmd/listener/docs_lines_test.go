package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command line that the documentation mentions has a command and flags
// that exist; those in console blocks are also run, see TestDocs.
func TestDocsCommandLines(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, examples...)
	mention := regexp.MustCompile("(?m)`listener ([^`]+)`|^\\$ (?:sudo )?(?:bin/)?listener (.+)$")
	for _, path := range append(pages, "../../README.md", "../../ARCHITECTURE.md", "../../CHANGELOG.md", "../../SECURITY.md") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mention.FindAllStringSubmatch(string(data), -1) {
			line := m[1] + m[2]
			if text := wrong(line); text != "" && !strings.HasPrefix(line, "stats") { // a typing error that cli.md shows
				t.Errorf("%s: listener %s: %s", path, line, text)
			}
		}
	}
}

// wrong says what of a command line does not exist, "" nothing.
func wrong(line string) string {
	line, _, _ = strings.Cut(line, " |")
	line, _, _ = strings.Cut(line, " >")
	line, _, _ = strings.Cut(line, ";")
	line, _, _ = strings.Cut(line, " -- ") // what follows is another command's
	words := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(line))
	root := (&app{}).root()
	if words[0] == strings.ToUpper(words[0]) { // COMMAND, -o
		return ""
	}
	c, _, err := root.Find(words)
	if err != nil || c == root && !strings.HasPrefix(words[0], "-") {
		return "there is no such command"
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if (w == "-" || !strings.HasPrefix(w, "-")) || w == "-h" || w == "--help" {
			continue
		}
		if !has(c, name) {
			return "there is no flag " + name
		}
	}
	return ""
}

func has(c *cobra.Command, name string) bool {
	if long, ok := strings.CutPrefix(name, "--"); ok {
		return c.Flags().Lookup(long) != nil || c.InheritedFlags().Lookup(long) != nil
	}
	short := name[1:2]
	return c.Flags().ShorthandLookup(short) != nil || c.InheritedFlags().ShorthandLookup(short) != nil
}

// docs/cli.md has every command and every flag.
func TestDocsHaveAll(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	flags := regexp.MustCompile(`(?m)^ +(-\w)?,? *(--[a-z-]+)`)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" {
			return
		}
		for _, name := range append([]string{c.CommandPath()}, c.Aliases...) {
			if !strings.Contains(page, name) {
				t.Errorf("docs/cli.md has no %s", name)
			}
		}
		for _, m := range flags.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
			if !strings.Contains(page, m[2]) && (m[1] == "" || !strings.Contains(page, "`"+m[1])) {
				t.Errorf("docs/cli.md has no %s of %s", m[2], c.CommandPath())
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}

// The functions that ARCHITECTURE.md places in files are there.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile("`([a-z_/]+\\.go)`(?:: ((?:`\\w+`(?:, )?)+))?").FindAllStringSubmatch(string(data), -1) {
		source, err := os.ReadFile(filepath.Join("../..", m[1]))
		if err != nil {
			if strings.Contains(m[1], "/") {
				t.Errorf("ARCHITECTURE.md: %v", err)
			}
			continue
		}
		for _, name := range regexp.MustCompile(`\w+`).FindAllString(m[2], -1) {
			found++
			if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + name + `\(`).Match(source) {
				t.Errorf("ARCHITECTURE.md: %s has no func %s", m[1], name)
			}
		}
	}
	if found < 20 {
		t.Errorf("found only %d functions", found)
	}
}

// Links within the repository lead somewhere.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	roots, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(pages, roots, examples) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(data), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			text, err := os.ReadFile(target)
			if err != nil && anchor == "" {
				_, err = os.Stat(target)
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
			} else if anchor != "" && !anchors(string(text))[anchor] {
				t.Errorf("%s: %s has no heading #%s", path, target, anchor)
			}
		}
	}
}

// anchors are the names that GitHub gives to headings.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}
