package main_test

import (
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// An agent that starts before the network does finds its address later.
func TestHostComesWithTheNetwork(t *testing.T) {
	t.Parallel()
	asRoot(t)
	tools := map[string]string{}
	for _, tool := range []string{"nsenter", "ip"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("needs %s: %v", tool, err)
		}
		tools[tool] = path
	}
	s := newSystem(t)
	delete(s.settings, "host")
	s.write(s.path("service", "app.json"), `{"id": "app", "requires": {"URL": "http://{HOST}/"}}`)
	s.start(func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	})
	s.condition("waiting", "app waits for HOST")
	for _, line := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", "10.77.0.5/32", "dev", "lo"},
		{"route", "add", "default", "dev", "lo"},
	} {
		args := append([]string{"-t", strconv.Itoa(s.agent.cmd.Process.Pid), "-n", tools["ip"]}, line...)
		if out, err := exec.Command(tools["nsenter"], args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v\n%s", line, err, out)
		}
	}
	s.applied("app", "URL='http://10.77.0.5/'")
	if st := s.synced(); st.Host != "10.77.0.5" {
		t.Errorf("the status says %q", st.Host)
	}
}
