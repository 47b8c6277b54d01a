package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/listener"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
)

func (a *app) onceCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "once",
		Short: "provision what is due, and end",
		Long: `Provision what is due, and end. If an agent answers, it does that and we wait for
it. If none does, we take its place: wait for the store and for settling, run what
is due, publish nothing.

Exits 0 when it is done or nothing was due, 1 when a run failed, 75 when a gate is
closed or a service waits for something, 5 without store and replica.`,
		Example: "  listener once\n  listener once --config ./listener.toml -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := a.connect()
			if err == nil {
				defer cl.Close()
				return a.onceThere(c.Context(), cl)
			}
			if !noAgent(err) {
				return err
			}
			return a.onceHere(c.Context())
		},
	}
}

// outcome is what once prints.
type outcome struct {
	Runs    []status.Run `json:"runs"`
	Held    string       `json:"held,omitempty"`
	Waiting []string     `json:"waiting"`
	NoStore bool         `json:"no_store,omitempty"`
}

func (a *app) onceThere(ctx context.Context, cl *api.Client) error {
	d, err := cl.Once(ctx)
	if err != nil {
		return err
	}
	st, err := cl.Status(ctx)
	if err != nil {
		return err
	}
	o := outcome{Runs: d.Runs, Held: d.Held, Waiting: []string{}}
	for _, s := range st.Services {
		if s.State == "waiting" {
			o.Waiting = append(o.Waiting, s.ID)
		}
	}
	return a.onceDone(o)
}

func (a *app) onceHere(ctx context.Context) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := agentStore(cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	ag, err := listener.New(listener.Options{Config: cfg, Store: s, Version: version, Log: log})
	if err != nil {
		return err
	}
	r, err := ag.Once(ctx)
	if errors.Is(err, listener.ErrRunning) {
		return hinted(err, "an agent runs, but does not answer on "+cfg.API.Socket+": name its socket with --socket")
	}
	if err != nil {
		return err
	}
	o := outcome{Runs: r.Runs, Held: r.Held, Waiting: r.Waiting, NoStore: r.NoStore}
	if o.Runs == nil {
		o.Runs = []status.Run{}
	}
	if o.Waiting == nil {
		o.Waiting = []string{}
	}
	return a.onceDone(o)
}

func (a *app) onceDone(o outcome) error {
	if err := a.print(o, func(w io.Writer) error { return onceText(w, o, a.width()) }); err != nil {
		return err
	}
	for _, r := range o.Runs {
		if r.Result != "ok" {
			return exit(exitFailed)
		}
	}
	switch {
	case o.NoStore:
		return failed(exitUnreachable, "", "the store does not answer, and there is no replica")
	case o.Held != "":
		return failed(exitWaiting, "see `listener explain`, or try again later", "something is due, and held by %s", o.Held)
	case len(o.Waiting) > 0:
		return failed(exitWaiting, "see `listener check` and `listener resolve SERVICE`", "waiting for something that is not there: %s", list(o.Waiting))
	}
	return nil
}

func onceText(w io.Writer, o outcome, width int) error {
	if len(o.Runs) > 0 {
		return status.RunsText(w, o.Runs, time.Now(), width)
	}
	_, err := fmt.Fprintln(w, "nothing ran")
	return err
}
