// Command listener is a node agent and its command line: it watches a
// configuration store for what this node's services require, and provisions
// the node when something changed.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker, see the Makefile.
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, os.Environ()))
}

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit code.
func run(args []string, std stdio, environ []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends us at once; but timeout(1) and the like send one
	// signal twice, to us and to our group, and that is one.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	a := &app{stdio: std, environ: environ}
	root := a.root()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usage(c, err)
	}
	return a.fail(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "listener",
		Short: "provision this node when what its services require has changed",
		Long: `listener watches a configuration store for the values that this node's services
require, collapses any number of changes into one pending run, and provisions
the node with your own command.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 version conflict, 5 store or
agent unreachable, 75 waiting, 78 bad settings or manifests.`,
		Example:           "  listener dev examples\n  listener status\n  listener put PRIMARY_DATABASE_URL postgres://db1/app",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.before,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.flags(root)
	for _, g := range a.groups() {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("Files:")
	return root
}

type group struct {
	title    string
	commands []*cobra.Command
}

func (a *app) groups() []group {
	return []group{
		{"The agent:", []*cobra.Command{a.agentCmd(), a.devCmd(), a.onceCmd()}},
		{"Steering it:", []*cobra.Command{a.onCmd(), a.offCmd(), a.provisionCmd(), a.drainCmd(), a.undrainCmd(), a.reloadCmd(), a.acceptCmd()}},
		{"Asking it:", []*cobra.Command{a.statusCmd(), a.explainCmd(), a.runsCmd(), a.logsCmd(), a.resolveCmd()}},
		{"Asking the fleet:", []*cobra.Command{a.providersCmd(), a.nodesCmd(), a.graphCmd()}},
		{"Using it:", []*cobra.Command{a.execCmd()}},
		{"Values:", []*cobra.Command{a.getCmd(), a.putCmd(), a.deleteCmd(), a.listCmd(), a.listgetCmd(), a.watchCmd()}},
		{"Files:", []*cobra.Command{a.checkCmd(), a.renderCmd(), a.schemaCmd(), a.initCmd(), a.configCmd(), a.aclCmd(), a.versionCmd(), a.completionCmd()}},
	}
}
