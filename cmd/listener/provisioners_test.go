package main_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
)

// example is a node set up as examples/provisioners/TOOL says, but below a
// directory of its own.
type example struct {
	*system
	tool  tool
	lock  string // that a run by hand holds
	pipe  string // whose end it waits for
	inUse *strings.Replacer
}

// TestProvisioners runs what examples/provisioners has by real agents and, but
// for chef, the real tools.
func TestProvisioners(t *testing.T) {
	for _, tool := range []tool{script, ansible, puppet, chef} {
		t.Run(tool.name, func(t *testing.T) {
			t.Parallel()
			x := newExample(t, tool)
			x.run("changes reach the disk", x.changes)
			x.run("a failed run is tried again", x.failure)
			x.run("a run by hand is waited for", x.hands)
			if tool.more != nil {
				x.run("exit codes", func(*testing.T) { tool.more(x) })
			}
		})
	}
}

func newExample(t *testing.T, tool tool) *example {
	t.Helper()
	for _, p := range tool.programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("left out: %v (scripts/test.sh installs it)", err)
		}
	}
	s := newSystem(t)
	x := &example{system: s, tool: tool, lock: s.path(tool.lock), pipe: s.path("pipe")}
	moved := []string{
		"/etc/listener", s.dir, "/etc/services.d", s.path("env"), "/etc/shop", s.path("shop"),
		"/run/lock", s.path("lock"), "/var/chef", s.path("chef"),
	}
	for from, to := range tool.places {
		moved = append(moved, from, strings.ReplaceAll(to, "$D", s.dir))
	}
	x.inUse = strings.NewReplacer(moved...)
	if err := errors.Join(os.Mkdir(s.path("lock"), 0o755), syscall.Mkfifo(x.pipe, 0o600), os.Mkdir(s.path("conf.d"), 0o755)); err != nil {
		t.Fatal(err)
	}
	x.copyTree(filepath.Join("..", "..", "examples", "provisioners", tool.dir), s.dir)
	// The example's settings are the settings; what a node has beside is above.
	delete(s.settings, "provision.command")
	s.settings["manifests"] = quoteList(s.path("data_bags", "service"))
	if tool.preset {
		s.settings["provision.locks"] = quoteList(x.lock)
	}
	s.write(s.path("conf.d", "test.toml"), s.toml())
	if tool.prepare != nil {
		tool.prepare(x)
	}
	s.putOffline("PRIMARY_DATABASE_URL", hostile+"1")
	s.agent = s.spawnWith(s.config())
	s.answers()
	return x
}

// copyTree copies an example to where it is used.
func (x *example) copyTree(from, to string) {
	x.t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		data, err := os.ReadFile(path)
		info, err2 := d.Info()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		x.writeMode(at, x.inUse.Replace(string(data)), info.Mode().Perm())
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
}

// hostile begins a value that is more than text to a careless user of any of
// the tools: to a shell, Hiera, Jinja, YAML or Ruby.
const hostile = `postgres://db/shop?a=%{facts}&b={{ 7*7 }}&c="'$HOME'\n` + "`id`" + ` #{7*7} : `

// onDisk waits until the tool wrote the value that ends so, and all is done.
func (x *example) onDisk(end string) status.Run {
	x.t.Helper()
	want := "DATABASE_URL=" + hostile + end + "\nPORT=8080\n"
	x.until("the value "+end+" on disk", func() bool { return x.conf() == want })
	return *x.synced().LastRun
}

func (x *example) conf() string {
	data, _ := os.ReadFile(x.path("shop", "shop.conf"))
	return string(data)
}

func (x *example) value(end string) { x.t.Helper(); x.put("PRIMARY_DATABASE_URL", hostile+end) }

// history is all runs, newest first.
func (x *example) history() (runs []status.Run) {
	x.t.Helper()
	err := x.client(func(ctx context.Context, c *api.Client) (err error) {
		runs, err = c.Runs(ctx, 100)
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return runs
}

// exit checks the result of a run of one step, and its exit code.
func (x *example) exit(run status.Run, result string, codes ...int) {
	x.t.Helper()
	if run.Result != result || len(run.Steps) != 1 || !slices.Contains(codes, run.Steps[0].Exit) {
		out, _ := x.listener("logs", run.ID)
		x.t.Errorf("wanted %s with one of %v: %+v\n%s", result, codes, run, out)
	}
}

// changes: a value that is put is on disk, by a run that ended well; one more
// run with the same values does too.
func (x *example) changes(*testing.T) {
	x.exit(x.onDisk("1"), "ok", x.tool.changed...)
	x.value("2")
	x.exit(x.onDisk("2"), "ok", x.tool.changed...)
	if out, code := x.listener("provision", "--wait"); code != 0 {
		x.t.Errorf("provision --wait: exit code %d\n%s", code, out)
	}
	x.exit(x.history()[0], "ok", 0)
}

// failure: what the tool reports as failed is tried again until it works.
func (x *example) failure(t *testing.T) {
	path := x.path(x.tool.file)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x.writeMode(path, string(good)+x.tool.broken, 0o755)
	x.value("3")
	x.until("a failed run", func() bool { return x.history()[0].Result == "failed" })
	x.writeMode(path, string(good), 0o755)
	failed := x.history()
	x.exit(failed[slices.IndexFunc(failed, func(r status.Run) bool { return r.Result == "failed" })], "failed", x.tool.failed...)
	run := x.onDisk("3")
	if x.exit(run, "ok", append(x.tool.changed, 0)...); run.Kind != "retry" {
		t.Errorf("the run that works is of kind %s", run.Kind)
	}
}

// hands: while somebody runs the tool by hand, our run is pending, and status
// says why; then it runs once.
func (x *example) hands(t *testing.T) {
	hand, release := x.startByHand()
	had, before := x.conf(), len(x.history())
	x.value("4")
	x.until("the gate foreign lock", func() bool {
		p := x.must().Pending
		return p != nil && p.Gate == "foreign lock" && strings.Contains(p.Why, x.lock)
	})
	if out, _ := x.listener("status"); !hasAll(out, []string{"held by foreign lock: ", x.lock, " is running"}) {
		t.Errorf("status does not say who runs:\n%s", out)
	}
	if len(x.history()) != before || x.conf() != had {
		t.Error("there was a run meanwhile")
	}
	release()
	if err := hand.Wait(); err != nil {
		t.Errorf("the run by hand: %v", err)
	}
	x.exit(x.onDisk("4"), "ok", x.tool.changed...)
	if n := len(x.history()) - before; n != 1 {
		t.Errorf("%d runs after the one by hand", n)
	}
}

// startByHand returns when the run by hand holds its lock; release lets it end.
func (x *example) startByHand() (hand *exec.Cmd, release func()) {
	x.t.Helper()
	argv := x.tool.byHand(x)
	hand = exec.Command(argv[0], argv[1:]...)
	log, err := os.Create(x.path("hand.log"))
	if err != nil {
		x.t.Fatal(err)
	}
	defer log.Close()
	hand.Stdout, hand.Stderr = log, log
	if err := hand.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = hand.Process.Kill() })
	var pipe *os.File
	x.until("a run by hand", func() bool {
		pipe, err = os.OpenFile(x.pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails until there is a reader
		return err == nil
	})
	release = sync.OnceFunc(func() { _ = pipe.Close() })
	x.t.Cleanup(release)
	return hand, release
}
