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

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/listener"
	_ "github.com/listener-agent/listener/provision/supervisor" // this binary supervises steps, see its init
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/spf13/cobra"
)

func (a *app) agentCmd() *cobra.Command {
	var format, level string
	c := &cobra.Command{
		Use:     "agent",
		Aliases: []string{"daemon"},
		Short:   "run the agent",
		Long: `Run the agent until SIGTERM or SIGINT; a step in progress goes on and is taken over
by the next agent. SIGHUP reads settings, manifests and attributes again. Logs to
standard error. Bad settings end it with exit code 78, with every problem named; a
store that does not answer does not end it. Tells systemd when it is ready.`,
		Example: "  listener agent\n  listener agent --config ./listener.toml --log-format json\n  listener daemon --store local:/var/lib/listener",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := a.logger(format, level)
			if err != nil {
				return err
			}
			return a.agent(c.Context(), log)
		},
	}
	c.Flags().StringVar(&format, "log-format", "text", "`FORMAT` of the log: text or json")
	c.Flags().StringVar(&level, "log-level", "info", "least `LEVEL` that is logged: debug, info, warn or error")
	return c
}

func (a *app) logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, failed(exitUsage, "write debug, info, warn or error", "there is no log level %q", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(a.err, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.err, o)), nil
	}
	return nil, failed(exitUsage, "write text or json", "there is no log format %q", format)
}

func (a *app) agent(ctx context.Context, log *slog.Logger) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	ln, err := listen(cfg) // first: a second agent touches nothing
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	s, err := agentStore(cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	memory := thrifty()
	ag, err := listener.New(listener.Options{
		Config: cfg, Reload: a.config, Store: s, Version: version, Log: log,
		OnEvent: func(ev status.Event) {
			memory.soon()
			switch ev.Name {
			case "started":
				notify(a.env("NOTIFY_SOCKET"), "READY=1")
			case "stopped":
				notify(a.env("NOTIFY_SOCKET"), "STOPPING=1")
			}
		},
	})
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return serve(ctx, ag, ln, cfg, log, hup)
}

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

// serve runs the agent and its API on ln until ctx ends; hup reloads.
func serve(ctx context.Context, ag *listener.Agent, ln net.Listener, cfg *config.Config, log *slog.Logger, hup <-chan os.Signal) error {
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
		reloadOn(ctx, hup, ag, log)
	}()
	err := ag.Run(ctx)
	cancel()
	<-served
	<-reloaded
	if errors.Is(err, listener.ErrRunning) {
		return hinted(fmt.Errorf("%w (state_dir %s)", listener.ErrRunning, cfg.StateDir), "stop it first, or give this one a state_dir of its own")
	}
	return err
}

func reloadOn(ctx context.Context, hup <-chan os.Signal, ag *listener.Agent, log *slog.Logger) {
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return
		}
		if err := ag.Reload(ctx); err != nil {
			log.Error("reload failed; nothing changed", "error", err)
		} else {
			log.Info("reloaded")
		}
	}
}

// notify tells systemd, see sd_notify(3); without NOTIFY_SOCKET nobody.
func notify(socket, state string) {
	if socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte(state))
}

// logFailed tells of requests that failed, for who looks closely.
func logFailed(log *slog.Logger) func(method, path string, status int, text string) {
	return func(method, path string, status int, text string) {
		log.Debug("request failed", "method", method, "path", path, "status", status, "error", text)
	}
}
