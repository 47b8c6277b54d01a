package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/listener"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store/local"
	"github.com/spf13/cobra"
)

// socketName is how long a socket's path becomes below the temporary directory.
const socketName = "/listener.sock"

func (a *app) devCmd() *cobra.Command {
	var tour bool
	c := &cobra.Command{
		Use:   "dev DIR",
		Short: "try it: an agent in the foreground, with a store of its own",
		Long: `Run an agent in the foreground until Ctrl-C, without root: manifests from
DIR/data_bags/service, attributes from DIR/attributes.toml and [provision] from
DIR/listener.toml; a local store, and everything else under one temporary directory
that is removed at the end. Prints one line per event, uses short times, and prints
the socket for a second terminal. Ctrl-C ends a command that runs. With -o json, events
are objects on standard output, one per line.

--tour plays a tour of the main job on it: a change, a burst of 100, off and on, a
command that fails. It ends by itself, with exit code 1 when something is not as it
should be.`,
		Example: "  listener dev examples\n  listener dev examples --tour",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if tour && a.json() {
				return failed(exitUsage, "leave --tour or -o json away", "--tour does not go with -o json")
			}
			// A terminal that is closed ends it as Ctrl-C does.
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGHUP)
			defer stop()
			return a.dev(ctx, args[0], tour)
		},
	}
	c.Flags().BoolVar(&tour, "tour", false, "play a tour and end")
	return c
}

func (a *app) dev(ctx context.Context, dir string, tour bool) (err error) {
	info, err := os.Stat(filepath.Join(dir, "data_bags", "service"))
	if err != nil || !info.IsDir() {
		return failed(exitSettings, "`listener init --dir DIR` makes one to start from", "%s has no directory data_bags/service", dir)
	}
	tmp, err := shortTemp()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	cfg, err := a.devConfig(dir, tmp, tour)
	if err != nil {
		return err
	}
	lines := a.out
	if a.json() {
		lines = a.err
	}
	t := &devAgent{a: a, dir: dir, tmp: tmp, cfg: cfg, inTour: tour, screen: newScreen(lines)}
	defer t.screen.close()
	if err := t.open(); err != nil {
		return err
	}
	if tour {
		return t.tour(ctx)
	}
	t.hello()
	return t.run(ctx)
}

// devConfig are the settings of dev, at its start and at each reload.
func (a *app) devConfig(dir, tmp string, tour bool) (*config.Config, error) {
	cfg, err := config.Dev(dir, tmp, a.devOptions(tour))
	if err == nil && cfg.Origin("provision.runner") == "default" {
		cfg.Provision.Runner = "direct" // a unit of systemd would outlive Ctrl-C
	}
	return cfg, err
}

// devOptions leaves out what this terminal exported for another agent.
func (a *app) devOptions(tour bool) config.Options {
	o := a.configOptions()
	o.Environ = nil
	for _, kv := range a.environ {
		if strings.HasPrefix(kv, "LISTENER_CFG_") {
			o.Environ = append(o.Environ, kv)
		}
	}
	if a.socketFlag == "" {
		delete(o.Flags, "socket")
	}
	if tour {
		o.Flags["retry.max"] = "2s" // the tour ends soon
		if o.Flags["throttle.settle"] == "" {
			o.Flags["throttle.settle"] = "400ms" // so that its burst is one on a busy machine, too
		}
	}
	return o
}

// shortTemp makes the temporary directory where a socket's path fits: at most
// 107 bytes, see unix(7).
func shortTemp() (string, error) {
	tmp, err := os.MkdirTemp("", "listener-")
	if err == nil && len(tmp)+len(socketName) > 107 {
		long := tmp
		tmp, err = os.MkdirTemp("/tmp", "listener-")
		err = errors.Join(err, os.Remove(long))
	}
	return tmp, err
}

// devAgent is an agent in the foreground, all of it below tmp.
type devAgent struct {
	a        *app
	dir, tmp string
	inTour   bool
	// published came during a run: told after its output.
	inRun     bool
	published []status.Event
	// afterRead prints what comes below the event that the store is read, once; nil: nothing.
	afterRead func()
	cfg       *config.Config
	screen    *screen
	store     *local.Store
	agent     *listener.Agent
}

func (d *devAgent) open() error {
	for _, dir := range []string{d.cfg.StateDir, d.cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	// Nothing here outlives a power loss, so nothing waits for a disk.
	d.store, err = local.Open(local.Options{Path: d.cfg.StoreFile(), NoSync: true})
	return err
}

// run is the agent until ctx ends; then a command that runs is ended too.
func (d *devAgent) run(ctx context.Context) error {
	defer func() { _ = d.store.Close() }()
	// Events say what happens; the log would say it again.
	log := slog.New(slog.NewTextHandler(d.a.err, &slog.HandlerOptions{Level: slog.LevelError}))
	ag, err := listener.New(listener.Options{
		Config: d.cfg, Store: d.store, Version: version, Log: log, CancelOnStop: true,
		Reload: func() (*config.Config, error) { return d.a.devConfig(d.dir, d.tmp, d.inTour) },
		// A terminal that was stopped must not stop the agent.
		OnEvent: func(ev status.Event) { d.screen.offer(func() { d.event(ev) }) },
	})
	if err != nil {
		return err
	}
	d.agent = ag
	ln, err := listen(d.cfg)
	if err != nil {
		return err
	}
	err = serve(ctx, ag, ln, log, server{cfg: d.cfg})
	return errors.Join(err, d.ended())
}

// ended waits until a command that ran is gone: what it writes to is removed next.
func (d *devAgent) ended() error {
	p, err := provision.New(provision.Options{StateDir: d.cfg.StateDir, RunDir: d.cfg.RunDir})
	if err != nil {
		return err
	}
	left, err := p.Left()
	for _, ref := range left {
		d.screen.line("ending the command of run %s (%s at most)", ref.Run, d.cfg.Provision.KillAfter)
		_, aerr := p.Adopt(context.Background(), ref, d.cfg.Provision.KillAfter)
		err = errors.Join(err, aerr)
	}
	return errors.Join(err, p.Close())
}

func (d *devAgent) hello() {
	c := d.cfg
	d.screen.line("listener %s: an agent with a store of its own, until Ctrl-C", version)
	d.screen.line("  services    %s", filepath.Join(d.dir, "data_bags", "service"))
	d.screen.line("  everything  %s (removed at the end)", d.tmp)
	d.screen.line("  short times settle %s, min_interval %s, retry %s, burst %d", c.Throttle.Settle, c.Throttle.MinInterval, c.Retry.Base, c.Throttle.Burst)
	d.screen.line("In a second terminal:")
	if dir := pathLacks(); dir != "" {
		d.screen.line("  export PATH=%s:$PATH", dir)
	}
	d.screen.line("  export LISTENER_SOCKET=%s    # or --socket with each command", c.API.Socket)
	d.screen.line("  listener status")
	if key := d.someKey(); key != "" {
		d.screen.line("  listener put %s some-value", key)
	}
	d.screen.line("")
}

// pathLacks is the directory of this binary if a shell does not find it as
// listener, else "".
func pathLacks() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	if found, err := exec.LookPath("listener"); err == nil {
		if real, err := filepath.EvalSymlinks(found); err == nil && real == exe {
			return ""
		}
	}
	return filepath.Dir(exe)
}

// event prints one line, and after a run the last lines that it wrote.
func (d *devAgent) event(ev status.Event) {
	if d.a.json() {
		_ = json.NewEncoder(d.a.out).Encode(ev) // nobody reads any more: go on
		return
	}
	switch ev.Name {
	case "published":
		if d.inTour {
			return // it comes whenever the store has it, in the middle of another story
		}
		if d.inRun {
			d.published = append(d.published, ev) // it is told after the run's output
			return
		}
	case "run started":
		d.inRun = true
	}
	d.line(ev)
	if ev.Name == "store reset" && d.afterRead != nil {
		d.afterRead()
		d.afterRead = nil
	}
	if ev.Name != "run ended" {
		return
	}
	defer func() {
		for _, p := range d.published {
			d.line(p)
		}
		d.inRun, d.published = false, nil
	}()
	data, err := os.ReadFile(filepath.Join(d.cfg.StateDir, "runs", ev.Attr["run"]+".log"))
	if err != nil {
		return // a run without a command has no output
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(lines) > maxOutput {
		d.screen.print("              | … (`listener logs` has all of it)")
		lines = lines[len(lines)-maxOutput:]
	}
	for _, l := range lines {
		d.screen.print("              | %s", l)
	}
}

func (d *devAgent) line(ev status.Event) {
	d.screen.print("%s  %s", ev.At.Format("15:04:05.000"), ev.Text)
}

// maxOutput is how many lines of a command's output dev shows.
const maxOutput = 6

// someKey is a key that a service requires, PRIMARY_DATABASE_URL if there is one.
func (d *devAgent) someKey() string {
	keys := d.requiredKeys()
	for _, k := range keys {
		if k == "PRIMARY_DATABASE_URL" {
			return k
		}
	}
	if len(keys) == 0 {
		return ""
	}
	return keys[0]
}

var errTour = errors.New("the tour did not go as it should")

func tourFailed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errTour, fmt.Sprintf(format, args...))
}
