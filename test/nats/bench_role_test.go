package nats_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/listener-agent/listener/listener"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Fleets are processes of their own: this test's program, started again.
const (
	fleetKind = "LISTENER_BENCH_FLEET" // bare, stores or agents
	fleetSize = "LISTENER_BENCH_SIZE"
	fleetURL  = "LISTENER_BENCH_URL"
	fleetDir  = "LISTENER_BENCH_DIR" // of the nodes: 0, 1, …
)

// benchKey is the one that changes.
func benchKey() string { return space.Value("", "S0000_KEY_0") }

// bareKey is where another program finds it.
func bareKey(key string) string { return strings.ReplaceAll(key[1:], "/", ".") }

// fleet runs the members of a fleet, and says when all are ready.
func fleet(kind string) error {
	n, err := strconv.Atoi(os.Getenv(fleetSize))
	if err != nil {
		return err
	}
	member := map[string]func(context.Context, string, string) error{"bare": bareMember, "stores": storeMember, "agents": agentMember}[kind]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the benchmark closes it
		cancel()
	}()
	var all sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		all.Go(func() { errs <- member(ctx, filepath.Join(os.Getenv(fleetDir), strconv.Itoa(i)), os.Getenv(fleetURL)) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// bareMember is the floor: an ordered consumer, then fork and exec.
func bareMember(ctx context.Context, dir, url string) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	nc, err := client.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	c, err := js.OrderedConsumer(ctx, "KV_listener", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"$KV.listener." + bareKey(benchKey())}, DeliverPolicy: jetstream.DeliverLastPolicy,
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	run, err := c.Consume(func(jetstream.Msg) {
		if err := forkExec(cfg); err != nil {
			failed <- err
		}
	})
	if err != nil {
		return err
	}
	defer run.Stop()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	return err
}

func forkExec(cfg *config.Config) error {
	pid, err := syscall.ForkExec(cfg.Provision.Command[0], cfg.Provision.Command, &syscall.ProcAttr{Dir: "/"})
	if err == nil {
		_, err = syscall.Wait4(pid, nil, 0, nil)
	}
	return err
}

// storeMember is the same with the watch of an agent.
func storeMember(ctx context.Context, dir, url string) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	s := nats.Open(nats.Options{Servers: []string{url}, Bucket: "listener"})
	defer s.Close()
	for u := range s.Watch(ctx, benchKey()) {
		if u.Kind == store.Lost {
			return u.Err
		}
		if err := forkExec(cfg); err != nil {
			return err
		}
	}
	return nil
}

// agentMember is the whole agent but for its API, supervised by the real binary.
func agentMember(ctx context.Context, dir, url string) error {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s := nats.Open(nats.Options{Servers: []string{url}, Bucket: "listener"})
	defer s.Close()
	a, err := listener.New(listener.Options{
		Config: cfg, Store: s, Exe: filepath.Join(dir, "listener"), Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// startFleet starts one; it ends with the benchmark.
func startFleet(b *testing.B, kind, url, dir string, n int) {
	b.Helper()
	exe, err := os.Executable()
	must(b, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fleetKind+"="+kind, fleetSize+"="+strconv.Itoa(n), fleetURL+"="+url, fleetDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", kind, err)
		}
	})
}

// benchNodes makes the directories of n nodes whose command is stamp with pipe
// and more arguments, with services that name five keys each. Those of several
// nodes are in memory.
func benchNodes(b *testing.B, stamp, pipe, url string, n, services int, more ...string) (dir string) {
	b.Helper()
	exe, err := builtBinary()
	must(b, err)
	dir = b.TempDir()
	run, err := os.MkdirTemp("/dev/shm", "listener-bench-") //nolint:usetesting // in memory, as /run is
	if err != nil {
		run = b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(run) })
	if n > 1 {
		dir, run = run, filepath.Join(run, "run")
		must(b, os.Mkdir(run, 0o700))
	}
	command := `"` + strings.Join(append([]string{stamp, pipe}, more...), `", "`) + `"`
	for i := range n {
		d := filepath.Join(dir, strconv.Itoa(i))
		for _, sub := range []string{"conf/manifests", "state", "env"} {
			must(b, os.MkdirAll(filepath.Join(d, sub), 0o700))
		}
		must(b, os.Symlink(exe, filepath.Join(d, "listener")))
		own := filepath.Join(run, strconv.Itoa(i))
		must(b, os.Mkdir(own, 0o700))
		write(b, filepath.Join(d, "listener.toml"), []byte(fmt.Sprintf(benchSettings, i, filepath.Join(d, "state"), own, url, command,
			filepath.Join(d, "env"), filepath.Join(d, "sock"))))
		for s := range services {
			var requires []string
			for k := range 5 {
				requires = append(requires, fmt.Sprintf("\"VAR_%d\": \"{S%04d_KEY_%d}\"", k, s, k))
			}
			id := fmt.Sprintf("service-%04d", s)
			write(b, filepath.Join(d, "conf/manifests", id+".json"),
				[]byte(fmt.Sprintf("{\"id\": %q, \"run_list\": [\"app::x\"], \"requires\": {%s}}\n", id, strings.Join(requires, ", "))))
		}
	}
	return dir
}

const benchSettings = `node = "bench%d"
host = "127.0.0.1"
manifests = ["conf/manifests"]
attributes = []
state_dir = %q
run_dir = %q
[store]
kind = "nats"
[store.nats]
servers = [%q]
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
`

// benchValues puts the values of all keys.
func benchValues(b *testing.B, s store.Store, services int) {
	b.Helper()
	for i := range services {
		var ops []store.Op
		for k := range 5 {
			key := fmt.Sprintf("S%04d_KEY_%d", i, k)
			ops = append(ops, store.Put(space.Value("", key), fmt.Appendf(nil, "postgres://db-%d.example.com:5432/app%d", i, k)))
		}
		commit(b, s, nil, ops...)
	}
}

// startBinary starts the real agent of a node.
func startBinary(b *testing.B, dir string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command(filepath.Join(dir, "listener"), "agent", "--config", filepath.Join(dir, "listener.toml"))
	cmd.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	must(b, err)
	defer log.Close()
	cmd.Stderr = log
	must(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd
}
