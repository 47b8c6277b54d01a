package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/systemd"
	"github.com/listener-agent/listener/listener"
	_ "github.com/listener-agent/listener/provision/supervisor" // this binary supervises steps, see its init
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/spf13/cobra"
)

func (a *app) agentCmd() *cobra.Command {
	format, level := "auto", ""
	c := &cobra.Command{
		Use:     "agent",
		Aliases: []string{"daemon"},
		Short:   "run the agent",
		Long: `Run the agent until SIGTERM or SIGINT; a step in progress goes on and is taken over
by the next agent. SIGHUP reads settings, manifests and attributes again. Logs to
standard error. Bad settings end it with exit code 78, with every problem named; a
store that does not answer does not end it.

With systemd it tells when it is ready, how it is and that its loop works, takes a
socket that systemd made, and, when the machine goes down, withdraws what its services
provide. Where standard error is the journal, log lines have fields.

As process 1 of a container it runs as a child of itself: process 1 passes signals on
and reaps what others left.`,
		Example: "  listener agent\n  listener agent --config ./listener.toml --log-format json\n  listener daemon --store local:/var/lib/listener",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(format, level)
			if err != nil {
				return err
			}
			if os.Getpid() == 1 {
				return a.agentUnderInit()
			}
			return a.agent(c.Context(), log)
		},
	}
	c.Flags().StringVar(&format, "log-format", "auto", "`FORMAT` of the log: text, json, journal, or auto: journal if standard error is the journal, else text")
	c.Flags().StringVar(&level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	return c
}

func (a *app) logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, failed(exitUsage, "write debug, info, warn or error", "there is no log level %q", level)
	}
	o := &slog.HandlerOptions{Level: l}
	text := slog.NewTextHandler(a.err, o)
	if f, ok := a.err.(*os.File); ok && format == "auto" && systemd.IsJournal(f, a.env) {
		format = "journal"
	}
	switch format {
	case "text", "auto":
		return slog.New(text), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, o)), nil
	case "journal":
		return slog.New(systemd.NewJournal(systemd.JournalOptions{
			Socket: systemd.JournalSocket, Identifier: "listener", Level: l, Else: text,
			Prefix: "LISTENER_", Names: map[string]string{"run": "LISTENER_RUN_ID"},
		})), nil
	}
	return nil, failed(exitUsage, "write auto, text, json or journal", "there is no log format %q", format)
}

func (a *app) agent(ctx context.Context, log *slog.Logger) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	ln, err := a.listen(cfg) // first: a second agent touches nothing
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	s, err := agentStore(cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	memory, notify := thrifty(), systemd.NewNotifier(a.env)
	ag, err := listener.New(listener.Options{
		Config: cfg, Reload: a.config, Store: s, Version: version, Log: log,
		OnEvent: func(status.Event) { memory.soon() },
		Alive:   notify.Alive, AliveEvery: notify.Every(),
		ShuttingDown: func() bool { return systemd.ShuttingDown(context.WithoutCancel(ctx)) },
	})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { notify.Stopping(cfg.Publish.DrainWait + stopWait) })()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return serve(ctx, ag, ln, log, server{cfg: cfg, hup: hup, reloading: notify.Reloading})
}

// agentUnderInit runs this command line again, as a child of process 1, which
// we are. Orphans of steps come to process 1, and whoever waits for any child
// takes from os/exec how its commands ended: so the agent is in a process of
// its own. It ends in the time it needs, or in what the container's engine
// gives it.
func (a *app) agentUnderInit() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	p := &parent{a: a, o: execOptions{argv: append([]string{exe}, os.Args[1:]...)}}
	code, err := p.run(status.Environment{})
	if err != nil {
		return err
	}
	return exit(code)
}

// stopWait is how long a stop may take beyond the drain: asking systemd, the
// store, writing what is queued.
const stopWait = 30 * time.Second

// agentStore opens the store, now or later; only settings that no store can
// have are an error.
func agentStore(cfg *config.Config, log *slog.Logger) (store.Store, error) {
	var bad error
	s := openLate(func() (store.Store, error) {
		s, moved, err := openStore(cfg, true)
		if moved != "" {
			log.Error("the store's file was damaged; an empty one is in its place", "path", cfg.StoreFile(), "moved", moved)
		}
		if _, ok := errors.AsType[*config.Error](err); ok {
			bad = err
			return s, nil // no use in trying again
		}
		return s, err
	}, log)
	return s, bad
}

// listen takes the socket that systemd made, or makes the agent's.
func (a *app) listen(cfg *config.Config) (net.Listener, error) {
	ln, err := systemd.Listener(a.env)
	switch {
	case err != nil:
		return nil, err
	case ln == nil:
		return listen(cfg)
	case ln.Addr().String() != cfg.API.Socket:
		return nil, errors.Join(hinted(fmt.Errorf("systemd made the socket %s, but api.socket is %s", ln.Addr(), cfg.API.Socket),
			"let ListenStream= of listener.socket and `socket` in [api] agree"), ln.Close())
	}
	return ln, nil
}

// listen makes the agent's socket.
func listen(cfg *config.Config) (net.Listener, error) {
	ln, err := api.Listen(cfg.API.Socket, cfg.API.Mode, cfg.API.Group)
	switch {
	case errors.Is(err, api.ErrInUse):
		return nil, hinted(err, "ask it with `listener status`, or stop it first")
	case errors.Is(err, fs.ErrPermission):
		return nil, hinted(err, "run the agent as a user that may write there, or set `socket` in [api]")
	}
	return ln, err
}

// server is what serve needs beside the agent.
type server struct {
	cfg *config.Config
	hup <-chan os.Signal // each reloads; nil: none comes
	// reloading is told that a reload begins and, by what it returns, that it
	// has ended; nil: nobody asks.
	reloading func() (done func())
}

// serve runs the agent and its API on ln until ctx ends.
func serve(ctx context.Context, ag *listener.Agent, ln net.Listener, log *slog.Logger, s server) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served, reloaded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		if err := api.New(api.Options{Agent: ag, Failed: logFailed(log)}).Serve(ctx, ln); err != nil {
			log.Error("the API ended", "error", err)
		}
	}()
	go func() {
		defer close(reloaded)
		reloadOn(ctx, s, ag, log)
	}()
	err := ag.Run(ctx)
	cancel()
	<-served
	<-reloaded
	if errors.Is(err, listener.ErrRunning) {
		return hinted(fmt.Errorf("%w (state_dir %s)", listener.ErrRunning, s.cfg.StateDir), "stop it first, or give this one a state_dir of its own")
	}
	return err
}

func reloadOn(ctx context.Context, s server, ag *listener.Agent, log *slog.Logger) {
	for {
		select {
		case <-s.hup:
		case <-ctx.Done():
			return
		}
		done := func() {}
		if s.reloading != nil {
			done = s.reloading()
		}
		if err := ag.Reload(ctx); err != nil {
			log.Error("reload failed; nothing changed", "error", err)
		} else {
			log.Info("reloaded")
		}
		done()
	}
}

// logFailed tells of requests that failed, for who looks closely.
func logFailed(log *slog.Logger) func(method, path string, status int, text string) {
	return func(method, path string, status int, text string) {
		log.Debug("request failed", "method", method, "path", path, "status", status, "error", text)
	}
}
