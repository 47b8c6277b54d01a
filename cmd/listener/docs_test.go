package main_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the commands print into README.md and docs")

// TestDocs runs the commands that README.md and docs show in console blocks and
// compares what they print; CONTRIBUTING.md has the convention in words.
func TestDocs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pages, "../../README.md") {
		p := readPage(t, path)
		if len(p.shown) == 0 {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			p.run(t)
			if *update {
				p.write(t)
			}
		})
	}
}

// page is a file of the documentation.
type page struct {
	path  string
	lines []string
	shown []*shown
	left  int // commands in blocks that say no-run
}

// shown is one command with its output, as lines from..to of the page.
type shown struct {
	at, from, to int
	command      string
	want         []string
	code         int
	got          []string // with -update, when it differs
}

var exitLine = regexp.MustCompile(`^\(exit code (\d+)\)$`)

// maxLeft is how many commands a page may show that no test runs.
const maxLeft = 12

func readPage(t *testing.T, path string) *page {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{path: path, lines: strings.Split(string(data), "\n")}
	fence := ""
	for i, line := range p.lines {
		switch {
		case fence == "" && strings.HasPrefix(line, "```"):
			fence = line
		case line == "```":
			fence = ""
		case fence == "```console no-run" && strings.HasPrefix(line, "$ "):
			p.left++
		case fence == "```console" && strings.HasPrefix(line, "$ "):
			p.shown = append(p.shown, &shown{at: i + 1, from: i + 1, to: i + 1, command: line[2:]})
		case fence == "```console" && len(p.shown) > 0:
			s := p.shown[len(p.shown)-1]
			s.to = i + 1
			if m := exitLine.FindStringSubmatch(line); m != nil {
				s.code, _ = strconv.Atoi(m[1])
				continue
			}
			s.want = append(s.want, line)
		}
	}
	if p.left > maxLeft {
		t.Errorf("%s: %d commands say no-run; at most %d may", path, p.left, maxLeft)
	}
	return p
}

// write puts the outputs that differed into the page.
func (p *page) write(t *testing.T) {
	t.Helper()
	for _, s := range slices.Backward(p.shown) {
		if s.got == nil {
			continue
		}
		if s.code != 0 {
			s.got = append(s.got, fmt.Sprintf("(exit code %d)", s.code))
		}
		p.lines = slices.Replace(p.lines, s.from, s.to, s.got...)
	}
	if err := os.WriteFile(p.path, []byte(strings.Join(p.lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reader is the terminal of somebody who reads a page and types what is there.
type reader struct {
	t      *testing.T
	dir    string // the checkout
	env    []string
	socket string // that the agent in the first terminal printed
}

func (p *page) run(t *testing.T) {
	r := newReader(t)
	if !slices.ContainsFunc(p.shown, func(s *shown) bool { return strings.HasPrefix(s.command, "export PATH=") }) {
		r.export("PATH=")
	}
	for _, s := range p.shown {
		if _, err := exec.LookPath("curl"); err != nil && strings.HasPrefix(s.command, "curl ") {
			t.Logf("%s:%d: left out, there is no curl", p.path, s.at)
			continue
		}
		code, out := r.enter(s)
		switch {
		case *update:
			if code != s.code || !matches(s.want, r.lines(out)) {
				s.code, s.got = code, r.asShown(out)
				if s.got == nil {
					s.got = []string{}
				}
			}
		case code != s.code:
			t.Errorf("%s:%d: $ %s\nexit code %d, the page says %d\n%s", p.path, s.at, s.command, code, s.code, out)
		case !matches(s.want, r.lines(out)):
			t.Errorf("%s:%d: $ %s\nprints\n%s\nwhich the page does not say (-update writes it there)", p.path, s.at, s.command, strings.Join(r.asShown(out), "\n"))
		}
	}
}

// newReader makes a checkout of links to this one, with a binary of its own.
func newReader(t *testing.T) *reader {
	t.Helper()
	built, err := buildListener()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, dir: t.TempDir()}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "bin" && !strings.HasPrefix(e.Name(), ".") {
			err = errors.Join(err, os.Symlink(filepath.Join(root, e.Name()), filepath.Join(r.dir, e.Name())))
		}
	}
	bin := filepath.Join(r.dir, "bin")
	syscall.ForkLock.RLock() // see system.writeMode
	defer syscall.ForkLock.RUnlock()
	err = errors.Join(err, os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, "listener"), built, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	r.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "TMPDIR=/tmp", "GORACE=atexit_sleep_ms=0",
		"LISTENER_CFG_NODE=web1", "LISTENER_CFG_HOST=10.0.0.5",
	}
	return r
}

// looks are the commands that only look: they are tried again until they show
// what the page shows, since what they look at takes its time.
var looks = regexp.MustCompile(`^(bin/)?listener (status|explain|runs|logs|resolve|render|get|list|listget|providers|nodes|graph)\b|^curl |^cat `)

// enter types one command of the page.
func (r *reader) enter(s *shown) (code int, out string) {
	r.t.Helper()
	command := s.command
	switch {
	case strings.HasPrefix(command, "export "):
		for _, assignment := range strings.Fields(command)[1:] {
			r.export(assignment)
		}
		return 0, ""
	case command == "make build": // it is
		return 0, ""
	case command == "make demo":
		command = "scripts/demo.sh"
	case regexp.MustCompile(`^(bin/)?listener (dev|agent)\b`).MatchString(command) && !strings.Contains(command, "--tour") && s.code == 0:
		return 0, r.background(s)
	}
	tries := 10 * time.Second
	if *update {
		tries = 2 * time.Second
	}
	for end := time.Now().Add(tries); ; time.Sleep(50 * time.Millisecond) {
		code, out = r.sh(command)
		if code == s.code && matches(s.want, r.lines(out)) || !looks.MatchString(command) || time.Now().After(end) {
			return code, out
		}
	}
}

// export holds for the commands that follow. The socket is the one that the
// agent has this time, PATH what the page's checkout needs.
func (r *reader) export(assignment string) {
	name, value, _ := strings.Cut(assignment, "=")
	switch name {
	case "LISTENER_SOCKET":
		if r.socket == "" {
			r.t.Fatal("no agent has printed its socket")
		}
		value = r.socket
	case "PATH":
		value = filepath.Join(r.dir, "bin") + ":" + os.Getenv("PATH")
	}
	r.env = append(r.env, name+"="+value)
}

func (r *reader) sh(command string) (code int, out string) {
	r.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = r.dir, r.env
	b, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(b)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return 0, string(b)
}

// background runs an agent until the end of the page and returns what it
// printed up to the end of what the page shows.
func (r *reader) background(s *shown) string {
	r.t.Helper()
	out := &lockedBuffer{}
	cmd := exec.Command("sh", "-c", "exec "+s.command)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil && !*update {
			r.t.Errorf("$ %s: %v\n%s", s.command, err, out)
		}
	})
	socket := regexp.MustCompile(`LISTENER_SOCKET=(\S+)`)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text := out.String()
		if m := socket.FindStringSubmatch(text); m != nil {
			r.socket = m[1]
		}
		lines := strings.SplitAfter(text, "\n")
		for n := len(lines); n > 0 && r.socket != ""; n-- {
			if part := strings.Join(lines[:n], ""); matches(s.want, r.lines(part)) {
				return part
			}
		}
		if time.Now().After(end) || *update && strings.Contains(text, "run ended") {
			return text
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// asShown is output as a page may show it: nothing of this machine.
func (r *reader) asShown(out string) []string {
	out = strings.ReplaceAll(out, r.dir, "/opt/listener")
	if u, err := user.Current(); err == nil {
		out = strings.ReplaceAll(out, "by "+u.Username+" ", "by root ")
		out = strings.ReplaceAll(out, "by "+u.Username+"\n", "by root\n")
	}
	out = strings.TrimRight(out, "\n")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

func (r *reader) lines(out string) []string { return normal(r.asShown(out)) }

// volatile is what differs from one time to the next.
var volatile = []struct{ re, to string }{
	{`\d{8}-\d{6}-[0-9a-f]{4}`, "RUN"},
	{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`, "TIME"},
	{`\b\d\d:\d\d:\d\d(\.\d+)?`, "TIME"},
	{`/tmp/listener-\d+`, "TMP"},
	{`(\d+(\.\d+)?(h|ms|m|µs|s|ns))+\b`, "SPAN"},
	{`\b\d+ (s|min|h|days)\b`, "SPAN"},
	{`just now`, "SPAN ago"},
	{`"pid": \d+`, "PID"},
	{`(revision|version) \d+`, "$1 N"}, // the node's own record is written in between
	{`"version": \d+`, "VERSION"},
	{`Etag: "\d+"`, "ETAG"},
	{`agent \S+ started`, "agent VERSION started"},
	{`listener \S+: an agent`, "listener VERSION: an agent"},
	{`\(listener \S+, up`, "(listener VERSION, up"},
	{`listener \S+ go1\S+ \w+/\w+`, "listener VERSION"},
	{`[ \t]+`, " "},
}

var volatileRE = sync.OnceValue(func() (res []*regexp.Regexp) {
	for _, v := range volatile {
		res = append(res, regexp.MustCompile(v.re))
	}
	return res
})

func normal(lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, l := range lines {
		for i, re := range volatileRE() {
			l = re.ReplaceAllString(l, volatile[i].to)
		}
		out = append(out, strings.TrimSpace(l))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// matches: "..." in the shown lines is any text within a line, or any lines.
// got is normal.
func matches(shown, got []string) bool { return match(normal(shown), got) }

func match(want, got []string) bool {
	switch {
	case len(want) == 0:
		return len(got) == 0
	case want[0] == "...":
		return match(want[1:], got) || len(got) > 0 && match(want, got[1:])
	case len(got) == 0:
		return false
	}
	return matchLine(want[0], got[0]) && match(want[1:], got[1:])
}

func matchLine(want, got string) bool {
	parts := strings.Split(want, "...")
	if len(parts) == 1 {
		return want == got
	}
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	ok, err := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", got)
	return ok && err == nil
}

// What counts as the same output, and what does not.
func TestDocsMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want, got string
		same      bool
	}{
		{"on", "on", true},
		{"on", "off", false},
		{"on", "on\noff", false},
		{"on\n...", "on\noff\nx", true},
		{"...\noff", "on\noff", true},
		{"...\noff", "on\noff\nx", false},
		{"run 20261121-004235-3f9a ok after 3ms", "run 20261121-015651-99e9 ok after  1.2s", true},
		{"run 20261121-004235-3f9a ok after 3ms", "run 20261121-015651-99e9 failed after 3ms", false},
		{"ok 1.4s ago (01:53:00), due", "ok just now (11:13:00), due", true},
		{"a ... c", "a b c", true},
		{"a ... c", "a b d", false},
		{"seen 1s ago", "seen 2 min ago", true},
	} {
		if matches(strings.Split(tc.want, "\n"), normal(strings.Split(tc.got, "\n"))) != tc.same {
			t.Errorf("%q and %q: same %v", tc.want, tc.got, !tc.same)
		}
	}
}
