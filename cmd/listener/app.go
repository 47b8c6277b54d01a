package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// app is what all commands share: the streams, the environment and the
// global flags.
type app struct {
	stdio
	environ []string

	configPath string
	socketFlag string
	storeFlag  string
	settings   []string // --set NAME=VALUE
	output     string

	// started: the command line was understood, so an error is not a usage error.
	started bool
}

func (a *app) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.configPath, "config", "", "settings `FILE` (LISTENER_CONFIG; "+config.DefaultPath+")")
	f.StringVar(&a.socketFlag, "socket", "", "the agent's socket `PATH` (LISTENER_SOCKET; api.socket of the settings)")
	f.StringVar(&a.storeFlag, "store", "", "store `URL`, such as local:DIR (LISTENER_STORE; the agent, then [store])")
	f.StringArrayVar(&a.settings, "set", nil, "one setting as `NAME=VALUE`, such as throttle.settle=0s")
	f.StringVarP(&a.output, "output", "o", "text", "`FORMAT` of the output: text or json")
	// The flag is there, so this cannot fail.
	_ = root.RegisterFlagCompletionFunc("output", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return formatsOf(c), cobra.ShellCompDirectiveNoFileComp
	})
}

// before runs when the command line was parsed.
func (a *app) before(c *cobra.Command, _ []string) error {
	if have := formatsOf(c); !slices.Contains(have, a.output) {
		return hinted(fmt.Errorf("there is no output format %q", a.output), "write -o "+strings.Join(have, " or -o "))
	}
	for _, s := range a.settings {
		if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
			return hinted(fmt.Errorf("--set %s is not NAME=VALUE", s), "write --set throttle.settle=0s")
		}
	}
	a.started = true
	return nil
}

// formats is the annotation of a command that has more than text and JSON.
const formats = "formats"

func formatsOf(c *cobra.Command) []string {
	if list := c.Annotations[formats]; list != "" {
		return strings.Fields(list)
	}
	return []string{"text", "json"}
}

func (a *app) json() bool { return a.output == "json" }

func (a *app) env(name string) string {
	for _, kv := range a.environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// configOptions is where settings come from on this command line.
func (a *app) configOptions() config.Options {
	flags := map[string]string{}
	for _, s := range a.settings {
		name, value, _ := strings.Cut(s, "=")
		flags[name] = value
	}
	if a.storeFlag != "" {
		flags["store"] = a.storeFlag
	}
	if s := a.namedSocket(); s != "" {
		flags["socket"] = s
	}
	return config.Options{Path: a.configPath, Environ: a.environ, Flags: flags}
}

func (a *app) config() (*config.Config, error) { return config.Load(a.configOptions()) }

// namedSocket is the socket that the user named, "" for none.
func (a *app) namedSocket() string { return cmp.Or(a.socketFlag, a.env("LISTENER_SOCKET")) }

// connect reaches the agent. Settings that are broken do not keep an operator
// from asking an agent that runs with good ones.
func (a *app) connect() (*api.Client, error) {
	socket := a.namedSocket()
	var bad error
	if socket == "" {
		cfg, err := a.config()
		if bad = err; err != nil {
			cfg = config.Default()
		}
		socket = cfg.API.Socket
	}
	c, err := api.Dial(socket)
	switch {
	case err == nil:
		return c, nil
	case bad != nil:
		return nil, errors.Join(bad, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, hinted(err, "only root and the group of the socket may ask the agent (api.group, api.mode)")
	}
	return nil, hinted(err, "start one with `listener agent`, or name the socket with --socket or LISTENER_SOCKET")
}

// print writes v as JSON, or text.
func (a *app) print(v any, text func(w io.Writer) error) error {
	if a.json() {
		return a.printJSON(v)
	}
	return text(a.out)
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// note tells the user what is not the command's output.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, "listener: "+format+"\n", args...)
}

// width of the terminal: COLUMNS, else what the terminal says, 0 for none.
func (a *app) width() int {
	if n, err := strconv.Atoi(a.env("COLUMNS")); err == nil && n >= 40 {
		return n
	}
	f, ok := a.out.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return max(int(size.Col), 40)
}

func terminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
