package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What an agent that starts finds in place of a file of its state directory.
var damages = []struct{ name, text string }{
	{"empty", ""},
	{"garbage", "\x00\xffgarbage\n{"},
	{"of another kind", `{"what": ["is", "this"]}` + "\n"},
}

// damaged is how a file of the state directory may be damaged, and what the
// agent says then.
var damaged = []struct {
	file      string
	condition string // "": none for this damage
	words     []string
	runs      int  // further runs, at least
	ends      bool // the condition is over by itself
}{
	{file: "state.json", condition: "state.json", words: []string{"state"}, runs: 1},
	{file: "digest.key", condition: "digest.key", words: []string{"digest"}, runs: 1},
	{file: "last_provision", condition: "last_provision", words: []string{"counted as a run just now"}},
	{file: "replica.json", condition: "replica", words: []string{"replica"}, ends: true},
	{file: "store.db", condition: "store regression", words: []string{"K"}},
}

func TestDamagedState(t *testing.T) {
	t.Parallel()
	for _, f := range damaged {
		for _, d := range damages {
			t.Run(f.file+" "+d.name, func(t *testing.T) {
				t.Parallel()
				s := newNode(t)
				s.goesOn()
				env := s.env("app")
				runs := len(s.lines("runs"))
				s.until("a replica", func() bool {
					data, _ := os.ReadFile(s.path("state", "replica.json"))
					return strings.Contains(string(data), "value-1")
				})
				s.end(syscall.SIGTERM)
				s.write(s.path("state", f.file), d.text)
				s.start()
				if f.ends {
					s.noCondition(f.condition)
				} else {
					s.condition(f.condition, f.words...)
				}
				s.synced()
				if n := len(s.lines("runs")) - runs; n < f.runs || n > 1 {
					t.Errorf("%d more runs, want %d", n, f.runs)
				}
				if got := s.env("app"); got != env {
					t.Errorf("the environment was\n%s\nand is\n%s", env, got)
				}
				s.puts += 10 // other values than those that were there before
				s.goesOn()
				s.again(syscall.SIGKILL) // and what was repaired stays so
				if f.condition != "store regression" {
					s.noCondition(f.condition)
				}
				s.goesOn()
			})
		}
	}
}

// With the store's file and the replica gone together nothing is emptied:
// state.json still knows what the last run was given.
func TestStoreAndReplicaLost(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.write(s.path("service", "app.json"),
		`{"id": "app", "requires": {"K": "{K}", "OPTIONAL": "{OPTIONAL?}", "DEFAULT": "{DEFAULT:-none}"}}`)
	for _, k := range []string{"K", "OPTIONAL", "DEFAULT"} {
		s.putOffline(k, "set")
	}
	s.start()
	s.applied("app", "K='set'")
	env := s.env("app")
	if !hasAll(env, []string{"OPTIONAL='set'", "DEFAULT='set'"}) {
		t.Fatal(env)
	}
	s.end(syscall.SIGTERM)
	s.write(s.path("state", "store.db"), "")
	s.write(s.path("state", "replica.json"), "")
	s.start()
	s.condition("store regression")
	s.synced()
	if got := s.env("app"); got != env {
		t.Errorf("the environment was\n%s\nand is\n%s", env, got)
	}
	s.goesOn()
	if !hasAll(s.env("app"), []string{"OPTIONAL='set'", "DEFAULT='set'"}) {
		t.Errorf("a new value of K emptied others:\n%s", s.env("app"))
	}
}

// A store that is set back right after a run, before the replica knew of it.
func TestStoreSetBack(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.end(syscall.SIGTERM)
	old, err := os.ReadFile(s.path("state", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.goesOn()
	s.end(syscall.SIGKILL)
	s.write(s.path("state", "store.db"), string(old))
	s.start()
	s.condition("store regression", "K")
	s.synced()
	if !strings.Contains(s.env("app"), "K='value-1'") {
		t.Errorf("the environment went back:\n%s", s.env("app"))
	}
	s.again(syscall.SIGKILL) // a hold survives
	s.condition("store regression", "K")
	if out, code := s.listener("accept"); code != 0 {
		t.Fatalf("accept: %s", out)
	}
	s.applied("app", "K='first'")
	s.goesOn()
}

func TestDamagedOff(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	for _, d := range damages[:2] {
		s.run(d.name, func(t *testing.T) {
			s.end(syscall.SIGTERM)
			s.write(s.path("state", "off"), d.text)
			s.start()
			st := s.must()
			if st.On || st.Off == nil || !strings.Contains(st.Off.Reason, "cannot be read") {
				t.Errorf("off that cannot be read is not off: %+v", st.Off)
			}
			env := s.env("app")
			s.put("K", d.name)
			s.until("a provision that waits for on", func() bool {
				p := s.must().Pending
				return p != nil && p.Gate == "on"
			})
			if got := s.env("app"); got != env {
				t.Errorf("a file changed while off:\n%s", got)
			}
			if out, code := s.listener("on"); code != 0 {
				t.Fatalf("on: %s", out)
			}
			s.applied("app", "K='"+d.name+"'")
		})
	}
}

// state.json is lost while a run is in progress: what that run left is ended
// or waited for, and its files go.
func TestStateLostInRun(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.command(`exec 9>>"$D/lock"
flock -n 9 || { echo overlap >>"$D/overlaps"; exit 1; }
echo "$LISTENER_RUN_ID" >>"$D/started"
sleep 0.5
cat "$LISTENER_NODE_JSON" >/dev/null || exit 1
echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	runs := len(s.lines("runs"))
	s.put("K", "second")
	s.until("a run", func() bool { return len(s.lines("started")) == 1 })
	s.end(syscall.SIGKILL)
	s.write(s.path("state", "state.json"), "")
	s.start()
	s.condition("state.json")
	s.applied("app", "K='second'")
	if n := len(s.lines("runs")) - runs; n != 2 {
		t.Errorf("%d commands came to their end, want that of the old run and the forced one", n)
	}
	if got := s.lines("overlaps"); len(got) > 0 {
		t.Errorf("overlaps: %q", got)
	}
	s.nothingLeft()
}

// A node.json, which holds secrets, and half written files of a run that
// nobody knows are removed.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.end(syscall.SIGTERM)
	for _, name := range []string{"20260101-000000-abcd.node.json", ".listener-1f.tmp"} {
		s.write(s.path("run", name), "secret")
	}
	s.write(s.path("state", ".listener-2f.tmp"), "secret")
	old := s.path("env", ".listener-3f.tmp")
	s.write(old, "secret")
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.nothingLeft()
	s.goesOn()
}

// nothingLeft waits until no trace of a run is left.
func (s *system) nothingLeft() {
	s.t.Helper()
	var left []string
	s.until("the end of all leftovers", func() bool {
		left = nil
		for _, pattern := range []string{"run/*", "run/.*", "state/.*", "env/.*"} {
			found, _ := filepath.Glob(s.path(pattern))
			left = append(left, found...)
		}
		left = slices.DeleteFunc(left, func(p string) bool { return p == s.socket() })
		return len(left) == 0
	})
}

// Stamps of another boot whose wall clock was an hour ahead or behind.
func TestClockJumped(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"forward": -time.Hour, "back": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newNode(t, func(s *system) { s.settings["throttle.min_interval"] = `"1s"` })
			s.end(syscall.SIGTERM)
			s.otherBoot(jump)
			runs := len(s.lines("runs"))
			s.start()
			s.until("the forced run after boot", func() bool { return len(s.lines("runs")) == runs+1 })
			s.goesOn() // spaced by min_interval, not by an hour
			data, err := os.ReadFile(s.path("state", "last_provision"))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(data)) {
				at, err := time.Parse(time.RFC3339, strings.Fields(line)[0])
				if err != nil || time.Until(at) > time.Minute {
					t.Errorf("last_provision still has a future stamp: %s", line)
				}
			}

			// off --for counts its own boot, and the wall clock across boots.
			if out, code := s.listener("off", "--for", "1h"); code != 0 {
				t.Fatalf("off: %s", out)
			}
			s.end(syscall.SIGKILL)
			s.otherBoot(jump)
			s.start()
			if jump < 0 {
				s.until("the end of off --for", func() bool { return s.must().On })
			} else {
				s.until("the store to be read", func() bool { return s.must().Store.State == "ok" })
				if s.must().On {
					t.Errorf("off for an hour, an hour %s: it is on", name)
				}
				if out, code := s.listener("on"); code != 0 {
					t.Fatalf("on: %s", out)
				}
			}
			s.goesOn()
		})
	}
}

// otherBoot makes all that was stamped come from an earlier boot whose wall
// clock differed by jump from what it is now.
func (s *system) otherBoot(jump time.Duration) {
	s.t.Helper()
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		s.t.Fatal(err)
	}
	boot := strings.TrimSpace(string(data))
	for _, name := range []string{"last_provision", "off", "state.json"} {
		data, err := os.ReadFile(s.path("state", name))
		if err != nil {
			continue
		}
		if !strings.Contains(string(data), boot) {
			s.t.Fatalf("%s has no boot id:\n%s", name, data)
		}
		text := strings.ReplaceAll(string(data), boot, "11111111-2222-3333-4444-555555555555")
		switch name {
		case "last_provision":
			var b strings.Builder
			for line := range strings.Lines(text) {
				at, rest, _ := strings.Cut(line, " ")
				stamp, err := time.Parse(time.RFC3339, at)
				if err != nil {
					s.t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s %s", stamp.Add(jump).Format(time.RFC3339), rest)
			}
			text = b.String()
		case "off":
			var o map[string]any
			if err := json.Unmarshal([]byte(text), &o); err != nil {
				s.t.Fatal(err)
			}
			until, err := time.Parse(time.RFC3339, fmt.Sprint(o["until"]))
			if err != nil {
				s.t.Fatal(err)
			}
			o["until"] = until.Add(jump)
			b, _ := json.Marshal(o)
			text = string(b)
		}
		s.write(s.path("state", name), text)
	}
}

// CLOCK_BOOTTIME itself goes back within one boot when an agent leaves a time
// namespace: nothing may then wait for the old time.
func TestBoottimeJumped(t *testing.T) {
	t.Parallel()
	asRoot(t)
	if out, err := exec.Command("unshare", "--time", "--boottime", "36000", "true").CombinedOutput(); err != nil {
		t.Skipf("no time namespaces: %v: %s", err, out)
	}
	ahead := func(c *exec.Cmd) {
		c.Args = append([]string{"unshare", "--time", "--boottime", "36000", "--monotonic", "36000", "--"}, c.Args...)
		path, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		c.Path = path
	}
	s := newSystem(t)
	s.settings["throttle.min_interval"] = `"1s"`
	s.settings["throttle.burst"], s.settings["throttle.window"] = "3", `"3s"`
	s.settings["retry.base"], s.settings["retry.max"] = `"1s"`, `"1s"`
	s.manifest("app", "", "K")
	s.putOffline("K", "first")
	s.start(ahead)
	s.applied("app", "K='first'")
	s.command("exit 3")
	s.put("K", "second")
	s.until("a failure", func() bool { return len(s.must().Failures) == 1 })
	s.end(syscall.SIGKILL)
	s.command(`echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.start() // ten hours earlier
	s.applied("app", "K='second'")
	s.goesOn()
	if out, code := s.listener("off", "--for", "1s"); code != 0 {
		t.Fatalf("off: %s", out)
	}
	s.until("the end of off", func() bool { return s.must().On })
	s.end(syscall.SIGKILL)
	s.start(ahead) // and ten hours later again
	s.goesOn()
	if out, code := s.listener("off", "--for", "2s"); code != 0 {
		t.Fatalf("off: %s", out)
	}
	s.end(syscall.SIGKILL)
	s.start()
	s.until("the end of off", func() bool { return s.must().On })
	s.goesOn()
}
