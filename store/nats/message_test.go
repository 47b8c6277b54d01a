package nats

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var bucketNames = namesOf("b")

func TestSubjects(t *testing.T) {
	n := bucketNames
	for key, subject := range map[string]string{
		"/a":                    "$KV.b.a",
		"/a/b=2Ec/d":            "$KV.b.a.b=2Ec.d",
		"/listener/v1/f/x-_=3D": "$KV.b.listener.v1.f.x-_=3D",
	} {
		if got := n.subject(key); got != subject {
			t.Errorf("subject of %s: %s", key, got)
		}
		if got, ok := n.key(subject); !ok || got != key {
			t.Errorf("key of %s: %s, %v", subject, got, ok)
		}
	}
	// The store's own, and what is no key of ours.
	for _, subject := range []string{n.meta, n.guard, n.session + "x", "$KV.b.a/b", "$KV.b.a=2", "$KV.b.a..b", "$KV.b.", "$KV.c.a", "$KV.b.a=41", "$KV.b.ä"} {
		if key, ok := n.key(subject); ok {
			t.Errorf("%s is taken for the key %s", subject, key)
		}
	}
	for prefix, filter := range map[string]string{"/": "$KV.b.>", "/a/": "$KV.b.a.>", "/a/b/": "$KV.b.a.b.>", "/a/b": "$KV.b.a.b"} {
		if got := n.filter(prefix); got != filter {
			t.Errorf("filter of %s: %s, want %s", prefix, got, filter)
		}
	}
}

func TestWiden(t *testing.T) {
	few := []string{"/p/values/A", "/p/values/B", "/p/provides/A/"}
	if got := widen(few).Sorted(); !slices.Equal(got, slices.Sorted(slices.Values(few))) {
		t.Errorf("few: %v", got)
	}
	many := []string{"/p/nodes/n1"}
	for i := range maxFilters {
		many = append(many, fmt.Sprintf("/p/values/K%d", i), fmt.Sprintf("/p/provides/K%d/", i), fmt.Sprintf("/p/regions/r/values/K%d", i))
	}
	if got, want := widen(many).Sorted(), []string{"/p/nodes/n1", "/p/provides/", "/p/regions/r/values/"}; !cmp.Equal(got[:3], want) || len(got) > maxFilters {
		t.Errorf("many: %d, %v", len(got), got[:3])
	}
	// Each in a folder of its own: folders of folders.
	var deep []string
	for i := range 10 * maxFilters {
		deep = append(deep, fmt.Sprintf("/p/d%d/x/K", i))
	}
	p := widen(deep)
	if len(p.Sorted()) > maxFilters {
		t.Errorf("deep: %d", len(p.Sorted()))
	}
	for _, s := range append(many, few...) {
		if !widen(append(many, few...)).Match(s) {
			t.Errorf("%s is not covered", s)
		}
	}
	if got := widen([]string{"/", "/a"}).Sorted(); !slices.Equal(got, []string{"/"}) {
		t.Errorf("the root: %v", got)
	}
}

func header(pairs ...string) nats.Header {
	h := nats.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		header nats.Header
		want   entry
	}{
		"another program's":  {nil, entry{rev: 9, created: 9}},
		"written again":      {header("Listener-Created", "4"), entry{rev: 9, created: 4}},
		"of a batch":         {header("Listener-Batch", "1/3", "Listener-Keys", "/a /b"), entry{rev: 11, created: 11, batch: 11, keys: []string{"/a", "/b"}}},
		"of a large one":     {header("Listener-Batch", "3/3", "Listener-Keys", "*"), entry{rev: 9, created: 9, batch: 9, manyKeys: true}},
		"refreshed":          {header("Listener-Rev", "5", "Listener-Created", "3", "Listener-Session", "s"), entry{rev: 5, created: 3, session: "s"}},
		"copied from afar":   {header("Listener-Rev", "50", "Listener-Created", "30"), entry{rev: 9, created: 9}},
		"nonsense":           {header("Listener-Batch", "4/3", "Listener-Rev", "x", "Listener-Created", "-1"), entry{rev: 9, created: 9}},
		"deleted":            {header("KV-Operation", "DEL"), entry{rev: 9, created: 9, gone: true}},
		"purged":             {header("KV-Operation", "PURGE"), entry{rev: 9, created: 9, gone: true}},
		"expired":            {header("Nats-Marker-Reason", "MaxAge"), entry{rev: 9, created: 9, gone: true, expired: true}},
		"removed":            {header("Nats-Marker-Reason", "Purge"), entry{rev: 9, created: 9, gone: true}},
		"with its session":   {header("KV-Operation", "PURGE", "Listener-Gone", "session"), entry{rev: 9, created: 9, gone: true, expired: true}},
		"its batch is a one": {header("Listener-Batch", "1/1"), entry{rev: 9, created: 9, batch: 9}},
	} {
		c.want.key, c.want.seq = "/a", 9
		got, ok := bucketNames.decode(message{subject: "$KV.b.a", seq: 9, header: c.header})
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(entry{})); !ok || d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestAsBatch(t *testing.T) {
	make := func(n int) (all []*nats.Msg, keys []string) {
		for i := range n {
			all = append(all, nats.NewMsg("s"))
			keys = append(keys, fmt.Sprintf("/k%d", i))
		}
		return all, keys
	}
	one, keys := make(1)
	asBatch("id", one, keys)
	if len(one[0].Header) != 0 {
		t.Errorf("one message: %v", one[0].Header)
	}
	all, _ := make(4)
	asBatch("id", all, []string{"/a", "/b"}) // the first two are guards
	for i, m := range all {
		h := m.Header
		if h.Get("Nats-Batch-Id") != "id" || h.Get("Nats-Batch-Sequence") != fmt.Sprint(i+1) || h.Get("Listener-Batch") != fmt.Sprintf("%d/4", i+1) ||
			(h.Get("Nats-Batch-Commit") == "1") != (i == 3) || (h.Get("Listener-Keys") == "/a /b") != (i >= 2) {
			t.Errorf("message %d: %v", i, h)
		}
	}
	asBatch("id", all, []string{"/a" + strings.Repeat("k", maxKeysHeader), "/b"})
	if k := all[3].Header.Get("Listener-Keys"); k != "*" {
		t.Errorf("a list that is too long: %d bytes", len(k))
	}
}

func TestTTL(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 1500 * time.Millisecond, 2 * time.Second, 2001 * time.Millisecond, 30 * time.Second, 15 * time.Minute} {
		key, record := keyTTL(ttl), recordTTL(ttl)
		if key > 2*ttl || record >= key || record < ttl-time.Second/2 || key != key.Truncate(time.Second) {
			t.Errorf("session of %v: keys %v, record %v", ttl, key, record)
		}
	}
}

func TestRecord(t *testing.T) {
	r := record{ttl: 30 * time.Second, keys: map[string]struct{}{}}
	r.add("/b")
	r.add("/a")
	m, err := r.message("s")
	if err != nil {
		t.Fatal(err)
	}
	got, ok := readRecord(message{seq: 7, header: m.Header, data: m.Data})
	if d := cmp.Diff(record{ttl: r.ttl, keys: r.keys, seq: 7}, got, cmp.AllowUnexported(record{})); !ok || d != "" {
		t.Errorf("read again: %v %s", ok, d)
	}
	if ttl := m.Header.Get("Nats-TTL"); ttl != "44s" {
		t.Errorf("ttl %s", ttl)
	}
	for name, m := range map[string]message{
		"a marker":  {header: header("KV-Operation", "PURGE")},
		"nothing":   {},
		"garbage":   {data: []byte("{")},
		"no ttl":    {data: []byte(`{"keys": ["/a"]}`)},
		"too short": {data: []byte(`{"ttl": "1ms"}`)},
	} {
		if _, ok := readRecord(m); ok {
			t.Errorf("%s is a record", name)
		}
	}
	letters := strings.Repeat("a", 22)
	for id, want := range map[string]bool{
		newID(""): true, newID("web.1"): true, "": false, "no such session": false, strings.Repeat("*", 22): false,
		letters: true, letters + "a": false, "web1." + letters: true, "web=2E1." + letters: true,
		"*." + letters: false, "." + letters: false, "a.b." + letters: false, "web=2e1." + letters: false,
	} {
		if validID(id) != want {
			t.Errorf("validID(%q) = %v", id, !want)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"2.12.0": true, "2.12.0-preview.1": true, "2.15.2": true, "3.0.0": true, "v2.12.1": true, "2.12": true,
		"2.11.17": false, "2.9.10": false, "1.99.0": false, "": false, "x": false,
	} {
		if atLeast(version, minVersion) != want {
			t.Errorf("atLeast(%q) = %v", version, !want)
		}
	}
}

func TestCheckConfig(t *testing.T) {
	s := &Store{names: bucketNames, opts: Options{Replicas: 1}}
	good := s.config()
	if wrong := checkConfig(&good, "$KV.b.>"); wrong != nil {
		t.Errorf("our own: %v", wrong)
	}
	for name, spoil := range map[string]func(*jetstream.StreamConfig){
		"subjects":      func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "x") },
		"mirror":        func(c *jetstream.StreamConfig) { c.Mirror = &jetstream.StreamSource{} },
		"history":       func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"max_age":       func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"discard":       func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1 },
		"allow_direct":  func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"allow_msg_ttl": func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"marker_ttl":    func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Second },
		"allow_atomic":  func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"sealed":        func(c *jetstream.StreamConfig) { c.Sealed = true },
	} {
		c := s.config()
		spoil(&c)
		if wrong := checkConfig(&c, "$KV.b.>"); len(wrong) != 1 || !strings.Contains(wrong[0], name) {
			t.Errorf("%s: %v", name, wrong)
		}
	}
	for want, change := range map[string]func(*jetstream.StreamConfig){
		"":              func(c *jetstream.StreamConfig) { c.Replicas = 3 },
		"sync_interval": func(*jetstream.StreamConfig) {},
		"in memory":     func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"persist_mode":  func(c *jetstream.StreamConfig) { c.PersistMode, c.Replicas = jetstream.AsyncPersistMode, 3 },
	} {
		c := s.config()
		change(&c)
		if text := s.advise(&c); !strings.Contains(text, want) || (want == "") != (text == "") {
			t.Errorf("advice: %q, want %q", text, want)
		}
	}
}
