package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/render"
	"github.com/listener-agent/listener/store"
	"github.com/spf13/cobra"
)

// rendered is one file that an agent would write.
type rendered struct {
	Service string `json:"service"`
	Path    string `json:"path"`
	Data    string `json:"data"`
}

// environment is one service with its variables; Missing: it waits.
type environment struct {
	id      string
	paths   []string // where it is written
	vars    []render.Var
	missing []string
}

func (a *app) renderCmd() *cobra.Command {
	var offline bool
	c := &cobra.Command{
		Use:   "render [SERVICE]",
		Short: "print the environment files that the agent would write",
		Long: `Print the environment files of all services, or of one, as the agent would write
them now. Values are shown, secrets too. Without an agent, or with --offline, they
come from the manifests, the attributes and the store; what the agent remembers
(last known good values) is then not known. A service that lacks something is
named on standard error, and the exit code is 75.`,
		Example:           "  listener render app-www\n  listener render --offline --store local:/tmp/store\n  listener render -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			envs, err := a.environments(c.Context(), cfg, first(args), offline)
			if err != nil {
				return err
			}
			return a.rendered(cfg, envs)
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "do not ask the agent")
	return c
}

// environments asks the agent, else resolves here.
func (a *app) environments(ctx context.Context, cfg *config.Config, id string, offline bool) ([]environment, error) {
	if !offline && a.storeFlag == "" {
		c, err := a.connect()
		if err == nil {
			defer c.Close()
			return fromAgent(ctx, c, id)
		}
		if a.namedSocket() != "" || !noAgent(err) {
			return nil, err
		}
	}
	o, err := a.offline(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return o.environments(id)
}

func fromAgent(ctx context.Context, c *api.Client, id string) ([]environment, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	var out []environment
	for _, s := range st.Services {
		if id != "" && s.ID != id {
			continue
		}
		vars, err := c.Resolve(ctx, s.ID, true)
		if err != nil {
			return nil, err
		}
		env := environment{id: s.ID, paths: s.Files}
		if s.State == "waiting" {
			env.missing = s.Waiting
		}
		for _, v := range vars {
			if v.Present {
				env.vars = append(env.vars, render.Var{Name: v.Name, Value: v.Value})
			}
		}
		out = append(out, env)
	}
	return out, known(id, out)
}

func known(id string, envs []environment) error {
	if id != "" && len(envs) == 0 {
		return fmt.Errorf("service %s: %w", id, store.ErrNotFound)
	}
	return nil
}

// rendered prints the files, and then says what could not be rendered.
func (a *app) rendered(cfg *config.Config, envs []environment) error {
	files := []rendered{}
	var errs []error
	for _, e := range envs {
		if len(e.missing) > 0 {
			errs = append(errs, failed(exitWaiting, "", "service %s waits for %s", e.id, list(e.missing)))
			continue
		}
		paths := e.paths
		if paths == nil {
			for _, format := range cfg.Env.Formats {
				paths = append(paths, render.EnvPath(cfg.Env.Dir, e.id, format))
			}
		}
		for _, path := range paths {
			data, err := render.Env(render.FormatOf(path), e.vars)
			if err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", e.id, err))
				continue
			}
			files = append(files, rendered{Service: e.id, Path: path, Data: string(data)})
		}
	}
	err := a.print(files, func(w io.Writer) error {
		for _, f := range files {
			if _, err := fmt.Fprintf(w, "# %s\n%s", f.Path, f.Data); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
