package provision

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// newProvisioner returns one on fresh directories; the test binary itself is
// the supervisor.
func newProvisioner(t testing.TB) *Provisioner {
	t.Helper()
	return openProvisioner(t, Options{StateDir: t.TempDir(), RunDir: t.TempDir()})
}

func openProvisioner(t testing.TB, o Options) *Provisioner {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

const testPath = "PATH=/usr/local/bin:/usr/bin:/bin"

// sh is a job that runs a shell script.
func sh(script string, args ...string) Job {
	return Job{
		Run: NewRunID(time.Now()), Step: "node", Env: []string{testPath},
		Argv: append([]string{"sh", "-c", script, "sh"}, args...), Dir: "/",
	}
}

func mustRun(t testing.TB, p *Provisioner, job Job) Result {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	res, err := p.Run(ctx, job)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return res
}

func logText(t testing.TB, p *Provisioner, run string) string {
	t.Helper()
	data, err := os.ReadFile(p.o.StateDir + "/runs/" + run + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOutcomes(t *testing.T) {
	notExec := t.TempDir() + "/plain"
	if err := os.WriteFile(notExec, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	noFormat := t.TempDir() + "/noformat"
	if err := os.WriteFile(noFormat, []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	noInterpreter := t.TempDir() + "/nointerpreter"
	if err := os.WriteFile(noInterpreter, []byte("#!/no/such/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		argv    []string
		dir     string
		outcome string
		exit    int
		signal  string
		text    string
	}{
		{"success", []string{"true"}, "", Exited, 0, "", ""},
		{"exit code", []string{"sh", "-c", "exit 7"}, "/", Exited, 7, "", ""},
		{"signal", []string{"sh", "-c", "kill -SEGV $$"}, "/", Exited, 139, "SIGSEGV", ""},
		{"kill", []string{"sh", "-c", "kill -KILL $$"}, "/", Exited, 137, "SIGKILL", ""},
		{"not in PATH", []string{"no-such-command"}, "/", NotStarted, 127, "", `command "no-such-command" was not found in PATH`},
		{"no such file", []string{"/no/such/command"}, "/", NotStarted, 127, "", `command "/no/such/command" does not exist`},
		{"not executable", []string{notExec}, "/", NotStarted, 126, "", "is not executable (mode 0644)"},
		{"directory", []string{"/etc"}, "/", NotStarted, 126, "", "is a directory"},
		{"no format", []string{noFormat}, "/", NotStarted, 126, "", "#!/bin/sh"},
		{"no interpreter", []string{noInterpreter}, "/", NotStarted, 127, "", "interpreter"},
		{"bad directory", []string{"true"}, "/no/such/dir", NotStarted, 126, "", "working directory"},
		{"directory is a file", []string{"true"}, notExec, NotStarted, 126, "", "is not a directory"},
		{"too large", []string{"true", strings.Repeat("x", 200<<10)}, "/", NotStarted, 126, "", "larger than the system allows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProvisioner(t)
			job := Job{Run: NewRunID(time.Now()), Step: "node", Argv: c.argv, Dir: c.dir, Env: []string{testPath}}
			res := mustRun(t, p, job)
			if res.Outcome != c.outcome || res.Exit != c.exit || res.Signal != c.signal || !strings.Contains(res.Error, c.text) {
				t.Errorf("got %+v", res)
			}
			if (c.text == "") != (res.Error == "") {
				t.Errorf("error text %q", res.Error)
			}
			if res.Run != job.Run || res.Step != job.Step || res.Started.IsZero() || res.Ended.Before(res.Started) {
				t.Errorf("got %+v", res)
			}
		})
	}
}
