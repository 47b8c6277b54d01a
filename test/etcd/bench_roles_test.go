package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/listener"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The floor and the agents are processes of their own: this program, started
// again in a role, or the real binary.
const (
	benchRole  = "LISTENER_BENCH_ROLE" // bare, survivors, standby or agents
	benchDir   = "LISTENER_BENCH_DIR"  // with a directory for each agent
	benchCount = "LISTENER_BENCH_COUNT"
	benchURL   = "LISTENER_BENCH_ETCD"
)

// benchBinary is the real one, as `make build` makes it.
var benchBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "listener-bench-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("make", "-C", "../..", "build", "BIN="+dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "listener"), nil
})

// followers are processes that wait for a key of one etcd and start a command.
type followers struct {
	dir    string
	stamps benchenv.Stamps
	cmd    *exec.Cmd
	in     io.Closer
}

// newFollowers makes the directory of n of them, each with a node whose
// services require keys.
func newFollowers(b *testing.B, url string, n, keys int) *followers {
	b.Helper()
	return newFollowersIn(b, "", url, n, keys)
}

// newFollowersIn makes it in a directory of its own in root ("" the usual one),
// for the command with more arguments.
func newFollowersIn(b *testing.B, root, url string, n, keys int, more ...string) *followers {
	b.Helper()
	dir, err := os.MkdirTemp(root, "lb") //nolint:usetesting // short: a socket's path must fit
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	f := &followers{dir: dir}
	f.stamps, err = benchenv.OpenStamps(filepath.Join(dir, "stamps"))
	must(b, err)
	bin, err := benchBinary()
	must(b, err)
	must(b, os.Symlink(bin, filepath.Join(dir, "listener")))
	stamp := benchenv.StampCommand(b, dir)
	for i := range n {
		writeNode(b, filepath.Join(dir, strconv.Itoa(i)), url, append([]string{stamp, filepath.Join(dir, "stamps")}, more...), keys)
	}
	return f
}

func benchKey(i int) string { return fmt.Sprintf("KEY_%04d", i) }

// writeNode: nothing delays a run.
func writeNode(b *testing.B, dir, url string, command []string, keys int) {
	b.Helper()
	const each = 5
	for _, d := range []string{"service", "state", "env"} {
		must(b, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	run, err := os.MkdirTemp("/dev/shm", "listener-bench-") //nolint:usetesting // in memory, as /run is
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(run) })
	for from := 0; from < keys; from += each {
		var requires []string
		for i := from; i < min(keys, from+each); i++ {
			requires = append(requires, fmt.Sprintf("\"V%d\": \"{%s}\"", i-from, benchKey(i)))
		}
		id := fmt.Sprintf("service-%04d", from/each)
		must(b, os.WriteFile(filepath.Join(dir, "service", id+".json"), fmt.Appendf(nil, "{\"id\": %q, \"requires\": {%s}}", id, strings.Join(requires, ", ")), 0o600))
	}
	text := fmt.Sprintf(`node = %q
host = "127.0.0.1"
manifests = ["service"]
attributes = []
state_dir = %q
run_dir = %q
[store]
kind = "etcd"
[store.etcd]
endpoints = [%q]
[provision]
command = [%s]
runner = "direct"
[env]
dir = %q
[throttle]
settle = "0s"
min_interval = "0s"
burst = 0
[api]
socket = %q
`, "bench"+filepath.Base(dir), filepath.Join(dir, "state"), run, url, `"`+strings.Join(command, `", "`)+`"`, filepath.Join(dir, "env"), filepath.Join(dir, "s"))
	must(b, os.WriteFile(filepath.Join(dir, "listener.toml"), []byte(text), 0o600))
}

// start starts them in a role; they end with the benchmark.
func (f *followers) start(b *testing.B, role, url string, n int) {
	b.Helper()
	self, err := os.Executable()
	must(b, err)
	f.cmd = exec.Command(self)
	f.cmd.Env = append(os.Environ(), benchRole+"="+role, benchDir+"="+f.dir, benchCount+"="+strconv.Itoa(n), benchURL+"="+url)
	f.launch(b)
}

// startAgent starts the real binary.
func (f *followers) startAgent(b *testing.B) {
	b.Helper()
	f.cmd = exec.Command(filepath.Join(f.dir, "listener"), "agent", "--config", filepath.Join(f.dir, "0", "listener.toml"))
	f.launch(b)
	f.started(b, 1)
}

func (f *followers) launch(b *testing.B) {
	b.Helper()
	log, err := os.Create(filepath.Join(f.dir, "log"))
	must(b, err)
	defer log.Close()
	f.cmd.Stderr, f.cmd.Stdout = log, log
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := f.cmd.StdinPipe()
	must(b, err)
	f.in = in
	must(b, f.cmd.Start())
	b.Cleanup(f.end)
}

func (f *followers) end() {
	if f.cmd == nil {
		return
	}
	f.in.Close()
	_ = f.cmd.Process.Signal(syscall.SIGTERM)
	_ = f.cmd.Wait()
	_ = f.stamps.Close()
	f.cmd = nil
}

// started waits until n commands have started and returns when the last did.
func (f *followers) started(b *testing.B, n int) (last int64) {
	b.Helper()
	for range n {
		at, err := f.stamps.Next()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(f.dir, "log"))
			b.Fatalf("no command started: %v\n%s", err, log)
		}
		last = max(last, int64(at))
	}
	return last
}

// playBench is the process of a role.
func playBench(role string) error {
	n, err := strconv.Atoi(os.Getenv(benchCount))
	if err != nil {
		return err
	}
	if role == "standby" {
		return bareStandby()
	}
	play := map[string]func(context.Context, string) error{"bare": bareFollower, "survivors": survivorFollower, "agents": agentFollower}[role]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	ended := make(chan error, n)
	for i := range n {
		go func() { ended <- play(ctx, filepath.Join(os.Getenv(benchDir), strconv.Itoa(i))) }()
	}
	var all error
	for range n {
		all = errors.Join(all, <-ended)
	}
	return all
}

// bareFollower waits with etcd's own client, then forks and execs. Like an
// agent it starts the command once at its start.
func bareFollower(ctx context.Context, dir string) error {
	return bareWatch(ctx, dir, func(command []string) error {
		pid, err := syscall.ForkExec(command[0], command, &syscall.ProcAttr{Dir: "/"})
		if err != nil {
			return err
		}
		_, err = syscall.Wait4(pid, nil, 0, nil)
		return err
	})
}

// survivorFollower is a bareFollower whose command outlives it: a process that
// waits forks and execs in its place. It writes nothing down.
func survivorFollower(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	standby := exec.Command(self)
	standby.Env = append(os.Environ(), benchRole+"=standby", "GOMAXPROCS=1")
	in, err := standby.StdinPipe()
	if err != nil {
		return err
	}
	out, err := standby.StdoutPipe()
	if err != nil {
		return err
	}
	if err := standby.Start(); err != nil {
		return err
	}
	ended := bufio.NewReader(out)
	err = bareWatch(ctx, dir, func(command []string) error {
		if _, err := fmt.Fprintln(in, strings.Join(command, " ")); err != nil {
			return err
		}
		_, err := ended.ReadString('\n')
		return err
	})
	return errors.Join(err, in.Close(), standby.Wait())
}

// bareStandby runs a command for each line of its input and answers when it ended.
func bareStandby() error {
	var line []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(0, buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		if line = append(line, buf[:n]...); line[len(line)-1] != '\n' {
			continue
		}
		command := strings.Fields(string(line))
		line = line[:0]
		pid, err := syscall.ForkExec(command[0], command, &syscall.ProcAttr{Dir: "/", Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			return err
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
		if _, err := syscall.Write(1, []byte("ended\n")); err != nil {
			return err
		}
	}
}

func bareWatch(ctx context.Context, dir string, run func(command []string) error) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv(benchURL)}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer c.Close()
	key := store.Space{Prefix: cfg.Store.Prefix, Federation: "default"}.Value("", benchKey(0))
	for range c.Watch(ctx, key, clientv3.WithCreatedNotify()) {
		if err := run(cfg.Provision.Command); err != nil {
			return err
		}
	}
	return nil
}

// agentFollower is the whole agent but for its API, supervised by the real
// binary.
func agentFollower(ctx context.Context, dir string) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	s, err := etcd.Open(etcd.Options{Endpoints: cfg.Store.Etcd.Endpoints})
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := listener.New(listener.Options{
		Config: cfg, Store: s, Exe: filepath.Join(filepath.Dir(dir), "listener"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
