package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/store"
)

// made is one file that init writes.
type made struct {
	path string
	data []byte
}

// write puts all files in their places or, when one is there, none. force
// replaces what is there; a file of comments only is always replaced. Whatever
// the umask is, others may read the files: secrets are in files of their own.
func write(files []made, force bool) error {
	temps := make([]*atomicfile.Temp, len(files))
	defer func() {
		for _, t := range temps {
			if t != nil {
				t.Discard()
			}
		}
	}()
	for i, f := range files {
		if !force && !replaceable(f.path) {
			return taken(f.path)
		}
		err := os.MkdirAll(filepath.Dir(f.path), 0o755)
		if err == nil {
			temps[i], err = atomicfile.Create(f.path, f.data, 0o644, -1, -1)
		}
		if err != nil {
			return err
		}
	}
	for i, t := range temps {
		if err := place(t, force); err != nil {
			for _, f := range files[:i] {
				_ = os.Remove(f.path)
			}
			return err
		}
		temps[i] = nil
	}
	return nil
}

// place gives t its name. Another file that came there meanwhile is kept.
func place(t *atomicfile.Temp, force bool) error {
	if force || comments(t.Path()) {
		return t.Commit()
	}
	err := os.Link(t.Name(), t.Path())
	t.Discard()
	if errors.Is(err, fs.ErrExist) {
		return taken(t.Path())
	}
	return err
}

func taken(path string) error {
	return hinted(fmt.Errorf("%s is there already", path), "nothing was written; --force overwrites, another --dir leaves it alone")
}

func replaceable(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) || comments(path)
}

// comments says whether path is a regular file that sets nothing, as the package
// brings one.
func comments(path string) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	data, err := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return err == nil
}

// initResult is what init prints.
type initResult struct {
	Written []string  `json:"written"`
	Store   initStore `json:"store"`
	Next    []string  `json:"next"`
}

type initStore struct {
	URL   string `json:"url"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// initWait is how long init waits for the store.
const initWait = 5 * time.Second

func (a *app) initDone(ctx context.Context, f initFlags, files []made) error {
	r := initResult{Next: f.next(files)}
	for _, m := range files {
		r.Written = append(r.Written, m.path)
	}
	// Not the environment and flags of this command line: the agent has others.
	cfg, err := config.Load(config.Options{Path: files[0].path, SkipHost: true})
	if err != nil {
		return err
	}
	r.Store.URL = cfg.StoreURL()
	if err := reach(ctx, cfg); err != nil {
		r.Store.Error = err.Error()
	}
	r.Store.OK = r.Store.Error == ""
	return a.print(r, r.text)
}

// reach asks the store for a value. A local one is a file that the agent makes.
func reach(ctx context.Context, cfg *config.Config) error {
	if cfg.Store.Kind == "local" {
		return nil
	}
	s, _, err := openStore(cfg, false)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, initWait)
	defer cancel()
	_, err = s.Get(ctx, store.Space{Prefix: cfg.Store.Prefix, Federation: federation(cfg)}.Node(cfg.Node))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (r initResult) text(w io.Writer) error {
	var b strings.Builder
	for _, path := range r.Written {
		fmt.Fprintf(&b, "wrote %s\n", path)
	}
	switch {
	case !r.Store.OK:
		fmt.Fprintf(&b, "store     %s: NOT reached: %s\n          the agent starts all the same, and waits for it\n", r.Store.URL, r.Store.Error)
	case strings.HasPrefix(r.Store.URL, "local:"):
		fmt.Fprintf(&b, "store     %s: a file of this node\n", r.Store.URL)
	default:
		fmt.Fprintf(&b, "store     %s: reached\n", r.Store.URL)
	}
	b.WriteString("next:\n")
	for i, step := range r.Next {
		fmt.Fprintf(&b, "  %d. %s\n", i+1, step)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// next is what to do with the files.
func (f initFlags) next(files []made) []string {
	named, start := "", "listener agent"
	if !f.system() {
		named = " --config " + files[0].path
	} else if _, err := os.Stat("/run/systemd/system"); err == nil {
		start = "systemctl restart listener"
	}
	if start == "listener agent" {
		start += named
	}
	_, key, _ := strings.Cut(f.requires[0], "=")
	return []string{
		"look at " + files[0].path + " and " + files[2].path,
		"listener check" + named,
		start,
		"listener put " + key + " VALUE" + named,
	}
}
