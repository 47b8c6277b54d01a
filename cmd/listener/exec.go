package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// The exit codes of env(1) for a command that cannot be started.
const (
	exitNotExecutable = 126
	exitNoCommand     = 127
)

// execOptions are the flags of exec.
type execOptions struct {
	service string
	argv    []string

	restart   bool
	signal    string
	hold      bool
	killAfter time.Duration
}

func (a *app) execCmd() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec SERVICE -- COMMAND [ARG…]",
		Short: "run a command with the environment of a service",
		Long: `Run a command with the environment of a service as it is now, one consistent
snapshot: from the agent, else from manifests, attributes and store. It is added to
the present environment. The command takes the place of listener, unless:

--restart ends it when the environment changes (SIGTERM, after --kill-after SIGKILL)
and starts it anew; --signal HUP only tells it. Many changes are one restart:
throttle.settle, settle_max and min_interval of the settings count. When the agent or
the store is away, the command lives on with what it has.

--hold keeps provisions away while it runs, for a long task whose environment must
not change underneath. It needs the agent, and waits for a run in progress.

With one of these listener stays as the parent, fit to be process 1 of a container:
it passes signals on, reaps what others left, and ends as the command does, with 128
and the signal's number when a signal ended it.

Exits 3 when there is no such service, 75 when the service waits for something, 126
and 127 when the command cannot be started.`,
		Example: "  listener exec app-www -- env\n  listener exec app-www --restart -- /usr/sbin/app\n  listener exec app-www --hold -- ./migrate.sh",
		Args: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 1 || len(args) < 2 || args[1] == "" {
				return hinted(errors.New("exec takes SERVICE, -- and a command"), "write `listener exec SERVICE -- COMMAND`")
			}
			return nil
		},
		ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			o.service, o.argv = args[0], args[1:]
			return a.exec(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&o.restart, "restart", false, "start the command anew when the environment changes")
	c.Flags().StringVar(&o.signal, "signal", "", "send this `SIGNAL`, such as HUP, when the environment changes")
	c.Flags().BoolVar(&o.hold, "hold", false, "keep provisions away while the command runs")
	c.Flags().DurationVar(&o.killAfter, "kill-after", 10*time.Second, "from SIGTERM to SIGKILL")
	return c
}

// signalNumber reads HUP, SIGHUP or 1.
func signalNumber(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if s := unix.SignalNum(name); s != 0 {
		return s, nil
	}
	return 0, failed(exitUsage, "write a name such as HUP or USR1", "there is no signal %q", text)
}

func (a *app) exec(ctx context.Context, o execOptions) error {
	var sig syscall.Signal
	switch {
	case o.restart && o.signal != "":
		return failed(exitUsage, "", "give either --restart or --signal")
	case o.killAfter <= 0:
		return failed(exitUsage, "write a time such as 10s", "--kill-after %s is no time to come", o.killAfter)
	case o.signal != "":
		var err error
		if sig, err = signalNumber(o.signal); err != nil {
			return err
		}
	}
	// What goes on beside the command ends with it, not with a signal to us.
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if o.hold {
		if err := a.hold(ctx, beside, o); err != nil {
			return err
		}
	}
	src, err := a.environmentSource(ctx, o.service)
	if err != nil {
		return err
	}
	env, err := src.now(ctx)
	if err != nil {
		return err
	}
	if env.State == "waiting" {
		return failed(exitWaiting, "see `listener explain`", "service %s waits for %s", o.service, strings.Join(env.Waiting, ", "))
	}
	if !o.restart && o.signal == "" && !o.hold {
		src.close()
		path, environ, err := a.command(o, env)
		if err != nil {
			return err
		}
		return cannotStart(o.argv[0], syscall.Exec(path, o.argv, environ))
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	p := &parent{a: a, o: o, signal: sig, throttle: cfg.Throttle, envs: make(chan status.Environment, 1)}
	if o.restart || sig != 0 {
		go src.follow(beside, p.changed)
	}
	code, err := p.run(env)
	if err != nil {
		return err
	}
	return exit(code)
}

// command finds what to start with env: the path, and the whole environment.
func (a *app) command(o execOptions, env status.Environment) (path string, environ []string, err error) {
	all := map[string]string{}
	for _, kv := range a.environ {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	maps.Copy(all, env.Vars)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		environ = append(environ, name+"="+all[name])
	}
	// The command is looked for where it itself would look.
	if err := os.Setenv("PATH", all["PATH"]); err != nil {
		return "", nil, err
	}
	path, err = exec.LookPath(o.argv[0])
	if errors.Is(err, exec.ErrDot) {
		err = nil // PATH says so, and env(1) does it
	}
	if err != nil {
		return "", nil, cannotStart(o.argv[0], err)
	}
	return path, environ, nil
}

// cannotStart gives the exit code of env(1).
func cannotStart(name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return failed(exitNoCommand, "", "%s: there is no such command", name)
	}
	if inner, ok := errors.AsType[*exec.Error](err); ok {
		err = inner.Err
	}
	return failed(exitNotExecutable, "", "%s: %w", name, err)
}

// holdRetry is how often a hold is asked for again when the agent is away.
const holdRetry = time.Second

// hold returns when no provision is in progress any more and none will start
// until beside ends. When the agent goes away it is asked again.
func (a *app) hold(ctx, beside context.Context, o execOptions) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	req := api.HoldRequest{Who: a.who(), Service: o.service, Command: filepath.Base(o.argv[0]), PID: os.Getpid()}
	held, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		away := true
		err := cl.Hold(beside, req, func() { away = false; held <- struct{}{} })
		if ended <- err; away {
			return // it never began
		}
		for beside.Err() == nil {
			if !away {
				a.note("the agent is away, nothing is held until it is back: %v", err)
			}
			away = true
			rest(beside, holdRetry)
			err = cl.Hold(beside, req, func() {
				away = false
				a.note("provisions are held again")
			})
		}
	}()
	select {
	case <-held:
		return nil
	case err := <-ended:
		return fmt.Errorf("hold: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}
