package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
)

// checker collects what is wrong.
type checker struct {
	a *app
	report
	manifests []*manifest.Manifest
	cfg       *config.Config // nil: no settings were checked
}

// path checks what the user named; the error is for what cannot be looked at.
func (k *checker) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	base := filepath.Base(path)
	switch {
	case info.IsDir():
		k.dir(path)
	case strings.HasSuffix(base, ".json"):
		k.manifest(path)
	case strings.HasSuffix(base, ".toml") && strings.HasPrefix(base, "attributes"):
		k.attributes([]string{path})
	case strings.HasSuffix(base, ".toml"):
		k.settings(config.Options{Path: path})
	default:
		return failed(exitUsage, "manifests are *.json, settings and attributes *.toml", "%s: what is it?", path)
	}
	return nil
}

// dir is a directory of manifests, or one laid out like examples/.
func (k *checker) dir(path string) {
	file, bags, attrs := filepath.Join(path, "listener.toml"), filepath.Join(path, "data_bags", "service"), filepath.Join(path, "attributes.toml")
	laidOut := false
	if exists(file) {
		laidOut = true
		k.settings(config.Options{Path: file})
	}
	if exists(bags) && (k.cfg == nil || k.cfg.Origin("manifests") == "default") {
		laidOut = true
		k.dirs([]string{bags})
	}
	if exists(attrs) && (k.cfg == nil || k.cfg.Origin("attributes") == "default") {
		k.attributes([]string{attrs})
	}
	if !laidOut {
		k.dirs([]string{path})
	}
}

// settings checks a settings file, and what it names itself. What it leaves
// to the defaults counts only when the user named no file.
func (k *checker) settings(o config.Options) {
	cfg, err := config.Load(o)
	if o.Path != "" {
		k.Checked = append(k.Checked, o.Path)
	}
	k.add(o.Path, err)
	if err != nil {
		return
	}
	k.cfg = cfg
	named := o.Path != ""
	if !named || cfg.Origin("manifests") != "default" {
		k.dirs(cfg.Manifests)
	}
	if !named || cfg.Origin("attributes") != "default" {
		k.attributes(cfg.Attributes)
	}
}

func (k *checker) attributes(files []string) {
	for _, f := range files {
		if !exists(f) {
			continue // it counts as empty
		}
		k.Checked = append(k.Checked, f)
		_, err := config.LoadAttributes([]string{f})
		k.add(f, err)
	}
}

func (k *checker) dirs(dirs []string) {
	files, bad := manifest.ReadDirs(dirs)
	for _, d := range bad {
		k.problem(problem{File: d.Dir, Text: d.Err.Error()})
	}
	for _, f := range files {
		k.file(f)
	}
}

// manifest reads one file with the rules of its directory.
func (k *checker) manifest(path string) {
	files, bad := manifest.ReadDirs([]string{filepath.Dir(path)})
	for _, d := range bad {
		k.problem(problem{File: d.Dir, Text: d.Err.Error()})
	}
	for _, f := range files {
		if filepath.Base(f.Path) == filepath.Base(path) {
			f.Path = path
			k.file(f)
			return
		}
	}
	k.problem(problem{File: path, Text: "the agent does not read this file", Hint: "it reads regular files *.json whose name does not begin with a dot"})
}

func (k *checker) file(f manifest.File) {
	k.Checked = append(k.Checked, f.Path)
	k.add(f.Path, f.Err)
	if f.Manifest == nil {
		return
	}
	k.manifests = append(k.manifests, f.Manifest)
	for _, n := range f.Manifest.Notes {
		k.Notes = append(k.Notes, f.Path+": "+n)
	}
}

// set checks the manifests against each other and against the settings.
func (k *checker) set() {
	for _, p := range manifest.CheckSet(k.manifests) {
		text := p.Text
		if p.Other != "" && !strings.Contains(text, p.Other) {
			text += "; see " + p.Other
		}
		k.problem(problem{File: p.File, Text: text, Hint: p.Hint})
	}
	if k.cfg == nil || k.cfg.Federation == "" {
		return
	}
	for _, m := range k.manifests {
		if m.Federation != "" && m.Federation != k.cfg.Federation {
			k.problem(problem{
				File: m.File, Text: fmt.Sprintf("it is of the federation %q, and this node of %q", m.Federation, k.cfg.Federation),
				Hint: "a node runs services of its own federation only",
			})
		}
	}
}

// add takes lists of errors apart.
func (k *checker) add(file string, err error) {
	if err == nil {
		return
	}
	if list, ok := errors.AsType[manifest.Errors](err); ok {
		for _, e := range list {
			k.problem(problem{File: e.File, Line: e.Line, Column: e.Column, Text: strings.TrimPrefix(e.Pointer+": "+e.Text, ": "), Hint: e.Hint, line: e.Error()})
		}
		return
	}
	if list, ok := errors.AsType[config.Errors](err); ok {
		for _, e := range list {
			k.problem(problem{File: e.File, Line: e.Line, Column: e.Column, Text: strings.TrimPrefix(e.Name+": "+e.Text, ": "), Hint: e.Hint, line: e.Error()})
		}
		return
	}
	k.problem(problem{File: file, Text: err.Error()})
}

func (k *checker) problem(p problem) {
	if p.line == "" {
		p.line = p.File + ": " + p.Text
		if p.Hint != "" {
			p.line += " (" + p.Hint + ")"
		}
	}
	k.Problems = append(k.Problems, p)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
