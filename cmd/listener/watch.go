package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/listener-agent/listener/api"
	"github.com/spf13/cobra"
)

func (a *app) watchCmd() *cobra.Command {
	var (
		reg  string
		show bool
	)
	c := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "print changes of values until Ctrl-C",
		Long: `Print KEY=value for each value that is written and "KEY deleted" for each that is
removed. Values that follow each other quickly may be skipped, the newest never is.
With -o json one object per line: {kind: reset|change|lost, values, gone}.`,
		Example: "  listener watch\n  listener watch PRIMARY_ --show-present\n  listener watch -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.withValues(false, func(v values) error {
				w := &watcher{a: a, show: show}
				return v.Watch(c.Context(), reg, first(args), w.update)
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	region(c, &reg)
	c.Flags().BoolVar(&show, "show-present", false, "print first what is there now")
	return c
}

// watcher prints the difference between what it was told.
type watcher struct {
	a     *app
	show  bool // the first state counts as a change
	known map[string]string
}

func (w *watcher) update(u api.ValueUpdate) error {
	if w.a.json() {
		e := json.NewEncoder(w.a.out)
		e.SetEscapeHTML(false)
		return e.Encode(u)
	}
	switch u.Kind {
	case "lost":
		w.a.note("the link to the store is lost: %s", u.Error)
		return nil
	case "reset":
		return w.reset(u)
	}
	for _, g := range u.Gone {
		if err := w.gone(g.Key); err != nil {
			return err
		}
	}
	return w.written(u.Values)
}

// reset is the whole state: what is known and not in it is gone.
func (w *watcher) reset(u api.ValueUpdate) error {
	if w.known == nil {
		w.known = map[string]string{}
		if !w.show {
			for _, v := range u.Values {
				w.known[v.Key] = v.Value
			}
			w.a.note("watching; %d values are there", len(u.Values))
			return nil
		}
	}
	there := map[string]bool{}
	for _, v := range u.Values {
		there[v.Key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(w.known)) {
		if there[key] {
			continue
		}
		if err := w.gone(key); err != nil {
			return err
		}
	}
	return w.written(u.Values)
}

func (w *watcher) gone(key string) error {
	delete(w.known, key)
	return w.a.printf("%s deleted\n", key)
}

func (w *watcher) written(values []api.Value) error {
	for _, v := range values {
		if old, ok := w.known[v.Key]; ok && old == v.Value {
			continue
		}
		w.known[v.Key] = v.Value
		if err := w.a.printf("%s=%s\n", v.Key, v.Value); err != nil {
			return err
		}
	}
	return nil
}
