package status

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func at(hour, minute, second int) time.Time {
	return time.Date(2026, 11, 21, hour, minute, second, 0, time.UTC)
}

func text(t *testing.T, s Status) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Text(&b, at(12, 0, 0), 80); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func busy() Status {
	run := &Run{ID: "20261121-115800-3f9a", Kind: "auto", Reasons: []string{"A", "B", "C", "D", "E", "F"}, Keys: []string{"A", "B"}, Started: at(11, 58, 0), Ended: at(11, 58, 2), Result: "failed"}
	return Status{
		Node: "web1", Region: "default", Federation: "shop", Version: "v1", Started: at(9, 0, 0),
		On: true, Store: Store{Kind: "etcd", State: "unreachable", Since: at(11, 0, 0), Revision: 7, Error: "connection refused"},
		Pending: &Pending{Since: at(11, 59, 50), Kind: "retry", Keys: []string{"A"}, Services: []string{"api"}, Gate: "back-off", Why: "step node failed", Until: at(12, 0, 8)},
		LastRun: run,
		Failures: []Failure{{
			Step: "node", Run: run.ID, Count: 3, At: at(11, 58, 2), Text: "exit code 1 after 2.1s", NextTry: at(12, 0, 8),
			LastTail: []string{"one", "two", "three", "\x1b[31mfour\x1b[0m"},
		}},
		Conditions: []Condition{{Name: "degraded", Severity: "warning", Service: "api", Key: "A", Since: at(11, 48, 0), Text: "api: A is last known good, 12 min old"}},
		Services:   []Service{{ID: "api", State: "ready", Due: true, Applied: at(10, 0, 0)}, {ID: "web", State: "waiting", Waiting: []string{"WEB_URL"}}},
	}
}

func TestStatusText(t *testing.T) {
	want := `node      web1, region default, federation shop (listener v1, up 3h00m)
on        yes
store     etcd, UNREACHABLE since 11:00:00 (1h00m); the last picture is kept:
            connection refused
pending   retry run since 11:59:50 (10s); A
          for api
          held by back-off until 12:00:08 (in 8.0s): step node failed
last run  20261121-115800-3f9a FAILED 1m58s ago (11:58:02), took 2.0s; A, B, C,
            D and 2 more
FAILED    step node: exit code 1 after 2.1s, 1m58s ago (11:58:02), 3 times in a
            row; next try 12:00:08 (in 8.0s)
            | two
            | three
            | ?[31mfour?[0m
warning   degraded, since 11:48:00 (12m00s): api: A is last known good, 12 min
            old
services  2: 1 ready, 1 waiting
            api                  ready    provisioned 2h00m ago (10:00:00), due
            web                  waiting  needs WEB_URL
`
	if got := text(t, busy()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOffText(t *testing.T) {
	s := Status{Store: Store{Kind: "local", State: "ok"}, Off: &Off{Who: "ann", Reason: "db work", Since: at(11, 0, 0), Until: at(13, 0, 0), Lane: "provision"}}
	want := "on        NO, the provision lane: switched off by ann 1h00m ago (11:00:00): db\n            work; until 13:00:00 (in 1h00m)\n"
	if got := text(t, s); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is not in service is said once, not as a condition as well.
func TestPublishingText(t *testing.T) {
	s := Status{
		Store: Store{Kind: "local", State: "ok"},
		Publishing: &Publishing{
			Published: []Published{
				{Key: "A_URL", Service: "a", State: "up"},
				{Key: "B_URL", Service: "b", State: "down", Why: "its check fell"},
				{Key: "C_URL", Service: "c", Want: "up", Error: "no permission"},
			},
			Checks: []CheckResult{
				{Service: "a", Kind: "tcp", Target: "127.0.0.1:1", State: "up"},
				{Service: "b", Kind: "http", Target: "http://127.0.0.1:2/", State: "down", Since: at(11, 59, 0), Error: "status 500", Failed: 3},
			},
		},
		Conditions: []Condition{{Name: "check down", Severity: "warning", Service: "b", Text: "status 500"}},
	}
	want := `CHECK     b is down since 11:59:00 (1m00s), http http://127.0.0.1:2/: status 500
            (3 times in a row)
provides  3 entries, 1 up
            B_URL of b: down: its check fell
            C_URL of c: not published, to be up: no permission
services  none
`
	if got := text(t, s); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.Publishing = &Publishing{
		Published: []Published{{Key: "A_URL", Service: "a", State: "left"}},
		Drain:     &Drain{Who: "ann", Reason: "reboot", Since: at(11, 59, 50), State: "draining", Until: at(12, 0, 0)},
	}
	want = `drained   by ann 10s ago (11:59:50): reboot; takes nobody new, withdrawn at
            12:00:00 (now)
services  none
`
	if got := text(t, s); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Those that fail come first; of what is ok one sees that it leads somewhere.
func TestBalancersText(t *testing.T) {
	s := Status{Store: Store{Kind: "local", State: "ok"}, Balancers: []Balancer{
		{Kind: "internal", Path: "/a.cfg", State: "ok", Frontends: 1, Servers: 2},
		{Kind: "public", Path: "/b.cfg", State: "failed", Error: "no such file"},
	}}
	want := `balancer  public /b.cfg: FAILED: no such file
balancer  internal /a.cfg: ok, 1 frontend, 2 servers
services  none
`
	if got := text(t, s); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// However much there is to say, it is one screen.
func TestStatusFits(t *testing.T) {
	for n := range 60 {
		s := busy()
		s.Publishing = &Publishing{Drain: &Drain{Reason: strings.Repeat("long ", 30), State: "draining", Until: at(12, 0, 9)}}
		for i := range n {
			s.Services = append(s.Services, Service{ID: fmt.Sprintf("service-%d", i), State: "ready"})
			s.Conditions = append(s.Conditions, Condition{Name: "missing", Severity: "error", Text: strings.Repeat("long ", 50)})
			s.Failures = append(s.Failures, s.Failures[0])
			s.Publishing.Checks = append(s.Publishing.Checks, CheckResult{State: "down", Error: strings.Repeat("no ", 40)})
			s.Balancers = append(s.Balancers, Balancer{State: "failed", Error: strings.Repeat("long ", 50)})
			s.Publishing.Published = append(s.Publishing.Published, Published{Key: "K", State: "down", Error: strings.Repeat("no ", 40)})
		}
		got := text(t, s)
		if lines := strings.Count(got, "\n"); lines > 24 {
			t.Fatalf("%d of each: %d lines\n%s", n, lines, got)
		}
		for line := range strings.Lines(got) {
			if utf8.RuneCountInString(line) > 81 {
				t.Fatalf("too wide: %q", line)
			}
		}
		if n > 10 && !strings.Contains(got, "more") {
			t.Fatalf("it does not say that there is more:\n%s", got)
		}
	}
}

func TestExplainText(t *testing.T) {
	e := Explain{
		Verdict: "A run starts in 8s.", Reasons: []string{"changed"},
		Due:        []DueService{{ID: "api", Step: "node", Why: "A changed", Keys: []string{"A"}}},
		NotDue:     []string{"web: waits for WEB_URL"},
		Gates:      []Gate{{Name: "on", Open: true}, {Name: "interval", Why: "10s between runs", Until: at(12, 0, 8)}},
		Conditions: []Condition{{Name: "missing", Severity: "error", Since: at(11, 0, 0), Text: "A is gone", Hint: "put A"}},
	}
	var b bytes.Buffer
	if err := e.Text(&b, at(12, 0, 0), 80); err != nil {
		t.Fatal(err)
	}
	want := `A run starts in 8s.
because   changed
due       api (node step): A changed
not due   web: waits for WEB_URL
gate      open   on
gate      CLOSED interval until 12:00:08 (in 8.0s): 10s between runs
ERROR     missing, since 11:00:00 (1h00m): A is gone
          hint: put A
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestRunText(t *testing.T) {
	r := *busy().LastRun
	r.Files = []string{"/etc/a.conf"}
	r.Steps = []Step{{Name: "node", Services: []string{"api", "web"}, Started: r.Started, Ended: r.Ended, Result: "failed", Exit: 1}, {Name: "api", Result: "skipped"}}
	var b bytes.Buffer
	if err := r.Text(&b, at(12, 0, 0), 80); err != nil {
		t.Fatal(err)
	}
	want := `run       20261121-115800-3f9a, auto
result    FAILED
started   2m00s ago (11:58:00)
ended     1m58s ago (11:58:02), took 2.0s
because   A, B, C, D
          E, F
keys      A, B
step      node: FAILED, exit code 1 after 2.0s; for api, web
step      api: SKIPPED
wrote     /etc/a.conf
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := RunsText(&b, []Run{r}, at(12, 0, 0), 0); err != nil {
		t.Fatal(err)
	}
	if want := "20261121-115800-3f9a  FAILED   auto       2.0s  11:58:00; A, B, C, D and 2 more\n"; b.String() != want {
		t.Errorf("got %q want %q", b.String(), want)
	}
}
