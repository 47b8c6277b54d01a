package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/listener-agent/listener/graph"
	"github.com/listener-agent/listener/status"
)

// checkFleet checks files as check does, then the fleet. The worst finding is
// the exit code.
func (a *app) checkFleet(ctx context.Context, paths []string) error {
	in, k, noStore, err := a.fleetInput(ctx, paths)
	if err != nil {
		return err
	}
	if noStore != nil {
		return noStore
	}
	k.Fleet = graph.Check(in)
	if err := a.print(k.report, func(w io.Writer) error { return k.fleetText(w, in) }); err != nil {
		return err
	}
	is := func(kind, severity string) bool {
		return slices.ContainsFunc(k.Fleet, func(f graph.Finding) bool { return f.Kind == kind && f.Severity == severity })
	}
	switch n := len(k.Problems); {
	case n > 0:
		return failed(exitSettings, "", "%s found", problemCount(n))
	case is("cycle", "error"):
		return failed(exitSettings, "`listener graph` shows it", "services of this node wait for each other")
	case is("missing", "error"):
		return failed(exitWaiting, "`listener graph` shows who requires what from whom", "keys are required that nothing provides")
	}
	return nil
}

func (k *checker) fleetText(w io.Writer, in graph.Input) error {
	for _, p := range k.Problems {
		if _, err := fmt.Fprintln(w, p.line); err != nil {
			return err
		}
	}
	for _, f := range k.Fleet {
		key := f.Key
		if key != "" {
			key = " " + key
		}
		if _, err := fmt.Fprintf(w, "%s: federation %s, region %s: %s%s: %s (%s)\n", f.Severity, f.Federation, f.Region, f.Kind, key, f.Text, f.Hint); err != nil {
			return err
		}
	}
	if len(k.Problems)+len(k.Fleet) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "ok: %s of node %s, %s and %s of the federation %s\n",
		status.Count(len(in.Manifests), "service"), in.Node, status.Count(len(in.Fleet.Providers), "provider"),
		status.Count(len(in.Fleet.Nodes), "node"), in.Federation)
	return err
}
