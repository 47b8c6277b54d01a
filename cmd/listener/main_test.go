package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/local"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"listener": main})
}

func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			e.Setenv("COLUMNS", "80")
			e.Setenv("LISTENER_CFG_PROVISION__RUNNER", "direct") // no units of this machine's systemd
			// The race detector lets every process sleep for a second at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"rc":      rc,
			"answers": answers,
			"until":   until,
			"shows":   shows,
			"stored":  stored,
		},
	})
}

// rc CODE COMMAND…: the command ends with this exit code.
func rc(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

const limit = 20 * time.Second

// answers SOCKET: an agent answers there; ! answers: none does any more.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	eventually(ts, "waiting for "+args[0], func() bool {
		c, err := api.Dial(ts.MkAbs(args[0]))
		if err == nil {
			c.Close()
		}
		return (err == nil) != neg
	})
}

// until FILE TEXT: the file has the text in it; ! until: it has not, or it is gone.
func until(ts *testscript.TestScript, neg bool, args []string) {
	eventually(ts, strings.Join(args, " has not come to "), func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		return (err == nil && bytes.Contains(data, []byte(args[1]))) != neg
	})
}

// shows REGEXP COMMAND…: the command prints a line like that, sooner or later;
// ! shows: it does not any more.
func shows(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	eventually(ts, strings.Join(args[1:], " ")+" does not come to "+args[0], func() bool {
		err := ts.Exec(args[1], args[2:]...)
		return err == nil && re.MatchString(ts.ReadFile("stdout")) != neg
	})
}

// stored DIR KEY TEXT: the local store in DIR has TEXT at KEY, which is that
// of the store itself. TEXT may be a file of the script.
func stored(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: stored DIR KEY TEXT")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	s, err := local.Open(local.Options{Path: filepath.Join(dir, "store.db")})
	ts.Check(err)
	text := args[2]
	if data, err := os.ReadFile(ts.MkAbs(text)); err == nil {
		text = string(data)
	}
	_, err = s.Commit(context.Background(), nil, store.Put(args[1], []byte(text)))
	ts.Check(errors.Join(err, s.Close()))
}

func eventually(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s", what)
		}
	}
}

// Every command says in one line what it does, and has an example.
func TestHelp(t *testing.T) {
	a := &app{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" {
			return
		}
		if c.Short == "" || c.Example == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for line := range strings.SplitSeq(c.Long+"\n"+c.Example, "\n") {
			if len(line) > 90 {
				t.Errorf("%s: a line of %d columns: %s", c.CommandPath(), len(line), line)
			}
		}
		if !strings.Contains(c.Example, "listener") {
			t.Errorf("%s: the example does not use it: %s", c.CommandPath(), c.Example)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}

// The commands of the documentation that exist now.
func TestCommands(t *testing.T) {
	root := (&app{}).root()
	for name := range strings.FieldsSeq("agent daemon dev once on off status explain provision runs logs reload drain undrain providers nodes graph exec accept check validate resolve render schema init config acl get put delete list listget watch version completion") {
		if c, _, err := root.Find([]string{name}); err != nil || c == root {
			t.Errorf("there is no %s: %v", name, err)
		}
	}
}
