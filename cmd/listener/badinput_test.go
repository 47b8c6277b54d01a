package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// badSettings are settings files that nothing may start with.
var badSettings = []struct {
	name string
	edit func(toml string) string
	want []string
}{
	{"unknown setting", func(s string) string { return s + "comand = []\n" }, []string{"throttle.comand", "unknown setting"}},
	{"unknown table", func(s string) string { return s + "[provison]\ntimeout = '1s'\n" }, []string{"provison", "provision"}},
	{"wrong type", func(s string) string { return strings.Replace(s, `timeout = "20s"`, "timeout = true", 1) }, []string{"provision.timeout"}},
	{"wrong unit", func(s string) string { return strings.Replace(s, `"20s"`, `"20 seconds"`, 1) }, []string{"provision.timeout", "20 seconds"}},
	{"broken", func(s string) string { return s + "burst = [1,\n" }, []string{"listener.toml"}},
	{"not text", func(string) string { return "\x00\xff\x00garbage" }, []string{"listener.toml"}},
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	good := s.toml()
	for _, tc := range badSettings {
		s.run(tc.name, func(t *testing.T) {
			bad := tc.edit(good)
			if bad == good {
				t.Fatal("the test changes nothing")
			}
			// An agent that starts ends with 78 and says what is wrong.
			s.write(s.config(), bad)
			out, code := s.listener("agent")
			if code != 78 || !hasAll(out, append([]string{"listener: error: "}, tc.want...)) {
				t.Errorf("agent: exit %d, want 78 and %q:\n%s", code, tc.want, out)
			}
			// One that runs takes nothing of it, and says so, too.
			if out, code := s.listener("reload"); code == 0 || !hasAll(out, tc.want) {
				t.Errorf("reload: exit %d, want a failure and %q:\n%s", code, tc.want, out)
			}
		})
	}
	s.write(s.config(), badSettings[0].edit(good))
	_ = s.agent.cmd.Process.Signal(syscall.SIGHUP)
	s.until("the log of the failed reload", func() bool {
		log, _ := os.ReadFile(s.path("agent.log"))
		return strings.Contains(string(log), "reload failed; nothing changed")
	})
	s.goesOn()

	if err := os.Remove(s.config()); err != nil {
		t.Fatal(err)
	}
	if out, code := s.listener("agent"); code != 78 || !hasAll(out, []string{"listener: error: ", s.config()}) {
		t.Errorf("no settings file: exit %d:\n%s", code, out)
	}
	if out, code := s.listener("reload"); code == 0 || !hasAll(out, []string{s.config()}) {
		t.Errorf("reload without a settings file: exit %d:\n%s", code, out)
	}
	s.goesOn()
}

func TestBadAttributes(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.manifest("app", "", "K", "A")
	s.putOffline("K", "first")
	s.write(s.path("attributes.toml"), "A = \"one\"\n")
	s.start()
	s.applied("app", "A='one'")
	for name, text := range map[string]string{
		"broken": "A = \"tw", "wrong type": "A = [7]\n", "not text": "\x00\xff",
	} {
		s.run(name, func(t *testing.T) {
			s.write(s.path("attributes.toml"), text)
			s.condition("attributes", "attributes.toml", "stay in force")
			s.goesOn()
			if !strings.Contains(s.env("app"), "A='one'") {
				t.Errorf("the environment has lost A: %s", s.env("app"))
			}
		})
	}
	// Also an agent that starts with them goes on.
	s.again(syscall.SIGKILL)
	s.condition("attributes", "attributes.toml")
	if !strings.Contains(s.env("app"), "A='one'") {
		t.Errorf("the environment has lost A: %s", s.env("app"))
	}
	s.write(s.path("attributes.toml"), "A = \"two\"\n")
	s.applied("app", "A='two'")
	s.noCondition("attributes")
}

// badManifests are files that are refused.
var badManifests = []struct {
	name, text string
	mode       os.FileMode
	want       []string
}{
	{"empty", "", 0o644, nil},
	{"broken JSON", `{"id": "other", "requires": {`, 0o644, nil},
	{"trailing text", manifestText("other", "", "K") + "}", 0o644, nil},
	{"near field", manifestText("other", `"require": {}`, "K"), 0o644, []string{"requires"}},
	{"wrong type", manifestText("other", `"priority": "high"`, "K"), 0o644, []string{"priority"}},
	{"duplicate", manifestText("other", `"weight": 1, "weight": 2`, "K"), 0o644, []string{"weight"}},
	{"other id", manifestText("another", "", "K"), 0o644, []string{"another"}},
	{"garbage", "\x00\xff\x00", 0o644, nil},
	{"world-writable", manifestText("other", "", "K"), 0o666, []string{"every user may write", "chmod o-w"}},
}

func TestBadManifests(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	for i, tc := range badManifests {
		s.run(tc.name, func(t *testing.T) {
			id := "other-" + strconv.Itoa(i)
			text := strings.ReplaceAll(tc.text, `"other"`, strconv.Quote(id))
			path := s.path("service", id+".json")
			s.writeMode(path, text, tc.mode)
			s.condition("manifest refused", append(tc.want, path)...)
			s.goesOn()
			s.manifest(id, `"environment": {"GOOD": "yes"}`, "K")
			s.applied(id, "GOOD='yes'")
			s.noCondition("manifest refused")
			// Now there is a good version, which stays in force.
			s.writeMode(path, text, tc.mode)
			s.condition("manifest refused", append(tc.want, path, "last good version stays in force")...)
			s.goesOn()
			if last := "K='value-" + strconv.Itoa(s.puts) + "'"; !hasAll(s.env(id), []string{"GOOD='yes'", last}) {
				t.Errorf("the last good version has not got the new value:\n%s", s.env(id))
			}
			// Even after a crash.
			s.again(syscall.SIGKILL)
			s.condition("manifest refused", append(tc.want, path, "last good version stays in force")...)
			s.goesOn()
			s.manifest(id, "", "K")
			s.noCondition("manifest refused")
		})
	}
}

// A checkout in progress: files come byte by byte, go and come back, and
// directories are swapped under a symlink.
func TestHalfWrittenCheckout(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	runs := len(s.lines("runs"))
	text := manifestText("app", `"environment": {"VERSION": "2"}`, "K")
	f, err := os.OpenFile(s.path("service", "app.json"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range len(text) {
		if i == len(text)/2 { // half of it is there for a while
			s.condition("manifest refused", "app.json", "stays in force")
			if !strings.Contains(s.env("app"), "K='first'") {
				t.Errorf("half a manifest changed the environment:\n%s", s.env("app"))
			}
		}
		if _, err := f.WriteString(text[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	s.applied("app", "VERSION='2'")
	s.noCondition("manifest refused")
	if n := len(s.lines("runs")) - runs; n != 1 {
		t.Errorf("%d runs for one change", n)
	}

	// Gone and back within the time that counts: nothing happens.
	for range 3 {
		if err := os.Remove(s.path("service", "app.json")); err != nil {
			t.Fatal(err)
		}
		s.condition("manifests gone")
		s.write(s.path("service", "app.json"), text)
		s.noCondition("manifests gone")
	}
	s.synced()
	if n := len(s.lines("runs")) - runs; n != 1 {
		t.Errorf("%d runs though nothing changed", n-1)
	}

	// A release directory under a symlink, swapped by rename.
	for i := range 3 {
		version := strconv.Itoa(i + 3)
		release := s.path("release-" + version)
		if err := os.Mkdir(release, 0o755); err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Join(release, "app.json"), manifestText("app", `"environment": {"VERSION": "`+version+`"}`, "K"))
		link := s.path("service")
		if i == 0 {
			if err := os.RemoveAll(link); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(release, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
		s.applied("app", "VERSION='"+version+"'")
	}
	s.goesOn()
}

func TestManifestsGone(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.manifest("other", `"command": false`, "K")
	s.applied("other", "K='first'")

	if err := os.Rename(s.path("service"), s.path("away")); err != nil {
		t.Fatal(err)
	}
	s.condition("manifests missing", s.path("service"), "stay in force", "accept")
	s.goesOn()
	s.again(syscall.SIGKILL) // and after a crash
	s.condition("manifests missing", s.path("service"))
	s.goesOn()
	if err := os.Rename(s.path("away"), s.path("service")); err != nil {
		t.Fatal(err)
	}
	s.noCondition("manifests missing")
	s.goesOn()

	for _, id := range []string{"app", "other"} {
		if err := os.Remove(s.path("service", id+".json")); err != nil {
			t.Fatal(err)
		}
	}
	s.condition("manifests gone", "accept")
	s.again(syscall.SIGKILL)
	s.condition("manifests gone", "accept")
	s.goesOn()

	if out, code := s.listener("accept"); code != 0 || !hasAll(out, []string{"app", "other"}) {
		t.Fatalf("accept: exit %d: %s", code, out)
	}
	s.again(syscall.SIGKILL) // what was accepted stays accepted
	s.noCondition("manifests gone")
	s.until("the end of all environment files", func() bool { return s.env("app")+s.env("other") == "" })
	s.synced()
	s.manifest("app", "", "K")
	s.goesOn()
}

// unprivileged makes the node's files somebody else's if the test is root, who
// could read everything, and returns how to start its agent.
func (s *system) unprivileged() (edit func(*exec.Cmd)) {
	s.t.Helper()
	if os.Geteuid() != 0 {
		return func(*exec.Cmd) {}
	}
	const nobody = 65534
	if err := filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	}); err != nil {
		s.t.Fatal(err)
	}
	return func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.manifest("app", "", "K")
	s.write(s.path("attributes.toml"), "A = \"a\"\n")
	s.putOffline("K", "first")
	s.write(s.config(), s.toml())
	as := s.unprivileged()
	s.start(as)
	s.applied("app", "K='first'")

	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(s.path("service"), 0)
	_ = s.agent.cmd.Process.Signal(syscall.SIGHUP) // a change of mode need not wait for the next look
	s.condition("manifests missing", s.path("service"), "permission denied")
	s.goesOn()
	s.end(syscall.SIGTERM)
	s.start(as)
	s.condition("manifests missing", s.path("service"), "permission denied")
	s.goesOn()
	chmod(s.path("service"), 0o755)
	_ = s.agent.cmd.Process.Signal(syscall.SIGHUP)
	s.noCondition("manifests missing")

	chmod(s.path("service", "app.json"), 0)
	_ = s.agent.cmd.Process.Signal(syscall.SIGHUP)
	s.condition("manifest refused", "app.json", "permission denied", "stays in force")
	chmod(s.path("attributes.toml"), 0)
	_ = s.agent.cmd.Process.Signal(syscall.SIGHUP)
	s.condition("attributes", "attributes.toml", "permission denied")
	s.goesOn()

	chmod(s.path("env"), 0o555)
	s.put("K", "second")
	s.until("a failure that names the file", func() bool {
		f := s.must().Failures
		return len(f) > 0 && hasAll(f[0].Text, []string{"app.conf", "permission denied"})
	})
	chmod(s.path("env"), 0o755)
	s.applied("app", "K='second'")
	s.goesOn()
}

func TestTwoAgents(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	if out, code := s.listener("agent", "--config", s.config(), "--socket", s.path("run", "other")); code == 0 ||
		!hasAll(out, []string{"another agent uses this state directory", s.path("state"), "listener: hint: "}) {
		t.Errorf("two agents on one state directory: exit %d:\n%s", code, out)
	}
	if out, code := s.listener("agent", "--config", s.config()); code == 0 || !hasAll(out, []string{"another agent answers", s.socket(), "listener: hint: "}) {
		t.Errorf("two agents on one socket: exit %d:\n%s", code, out)
	}
	s.goesOn()
	// Not even when the first one was killed in a run whose command lives on.
	s.command(`sleep 0.5; echo "$LISTENER_RUN_ID" >>"$D/runs"`)
	s.put("K", "second")
	s.until("a run", func() bool { return s.must().Running != nil })
	s.again(syscall.SIGKILL)
	if out, code := s.listener("agent", "--config", s.config(), "--socket", s.path("run", "other")); code == 0 {
		t.Errorf("two agents on one state directory: exit %d:\n%s", code, out)
	}
	s.applied("app", "K='second'")
	s.goesOn()
}

func TestSocketInTheWay(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	s.end(syscall.SIGKILL)
	if _, err := os.Lstat(s.socket()); err != nil {
		t.Fatalf("a killed agent leaves its socket: %v", err)
	}
	s.start() // a stale socket is replaced
	s.goesOn()
	s.end(syscall.SIGTERM)

	s.write(s.socket(), "a file")
	if out, code := s.listener("agent", "--config", s.config()); code == 0 || !hasAll(out, []string{s.socket(), "no socket"}) {
		t.Errorf("a file in the way: exit %d:\n%s", code, out)
	}
	if data, err := os.ReadFile(s.socket()); err != nil || string(data) != "a file" {
		t.Errorf("the file in the way: %q %v", data, err)
	}
	if err := os.Remove(s.socket()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if out, code := s.listener("agent", "--config", s.config()); code == 0 || !hasAll(out, []string{s.socket(), "another agent answers"}) {
		t.Errorf("a live socket of another: exit %d:\n%s", code, out)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.goesOn()
}

// A file that is written between the agent's first reading and its watch is
// not missed: the agent is started again and again while manifests change.
func TestManifestWrittenAtStart(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	for i := range 20 {
		s.end(syscall.SIGKILL)
		s.agent = s.spawn()
		time.Sleep(time.Duration(i) * time.Millisecond) // any instant of the start will do
		version := strconv.Itoa(i)
		s.manifest("app", `"environment": {"VERSION": "`+version+`"}`, "K")
		s.applied("app", "VERSION='"+version+"'")
	}
}

// Whoever writes beside the manifests all the time does not hide their changes.
func TestBusyDirectory(t *testing.T) {
	t.Parallel()
	s := newNode(t)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				_ = os.WriteFile(s.path("service", "notes.txt"), []byte(strconv.Itoa(i)), 0o600)
			}
		}
	}()
	s.manifest("app", `"environment": {"VERSION": "2"}`, "K")
	s.applied("app", "VERSION='2'")
	close(stop)
	<-ended
}
