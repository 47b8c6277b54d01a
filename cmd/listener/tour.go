package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/status"
)

// tourLimit is how long one step of the tour may take.
const tourLimit = 15 * time.Second

// burst is how many changes the tour makes at once.
const burst = 100

// failing is what the tour puts around the node's command: while the file $0
// is there, the command fails.
const failing = `if [ -e "$0" ]; then echo "cannot reach the package mirror"; exit 1; fi; exec "$@"`

// guide plays the tour as an operator in a second terminal would: through the
// socket, with nothing that only the tour can do, but for the file that makes
// the command fail.
type guide struct {
	d      *devAgent
	c      *api.Client
	key    string
	broken string // the file that makes the command fail
}

// firstTitle is printed with the event before its run: that run waits for nobody.
const firstTitle = "The agent starts: a first run provisions every service."

func (d *devAgent) tour(ctx context.Context) error {
	g := &guide{d: d, key: d.someKey(), broken: filepath.Join(d.tmp, "broken")}
	if g.key == "" || len(d.cfg.Provision.Command) == 0 {
		return errors.Join(failed(exitSettings, "try `listener dev examples --tour`",
			"the tour needs a service that requires a key, and a command in %s", filepath.Join(d.dir, "listener.toml")), d.store.Close())
	}
	d.cfg.Provision.Command = append([]string{"/bin/sh", "-c", failing, g.broken}, d.cfg.Provision.Command...)
	d.afterRead = func() {
		d.screen.print("")
		d.screen.print("== %s", firstTitle)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	err := g.play(ctx, ended)
	cancel()
	return errors.Join(err, <-ended)
}

func (g *guide) play(ctx context.Context, ended chan error) error {
	if err := g.connect(ctx, ended); err != nil {
		return err
	}
	defer g.c.Close()
	if _, err := g.until(ctx, "the store to be read", func(s status.Status) bool { return s.Store.State == "ok" }); err != nil {
		return err
	}
	for _, step := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"", g.start}, // firstTitle is there already
		{"listener put " + g.key + " …: one run, which receives the new value.", g.change},
		{fmt.Sprintf("The same %d times in a burst: one run, with the newest value.", burst), g.burst},
		{"listener off, a change, listener on: nothing runs until it is on.", g.offOn},
		{"The command fails: the run is tried again by itself, until it succeeds.", g.fail},
	} {
		if step.title != "" {
			g.d.screen.line("")
			g.d.screen.line("== %s", step.title)
		}
		if err := step.play(ctx); err != nil {
			return err
		}
	}
	g.d.screen.line("")
	g.d.screen.line("== That is the main job. Try it yourself: %s dev %s", called(), g.d.dir)
	return nil
}

// called is how this binary was called, so that a line can be typed again.
func called() string {
	if strings.Contains(os.Args[0], "/") {
		return os.Args[0]
	}
	return "listener"
}

// connect waits until the agent answers.
func (g *guide) connect(ctx context.Context, ended chan error) error {
	limit := time.NewTimer(tourLimit)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := api.Dial(g.d.cfg.API.Socket)
		if err == nil {
			g.c = c
			return nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return tourFailed("no agent answers: %v", err)
		case err := <-ended:
			ended <- nil // it is told here
			return errors.Join(tourFailed("the agent ended"), err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *guide) start(ctx context.Context) error {
	return g.expect(ctx, 1, "")
}

func (g *guide) change(ctx context.Context) error {
	before, err := g.total(ctx)
	if err != nil {
		return err
	}
	if err := g.put(ctx, "postgres://db2.example.com/shop"); err != nil {
		return err
	}
	return g.expect(ctx, before+1, "postgres://db2.example.com/shop")
}

func (g *guide) burst(ctx context.Context) error {
	before, err := g.total(ctx)
	if err != nil {
		return err
	}
	last := ""
	for i := range burst {
		last = fmt.Sprintf("postgres://db3.example.com/shop?n=%d", i+1)
		if _, err := g.c.Commit(ctx, "", []api.ValueOp{{Key: g.key, Value: last}}); err != nil {
			return err
		}
	}
	g.d.screen.line("%s  %d changes are written", time.Now().Format("15:04:05.000"), burst)
	return g.expect(ctx, before+1, last)
}

func (g *guide) offOn(ctx context.Context) error {
	before, err := g.total(ctx)
	if err != nil {
		return err
	}
	if err := g.c.Off(ctx, api.OffRequest{Reason: "a look at the database"}); err != nil {
		return err
	}
	if err := g.put(ctx, "postgres://db4.example.com/shop"); err != nil {
		return err
	}
	st, err := g.until(ctx, "the change is pending", func(st status.Status) bool { return st.Pending != nil })
	if err != nil {
		return err
	}
	// As long as it would take at most, were it on.
	if err := pause(ctx, g.d.cfg.Throttle.MinInterval+2*g.d.cfg.Throttle.Settle); err != nil {
		return err
	}
	if st, err = g.c.Status(ctx); err != nil {
		return err
	}
	if st.RunsTotal != before || st.On || st.Pending == nil {
		return tourFailed("off, but there were %d runs", st.RunsTotal-before)
	}
	g.d.screen.line("%s  status: a run is pending; nothing runs while off", time.Now().Format("15:04:05.000"))
	if _, err := g.c.On(ctx, ""); err != nil {
		return err
	}
	return g.expect(ctx, before+1, "postgres://db4.example.com/shop")
}

func (g *guide) fail(ctx context.Context) error {
	before, err := g.total(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(g.broken, nil, 0o600); err != nil {
		return err
	}
	if err := g.put(ctx, "postgres://db5.example.com/shop"); err != nil {
		return err
	}
	st, err := g.until(ctx, "the failure is told", func(st status.Status) bool { return len(st.Failures) > 0 })
	if err != nil {
		return err
	}
	g.d.screen.line("%s  status: %s failed, next try at %s", time.Now().Format("15:04:05.000"), st.Failures[0].Step, st.Failures[0].NextTry.Format(time.TimeOnly))
	if err := os.Remove(g.broken); err != nil {
		return err
	}
	return g.expect(ctx, before+2, "postgres://db5.example.com/shop")
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *guide) put(ctx context.Context, value string) error {
	_, err := g.c.Commit(ctx, "", []api.ValueOp{{Key: g.key, Value: value}})
	if err == nil {
		g.d.screen.line("%s  $ listener put %s %s", time.Now().Format("15:04:05.000"), g.key, value)
	}
	return err
}

func (g *guide) total(ctx context.Context) (uint64, error) {
	st, err := g.c.Status(ctx)
	return st.RunsTotal, err
}

// expect waits until all is provisioned, and then there must have been just
// so many runs, the last of which succeeded and brought value to a service.
func (g *guide) expect(ctx context.Context, runs uint64, value string) error {
	st, err := g.until(ctx, "everything is provisioned", func(st status.Status) bool { return st.Synced && st.RunsTotal >= runs })
	if err != nil {
		return err
	}
	if st.RunsTotal != runs {
		return tourFailed("%d runs, and there should be %d", st.RunsTotal, runs)
	}
	if st.LastRun == nil || st.LastRun.Result != "ok" {
		return tourFailed("the last run did not succeed")
	}
	if value != "" && !g.received(value) {
		return tourFailed("no environment file has the new value %s", value)
	}
	return nil
}

// received looks where a service would: into its environment file.
func (g *guide) received(value string) bool {
	for _, m := range g.d.manifests() {
		data, err := os.ReadFile(render.EnvPath(g.d.cfg.Env.Dir, m.ID, g.d.cfg.Env.Formats[0]))
		if err == nil && strings.Contains(string(data), value) {
			return true
		}
	}
	return false
}

func (g *guide) until(ctx context.Context, what string, done func(status.Status) bool) (status.Status, error) {
	st, err := poll(ctx, g.c, tourLimit, done)
	if timedOut(ctx, err) {
		return st, tourFailed("%s: not after %s", what, tourLimit)
	}
	return st, err
}

// manifests are the good ones of DIR.
func (d *devAgent) manifests() []*manifest.Manifest {
	files, _ := manifest.ReadDirs(d.cfg.Manifests)
	var out []*manifest.Manifest
	for _, f := range files {
		if f.Manifest != nil {
			out = append(out, f.Manifest)
		}
	}
	return out
}

// requiredKeys are the keys that services with a step of the node require.
func (d *devAgent) requiredKeys() []string {
	keys := map[string]bool{}
	for _, m := range d.manifests() {
		if !m.Command.Node {
			continue
		}
		for _, t := range m.Requires {
			for _, p := range t.Parts {
				if p.Key != "" && !p.List && p.Service == "" {
					keys[p.Key] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
