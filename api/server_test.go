package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

func TestAgentRoutes(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, body string
		prepare                  func(*fakeAgent)
		status                   int
		answer                   string
	}{
		{"status", "GET", "/v1/status", "", nil, 200, `"node": "web1"`},
		{"explain", "GET", "/v1/explain", "", nil, 200, "Nothing is due."},
		{"on when on", "POST", "/v1/on", "", nil, 200, `"changed": false`},
		{"a lane that is none", "POST", "/v1/on", `{"lane":"fast"}`, nil, 400, "provision or balancer"},
		{"off for a negative time", "POST", "/v1/off", `{"for":-1}`, nil, 400, "negative"},
		{"provision", "POST", "/v1/provision", `{"now":true}`, nil, 202, `"ticket": 7`},
		{"provision and wait", "POST", "/v1/provision?wait=1", "", nil, 200, `"id": "r1"`},
		{"provision and wait, badly", "POST", "/v1/provision?wait=x", "", nil, 400, "neither yes nor no"},
		{"provision while off", "POST", "/v1/provision", "", func(f *fakeAgent) { f.isOff = true }, 409, "listener on"},
		{"provision even if off", "POST", "/v1/provision", `{"even_if_off":true}`, func(f *fakeAgent) { f.isOff = true }, 202, ""},
		{"once", "POST", "/v1/once", "", nil, 200, `"held": "min_interval"`},
		{"accept", "POST", "/v1/accept", `{"key":"A"}`, nil, 200, `"changed": []`},
		{"reload", "POST", "/v1/reload", "", nil, 200, ""},
		{"reload of a bad file", "POST", "/v1/reload", "", func(f *fakeAgent) { f.reload = errors.New("f:1:2: bad") }, 400, `"code": "settings"`},
		{"runs", "GET", "/v1/runs?n=3", "", nil, 200, `"id": "r1"`},
		{"runs, badly", "GET", "/v1/runs?n=-1", "", nil, 400, "count"},
		{"run", "GET", "/v1/runs/r1", "", nil, 200, `"id": "r1"`},
		{"no such run", "GET", "/v1/runs/r2", "", nil, 404, "not_found"},
		{"no such log", "GET", "/v1/runs/r2/log", "", nil, 404, "not_found"},
		{"service", "GET", "/v1/services/api", "", nil, 200, "(redacted)"},
		{"service revealed", "GET", "/v1/services/api?reveal=1", "", nil, 200, "secret"},
		{"no such service", "GET", "/v1/services/none", "", nil, 404, "not_found"},
		{"environment", "GET", "/v1/services/api/environment", "", nil, 200, `"X": "secret"`},
		{"environment of none", "GET", "/v1/services/none/environment?follow=1", "", nil, 404, "not_found"},
		{"environment, badly", "GET", "/v1/services/api/environment?follow=x", "", nil, 400, "neither yes nor no"},
		{"hold for nothing", "POST", "/v1/hold", `{}`, nil, 400, "command is empty"},
		{"drain", "POST", "/v1/drain", `{"reason":"kernel"}`, nil, 200, `"changed": true`},
		{"drain, badly", "POST", "/v1/drain", `{"why":"x"}`, nil, 400, "invalid"},
		{"undrain when not drained", "POST", "/v1/undrain", "", nil, 200, `"changed": false`},
		{"providers", "GET", "/v1/providers", "", withEntry, 200, `"bad": 1`},
		{"providers of a key", "GET", "/v1/providers/K", "", withEntry, 200, `"seen": "2026-`},
		{"providers of a key, redacted", "GET", "/v1/providers/K", "", withEntry, 200, `"value": "(redacted)"`},
		{"providers of a key, revealed", "GET", "/v1/providers/K?reveal=1", "", withEntry, 200, `"value": "http://a"`},
		{"providers of nothing", "GET", "/v1/providers/NONE", "", withEntry, 200, "[]"},
		{"providers of no key", "GET", "/v1/providers/low", "", nil, 400, "cannot be a key"},
		{"nodes", "GET", "/v1/nodes", "", withEntry, 200, `"waiting_on"`},
		{"federation", "GET", "/v1/federation", "", withEntry, 200, `"federation": "default"`},
		{"federation, unreachable", "GET", "/v1/federation", "", func(f *fakeAgent) { f.store.failing = store.ErrUnavailable }, 503, "unavailable"},
		{"healthz", "GET", "/healthz", "", nil, 200, "ok"},
		{"readyz", "GET", "/readyz", "", nil, 200, "ok"},
		{"not ready", "GET", "/readyz", "", func(f *fakeAgent) { f.status.Store.State = "waiting" }, 503, "waiting for the store"},
		{"no route", "GET", "/v2/x", "", nil, 404, `"code": "no_route"`},
		{"wrong method", "PATCH", "/v1/values/A", "", nil, 405, "GET, PUT, DELETE"},
		{"the store refuses", "GET", "/v1/values/A", "", func(f *fakeAgent) { f.store.failing = store.ErrPermission }, 403, "permission"},
		{"a session is gone", "GET", "/v1/values/A", "", func(f *fakeAgent) { f.store.failing = store.ErrSession }, 503, "unavailable"},
		{"anything else", "GET", "/v1/values/A", "", func(f *fakeAgent) { f.store.failing = errors.New("odd") }, 500, `"code": "internal"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			if tt.prepare != nil {
				tt.prepare(f)
			}
			w := httptest.NewRecorder()
			direct(f).ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.answer) {
				t.Errorf("got %d %s, want %d with %q", w.Code, w.Body, tt.status, tt.answer)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/json" || !json.Valid(w.Body.Bytes()) {
				t.Errorf("not JSON: %s %s", ct, w.Body)
			}
		})
	}
}

// withEntry gives a key a good entry and a bad one, and a node.
func withEntry(f *fakeAgent) {
	put := func(key, value string) {
		f.store.rev++
		f.store.kvs[key] = store.KV{Key: key, Value: []byte(value), Rev: f.store.rev}
	}
	put(f.Space().Provider("K", "eu", "n1", "api"), `{"value": "http://a", "state": "up"}`)
	put(f.Space().Provider("K", "eu", "n2", "api"), `{`)
	put(f.Space().Node("n1"), `{"state": "up", "waiting_on": ["X"]}`)
	f.seen = map[uint64]time.Time{1: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// A hold lasts as long as its connection, and is of who the kernel says.
func TestHold(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	held, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- c.Hold(ctx, api.HoldRequest{Command: "migrate", PID: 1}, func() { close(held) }) }()
	<-held
	if got := f.holder(); got.Command != "migrate" || got.PID != os.Getpid() || got.Who == "" {
		t.Errorf("held by %+v", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); f.holder().Command != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hold outlives its connection")
		}
	}
}

func TestFollowEnvironment(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	got := ""
	err := c.FollowEnvironment(t.Context(), "api", func(env status.Environment) error {
		got = env.Vars["X"]
		return nil
	})
	if got != "secret" || !errors.Is(err, api.ErrNoAgent) { // the end of the stream
		t.Errorf("%q, %v", got, err)
	}
}

func TestClient(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	ctx := t.Context()
	if err := c.Off(ctx, api.OffRequest{Reason: "db work", For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if f.off.Reason != "db work" || f.off.For != time.Hour || f.off.Who == "" || f.off.Who == "unknown" {
		t.Errorf("off got %+v; the kernel knows who asks", f.off)
	}
	_, err := c.Provision(ctx, api.ProvisionRequest{})
	own, ok := errors.AsType[*api.Error](err)
	if !errors.Is(err, api.ErrOff) || !ok || own.Hint == "" {
		t.Errorf("provision while off: %v", err)
	}
	if changed, err := c.On(ctx, ""); err != nil || !changed {
		t.Errorf("on: %v, %v", changed, err)
	}
	if run, err := c.ProvisionWait(ctx, api.ProvisionRequest{Now: true}); err != nil || run.ID != "r1" || !f.asked.Now {
		t.Errorf("provision: %+v, %v", run, err)
	}
	if _, err := c.Accept(ctx, "K"); err != nil || f.accepted != "K" {
		t.Errorf("accept: %q, %v", f.accepted, err)
	}
	if d, err := c.Once(ctx); err != nil || d.Held != "min_interval" {
		t.Errorf("once: %+v, %v", d, err)
	}
	if st, err := c.Status(ctx); err != nil || st.Node != "web1" {
		t.Errorf("status: %+v, %v", st, err)
	}
	if _, err := c.Run(ctx, "../x"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("run: %v", err)
	}
	if vars, err := c.Resolve(ctx, "api", true); err != nil || vars[0].Value != "secret" {
		t.Errorf("resolve: %+v, %v", vars, err)
	}
}

func TestEvents(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	f.events <- status.Event{Name: "run started", Text: "line\nbreak"}
	enough := errors.New("enough")
	err := c.Events(t.Context(), func(ev status.Event) error {
		if ev.Name != "run started" || ev.Text != "line\nbreak" {
			t.Errorf("got %+v", ev)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

// A log is followed until its run has ended, with all that came last.
func TestFollowLog(t *testing.T) {
	f := newFake()
	f.run.Result = ""
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.log, err = os.Open(path); err != nil { // a file reads on after EOF
		t.Fatal(err)
	}
	write := func(s string) {
		if _, err := file.WriteString(s); err != nil {
			t.Error(err)
		}
	}
	write("first\n")
	c, _ := serve(t, f)
	log, run, err := c.Log(t.Context(), "", true)
	if err != nil || run != "r1" {
		t.Fatal(run, err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(log, got); err != nil || string(got) != "first\n" {
		t.Fatalf("%q %v", got, err)
	}
	write("second\n")
	f.mu.Lock()
	write("third\n")
	f.run.Result = "ok"
	f.mu.Unlock()
	rest, err := io.ReadAll(log)
	if err != nil || string(rest) != "second\nthird\n" {
		t.Errorf("%q %v", rest, err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

// Serve ends at once though a stream is open.
func TestServeEnds(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(socket, 0o600, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	f := newFake()
	go func() { done <- api.New(api.Options{Agent: f}).Serve(ctx, ln) }()
	c, err := api.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f.events <- status.Event{Name: "x"}
	streamed := c.Events(t.Context(), func(status.Event) error { cancel(); return nil })
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if !errors.Is(streamed, api.ErrNoAgent) {
		t.Errorf("the stream ended with %v", streamed)
	}
	if _, err := api.Dial(socket); !errors.Is(err, api.ErrNoAgent) {
		t.Errorf("after the end: %v", err)
	}
}

// What is no HTTP, or stops half-way, does not stop the server.
func TestHostileInput(t *testing.T) {
	c, socket := serve(t, newFake())
	for _, text := range []string{
		"\x00\xff\n\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "PUT /v1/values/A HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc",
		"GET /" + strings.Repeat("a", 1<<17) + " HTTP/1.1\r\n\r\n",
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(conn, text) // it may be cut off while it sends
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	f := newFake()
	f.status.RunsTotal = 12
	f.status.Node = `we"b`
	f.status.LastRun = &status.Run{Result: "failed", Started: time.Unix(100, 0), Ended: time.Unix(102, 0)}
	f.status.Conditions = []status.Condition{{Severity: "error"}}
	w := httptest.NewRecorder()
	direct(f).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`node="we\"b"`, "listener_runs_total 12\n", "listener_on 1\n", "listener_pending 0\n", `listener_store_connected{kind="local"} 1`,
		`listener_conditions{severity="error"} 1`, "listener_last_run_timestamp_seconds 102\n", "listener_last_run_duration_seconds 2\n", "listener_last_run_success 0\n",
	} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("no %q in\n%s", line, w.Body)
		}
	}
}
