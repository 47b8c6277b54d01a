package main_test

import (
	"bytes"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/local"
)

// direct keeps the tests from starting units of this machine's systemd.
const direct = "LISTENER_CFG_PROVISION__RUNNER=direct"

// system is one node as an operator has it: the real binary, settings,
// manifests, a local store and a command, all in a directory of their own.
type system struct {
	t   *testing.T
	dir string // short: a unix socket's path must fit
	bin string // a name of the binary that only this node's processes have

	settings map[string]string // TOML values by "table.name"; written at each start
	agent    *agentProc        // nil: none was started
	puts     int               // of goesOn
}

// agentProc is one agent process.
type agentProc struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it was waited for
}

// buildListener builds the binary once for all tests, with the race detector
// if the tests have it, and returns what is in it.
var buildListener = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "listener-bin-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "listener")
	args := append([]string{"build", "-o", path}, raceFlags...)
	out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(path)
})

// newSystem makes a node with short times whose command succeeds and appends
// its run id to the file runs.
func newSystem(t *testing.T) *system {
	t.Helper()
	built, err := buildListener()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ls") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t: t, dir: dir, bin: filepath.Join(dir, "listener")}
	t.Cleanup(s.cleanup)
	s.writeMode(s.bin, string(built), 0o755)
	for _, d := range []string{"service", "state", "run", "env"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.settings = map[string]string{
		"node": `"n1"`, "host": `"10.0.0.1"`,
		"manifests": quoteList(s.path("service")), "attributes": quoteList(s.path("attributes.toml")),
		"state_dir": strconv.Quote(s.path("state")), "run_dir": strconv.Quote(s.path("run")),
		"provision.timeout": `"20s"`, "provision.kill_after": `"200ms"`,
		"env.dir":         strconv.Quote(s.path("env")),
		"throttle.settle": `"0s"`, "throttle.settle_max": `"0s"`, "throttle.min_interval": `"0s"`, "throttle.burst": "0",
		"retry.base": `"20ms"`, "retry.max": `"100ms"`,
		"api.socket": strconv.Quote(s.socket()),
	}
	s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	return s
}

func quoteList(items ...string) string {
	var q []string
	for _, s := range items {
		q = append(q, strconv.Quote(s))
	}
	return "[" + strings.Join(q, ", ") + "]"
}

func (s *system) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *system) socket() string { return s.path("run", "s") }

// command makes a shell script, with $D the node's directory, the node's command.
func (s *system) command(script string) {
	s.t.Helper()
	s.writeMode(s.path("provision.sh"), "#!/bin/sh\nD='"+s.dir+"'\n"+script+"\n", 0o755)
	s.settings["provision.command"] = quoteList(s.path("provision.sh"))
}

// write replaces a file of the node at once.
func (s *system) write(path, text string) { s.t.Helper(); s.writeMode(path, text, 0o644) }

func (s *system) writeMode(path, text string, mode fs.FileMode) {
	s.t.Helper()
	// A process that is forked now would hold the file open for writing until
	// its exec, and nobody could execute it (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(temp, mode), os.Rename(temp, path)); err != nil {
		s.t.Fatal(err)
	}
}

// manifest writes a service that requires keys as variables of the same name;
// more are further members.
func (s *system) manifest(id, more string, keys ...string) {
	s.t.Helper()
	s.write(s.path("service", id+".json"), manifestText(id, more, keys...))
}

func manifestText(id, more string, keys ...string) string {
	var vars []string
	for _, k := range keys {
		vars = append(vars, fmt.Sprintf("%q: %q", k, "{"+k+"}"))
	}
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"id": %q, "requires": {%s}%s}`, id, strings.Join(vars, ", "), more)
}

// toml is the settings file.
func (s *system) toml() string {
	var top, tables strings.Builder
	last := ""
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		table, key, ok := strings.Cut(name, ".")
		if !ok {
			fmt.Fprintf(&top, "%s = %s\n", name, s.settings[name])
			continue
		}
		if table != last {
			fmt.Fprintf(&tables, "[%s]\n", table)
			last = table
		}
		fmt.Fprintf(&tables, "%s = %s\n", key, s.settings[name])
	}
	return top.String() + tables.String()
}

func (s *system) config() string { return s.path("listener.toml") }

// spawn starts an agent and does not wait for it; edit may change how.
func (s *system) spawn(edit ...func(*exec.Cmd)) *agentProc {
	s.t.Helper()
	s.write(s.config(), s.toml())
	return s.spawnWith(s.config(), edit...)
}

func (s *system) spawnWith(config string, edit ...func(*exec.Cmd)) *agentProc {
	s.t.Helper()
	p := &agentProc{cmd: exec.Command(s.bin, "agent", "--config", config), log: s.path("agent.log"), ended: make(chan struct{})}
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	p.cmd.Stderr, p.cmd.Env = f, []string{"PATH=" + os.Getenv("PATH"), direct}
	for _, e := range edit {
		e(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	return p
}

// start starts the agent and waits until it answers.
func (s *system) start(edit ...func(*exec.Cmd)) {
	s.t.Helper()
	s.agent = s.spawn(edit...)
	s.answers()
}

// answers waits until the agent answers on its socket.
func (s *system) answers() {
	s.t.Helper()
	p := s.agent
	s.until("an agent that answers", func() bool {
		select {
		case <-p.ended:
			s.t.Fatalf("the agent ended: %v", p.cmd.ProcessState)
		default:
		}
		_, err := s.status()
		return err == nil
	})
}

// end sends sig and waits for the agent's end.
func (s *system) end(sig syscall.Signal) *os.ProcessState {
	s.t.Helper()
	p := s.agent
	_ = p.cmd.Process.Signal(sig)
	s.over(p)
	return p.cmd.ProcessState
}

func (s *system) over(p *agentProc) {
	s.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(deadline):
		s.t.Fatalf("agent %d does not end", p.cmd.Process.Pid)
	}
}

// deadline is far beyond what anything here takes on a busy machine.
const deadline = 45 * time.Second

// until waits for a condition.
func (s *system) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			s.t.Fatalf("waited %s for %s\n%s", deadline, what, s.account())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// account is what helps to see why a test failed.
func (s *system) account() string {
	var b bytes.Buffer
	if st, err := s.status(); err == nil {
		_ = st.Text(&b, time.Now(), 0)
	} else {
		fmt.Fprintln(&b, "status:", err)
	}
	log, _ := os.ReadFile(s.path("agent.log"))
	lines := strings.Split(string(log), "\n")
	b.WriteString("log:\n" + strings.Join(lines[max(0, len(lines)-40):], "\n"))
	return b.String()
}

// client speaks to the agent; without one it is an error.
func (s *system) client(do func(context.Context, *api.Client) error) error {
	c, err := api.Dial(s.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(context.Background(), deadline)
	defer stop()
	return do(ctx, c)
}

func (s *system) status() (st status.Status, err error) {
	err = s.client(func(ctx context.Context, c *api.Client) error {
		st, err = c.Status(ctx)
		return err
	})
	return st, err
}

// must is status of an agent that has to answer.
func (s *system) must() status.Status {
	s.t.Helper()
	st, err := s.status()
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *system) put(key, value string) {
	s.t.Helper()
	if err := s.tryPut(key, value); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) tryPut(key, value string) error {
	return s.client(func(ctx context.Context, c *api.Client) error {
		_, err := c.Commit(ctx, "", []api.ValueOp{{Key: key, Value: value}})
		return err
	})
}

// putOffline writes into the store's file; no agent has it open.
func (s *system) putOffline(key, value string) {
	s.t.Helper()
	s.inStore(func(st store.Store) error {
		_, err := st.Commit(s.t.Context(), nil, store.Put(space.Value("", key), []byte(value)))
		return err
	})
}

var space = store.Space{Prefix: "/listener/v1", Federation: "default"}

func (s *system) inStore(do func(store.Store) error) {
	s.t.Helper()
	st, err := local.Open(local.Options{Path: s.path("state", "store.db"), Timeout: 5 * time.Second})
	if err == nil {
		err = errors.Join(do(st), st.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// synced waits until the agent has nothing more to do.
func (s *system) synced() status.Status {
	s.t.Helper()
	var st status.Status
	s.until("synced", func() (ok bool) {
		var err error
		st, err = s.status()
		return err == nil && st.Synced
	})
	return st
}

// applied waits until the environment file of a service holds text and all is synced.
func (s *system) applied(id, text string) {
	s.t.Helper()
	s.until(id+" with "+text, func() bool { return strings.Contains(s.env(id), text) })
	s.synced()
}

func (s *system) env(id string) string {
	data, _ := os.ReadFile(s.path("env", id+".conf"))
	return string(data)
}

// lines of a file that commands append to.
func (s *system) lines(name string) []string {
	data, _ := os.ReadFile(s.path(name))
	return strings.Fields(string(data))
}

// condition waits until status names a condition whose text holds all of words.
func (s *system) condition(name string, words ...string) status.Condition {
	s.t.Helper()
	var found status.Condition
	s.until(fmt.Sprintf("the condition %q with %q", name, words), func() bool {
		st, err := s.status()
		if err != nil {
			return false
		}
		for _, c := range st.Conditions {
			if c.Name == name && hasAll(c.Text+" "+c.Hint, words) {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

// noCondition waits until no condition has this name.
func (s *system) noCondition(name string) {
	s.t.Helper()
	s.until("the end of the condition "+name, func() bool {
		st, err := s.status()
		return err == nil && !slices.ContainsFunc(st.Conditions, func(c status.Condition) bool { return c.Name == name })
	})
}

func hasAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// listener runs the command line against this node.
func (s *system) listener(args ...string) (out string, code int) {
	s.t.Helper()
	return s.listenerAs(nil, args...)
}

func (s *system) listenerAs(cred *syscall.Credential, args ...string) (out string, code int) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), deadline)
	defer stop()
	c := exec.CommandContext(ctx, s.bin, args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "LISTENER_CONFIG=" + s.config(), "LISTENER_SOCKET=" + s.socket(), direct}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	b, err := c.CombinedOutput()
	if err != nil && c.ProcessState == nil {
		s.t.Fatal(err)
	}
	return string(b), c.ProcessState.ExitCode()
}

// proc is a process of the node.
type proc struct {
	pid        int
	supervisor bool
	text       string
}

// processes are those of this node that live: agents and supervisors, which
// have its binary, and commands, whose environment names its directory.
func (s *system) processes() []proc {
	entries, _ := os.ReadDir("/proc")
	var out []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		base := "/proc/" + e.Name()
		exe, _ := os.Readlink(base + "/exe")
		env, _ := os.ReadFile(base + "/environ")
		args, _ := os.ReadFile(base + "/cmdline")
		if exe == "" || exe != s.bin && !bytes.Contains(env, []byte("LISTENER_NODE_JSON="+s.dir+"/")) {
			continue
		}
		out = append(out, proc{
			pid: pid, supervisor: bytes.Contains(args, []byte("\x00supervise-step")),
			text: strings.ReplaceAll(string(args), "\x00", " "),
		})
	}
	return out
}

// cleanup ends what is left and says what the agent's log has against it.
func (s *system) cleanup() {
	for range 100 {
		left := s.processes()
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	log, _ := os.ReadFile(s.path("agent.log"))
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if bytes.Contains(log, []byte(bad)) {
			s.t.Errorf("the agent's log has %q", bad)
		}
	}
	if s.t.Failed() {
		lines := strings.Split(string(log), "\n")
		s.t.Logf("end of the agent's log:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

// newNode makes a system with the service app, which requires K, applied once, and
// an agent that runs.
func newNode(t *testing.T, edit ...func(*system)) *system {
	t.Helper()
	s := newSystem(t)
	for _, e := range edit {
		e(s)
	}
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start()
	s.applied("app", "K='first'")
	return s
}

// goesOn shows that the agent lives and still does its work: a new value of K
// reaches app's environment file, by a run that ends well.
func (s *system) goesOn() {
	s.t.Helper()
	s.puts++
	value := fmt.Sprintf("value-%d", s.puts)
	s.put("K", value)
	s.applied("app", "K='"+value+"'")
	if st := s.must(); st.LastRun == nil || st.LastRun.Result != "ok" {
		s.t.Errorf("the last run did not end well: %+v", st.LastRun)
	}
}

// again ends the agent with sig and starts another one.
func (s *system) again(sig syscall.Signal) {
	s.t.Helper()
	s.end(sig)
	s.start()
}

// run is a subtest on this system.
func (s *system) run(name string, test func(*testing.T)) {
	s.t.Run(name, func(t *testing.T) {
		outer := s.t
		s.t = t
		defer func() { s.t = outer }()
		test(t)
	})
}

// asRoot skips a test that needs root; CI has it.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
