package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// read is what is linked into a Go program: its modules, by path.
func read(binary string) (*debug.BuildInfo, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what %s was built from: %w", binary, err)
	}
	for i, m := range info.Deps {
		if m.Replace != nil {
			info.Deps[i] = m.Replace
		}
	}
	slices.SortFunc(info.Deps, func(a, b *debug.Module) int { return cmp.Compare(a.Path, b.Path) })
	return info, nil
}

// licenses writes the licences of the modules that are linked into binary, and
// Go's own. The modules are looked for where Go keeps them; one without a
// licence is an error.
func licenses(out io.Writer, binary string) error {
	info, err := read(binary)
	if err != nil {
		return err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask where Go is: %w", err)
	}
	// Not GoVersion: it names more than the release where Go was built from source.
	if err := license(out, "Go's standard library, "+runtime.Version(), strings.TrimSpace(string(goroot))); err != nil {
		return err
	}
	for _, m := range info.Deps {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", m.Path+"@"+m.Version).Output()
		if err != nil {
			return fmt.Errorf("find %s: %w", m.Path, err)
		}
		if err := license(out, m.Path+" "+m.Version, strings.TrimSpace(string(dir))); err != nil {
			return err
		}
	}
	return nil
}

var licenseName = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|copyright)([.-].*)?$`)

func license(out io.Writer, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if !licenseName.MatchString(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		if _, err := fmt.Fprintf(out, "=== %s: %s\n\n%s\n\n", name, e.Name(), bytes.TrimSpace(text)); err != nil {
			return err
		}
	}
	if !found {
		return errors.New(name + " has no licence")
	}
	return nil
}
