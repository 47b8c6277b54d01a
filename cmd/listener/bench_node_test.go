package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
	"golang.org/x/sys/unix"
)

// builtListener is the binary as `make build` makes it.
var builtListener = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "listener-bench-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "listener")
	cmd := exec.Command("make", "-C", "../..", "build", "BIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build listener: %w\n%s", err, out)
	}
	return path, nil
})

func benchBinary(b *testing.B) string {
	b.Helper()
	path, err := builtListener()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

func benchService(i int) string      { return fmt.Sprintf("service-%04d", i) }
func benchKey(service, i int) string { return fmt.Sprintf("S%04d_KEY_%d", service, i) }

// keysEach is how many keys each service of a node requires.
const keysEach = 5

// newNode makes a node's directory: settings, manifests, a store that has all
// values, the binary, and the command. command "" is the stamp alone.
func newNode(b *testing.B, services int, holds bool) (dir string) {
	dir = b.TempDir()
	if err := os.Symlink(benchBinary(b), filepath.Join(dir, "listener")); err != nil {
		b.Fatal(err)
	}
	// Apart from everything that is written: the agent watches the directory
	// of its manifests, and the one above.
	manifests := filepath.Join(dir, "conf", "manifests")
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		b.Fatal(err)
	}
	writeSettings(b, dir, holds)
	var ops []store.Op
	space := store.Space{Prefix: "/listener/v1", Federation: "default"}
	for i := range services {
		var requires []string
		for k := range keysEach {
			key := benchKey(i, k)
			requires = append(requires, fmt.Sprintf("%q: \"{%s}\"", fmt.Sprintf("VAR_%d", k), key))
			ops = append(ops, store.Op{Key: space.Value("", key), Value: fmt.Appendf(nil, "postgres://db-%d.example.com:5432/app%d", i, k)})
		}
		text := fmt.Sprintf("{\"id\": %q, \"run_list\": [%q], \"requires\": {%s}}\n",
			benchService(i), "app::"+benchService(i), strings.Join(requires, ", "))
		if err := os.WriteFile(filepath.Join(manifests, benchService(i)+".json"), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	fillStore(b, dir, ops)
	return dir
}

// writeSettings: nothing delays a run. With holds the command, once it has
// reported, runs on for as long as there is a file DIR/hold.
func writeSettings(b *testing.B, dir string, holds bool) {
	stamp, pipe := benchenv.StampCommand(b, dir), filepath.Join(dir, "stamps")
	command := fmt.Sprintf("[%q, %q]", stamp, pipe)
	if holds {
		command = fmt.Sprintf("[\"/bin/sh\", \"-c\", %q]",
			fmt.Sprintf("%s %s; while [ -e %s ]; do sleep 0.05; done", stamp, pipe, filepath.Join(dir, "hold")))
	}
	text := fmt.Sprintf(`node = "bench"
host = "127.0.0.1"
manifests = ["conf/manifests"]
attributes = []
state_dir = %q
run_dir = %q
[provision]
command = %s
runner = "direct"
[env]
dir = %q
[throttle]
settle = "0s"
min_interval = "0s"
burst = 0
[api]
socket = %q
`, filepath.Join(dir, "state"), runDir(b, dir), command, filepath.Join(dir, "env"), filepath.Join(dir, "sock"))
	if err := os.WriteFile(filepath.Join(dir, "listener.toml"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, d := range []string{"state", "env"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			b.Fatal(err)
		}
	}
}

// runDir makes a directory in memory, as /run/listener is on a real node; dir
// itself is on a disk, as /var/lib and /etc are.
func runDir(b *testing.B, dir string) string {
	const memory = "/dev/shm"
	var fs unix.Statfs_t
	if unix.Statfs(memory, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
		memory := filepath.Join(dir, "run")
		if err := os.Mkdir(memory, 0o700); err != nil {
			b.Fatal(err)
		}
		return memory
	}
	run, err := os.MkdirTemp(memory, "listener-bench-") //nolint:usetesting // in memory, as /run is
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(run) })
	return run
}

// fillStore commits ops to the store of the node in dir.
func fillStore(b *testing.B, dir string, ops []store.Op) {
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "listener.toml")})
	if err != nil {
		b.Fatal(err)
	}
	s, _, err := openStore(cfg, false)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for len(ops) > 0 {
		n := min(len(ops), store.MaxOps)
		if _, err := s.Commit(context.Background(), nil, ops[:n]...); err != nil {
			b.Fatal(err)
		}
		ops = ops[n:]
	}
}
