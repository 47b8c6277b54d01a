package publish

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wants fails unless err has text; "" wants no error.
func wants(t *testing.T, name string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", name, err, text)
	}
}

// within runs a check as the Publisher does.
func within(t *testing.T, timeout time.Duration, c Check) error {
	t.Helper()
	a := attempt{probe: probe, timeout: timeout}
	return a.run(t.Context(), c)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	followed := make(chan struct{}, 1)
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { followed <- struct{}{} })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, strings.Repeat("x", 1<<16))
		}
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(release)
	for path, want := range map[string]string{
		"/status/200": "", "/status/204": "", "/status/302": "", "/status/399": "",
		"/status/400": "answer 400 Bad Request", "/status/503": "answer 503 Service Unavailable",
		"/endless": "", "/stream": "",
	} {
		wants(t, path, within(t, 10*time.Second, Check{HTTP: s.URL + path}), want)
	}
	wants(t, "/hangs", within(t, 50*time.Millisecond, Check{HTTP: s.URL + "/hangs"}), "no result within 50ms")
	if len(followed) > 0 {
		t.Error("a redirect was followed")
	}
	err := within(t, 10*time.Second, Check{HTTP: "http://user:secret@" + closedPort(t) + "/"})
	wants(t, "nobody there", err, "connection refused")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error has the password: %v", err)
	}
	wants(t, "no URL", within(t, time.Second, Check{HTTP: "http://[::1"}), "missing ']'")
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wants(t, "listens", within(t, 10*time.Second, Check{TCP: l.Addr().String()}), "")
	wants(t, "nobody there", within(t, 10*time.Second, Check{TCP: closedPort(t)}), "connection refused")
	wants(t, "no address", within(t, 10*time.Second, Check{TCP: "nonsense"}), "missing port")
}

func shell(script string) Check {
	return Check{Exec: []string{"/bin/sh", "-c", script}, UID: -1, GID: -1, Env: []string{"PORT=8080"}}
}

func TestExec(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"exit 0":                                    "",
		"echo one; echo two >&2; echo; exit 3":      "exit status 3: two",
		"exit 1":                                    "exit status 1",
		`[ "$PORT" = 8080 ] && [ -z "$HOME" ]`:      "",
		`[ "$PWD" = / ] && command -v ls`:           "",
		"kill -9 $$":                                "signal: killed",
		"yes x | head -c 1000000; echo end; exit 1": "exit status 1: end",
		"sleep 60 & exit 0":                         "",
	} {
		wants(t, script, within(t, 20*time.Second, shell(script)), want)
	}
	wants(t, "no command", within(t, time.Second, Check{UID: -1, GID: -1}), "no command given")
	wants(t, "no such command", within(t, time.Second, Check{Exec: []string{"/nonexistent/check"}, UID: -1, GID: -1}), "no such file")
}

// The whole process group is killed at the timeout.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	c := shell("echo $$ > " + file + "; sleep 600 & echo $! >> " + file + "; wait")
	wants(t, "hangs", within(t, 500*time.Millisecond, c), "no result within 500ms")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); alive(t, pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d lives", pid)
			}
		}
	}
}

// alive is false for a zombie that nobody has waited for.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z") && syscall.Kill(pid, 0) == nil
}

func TestExecUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a check as another user")
	}
	c := shell(`[ "$(id -u):$(id -g):$(id -G)" = 12345:23456:23456 ]`)
	c.UID, c.GID = 12345, 23456
	wants(t, "as another user", within(t, 20*time.Second, c), "")
	c.UID, c.GID = -1, -1
	wants(t, "as ourselves", within(t, 20*time.Second, c), "exit status 1")
}

func TestTail(t *testing.T) {
	t.Parallel()
	var out tail
	for range 100 {
		if n, err := out.Write([]byte(strings.Repeat("y", 999) + "\n")); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(out.b) > tailSize {
		t.Errorf("keeps %d bytes", len(out.b))
	}
	if got := out.last(); got != strings.Repeat("y", 999) {
		t.Errorf("last line is %q", got)
	}
}

func TestProbeCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	a := attempt{probe: probe, timeout: time.Hour}
	go func() { done <- a.run(ctx, shell("sleep 600")) }()
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a check that was ended passed")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end with its context")
	}
}
