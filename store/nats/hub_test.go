package nats

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

// hubTest drives a hub without a server, in the bubble of a test.
type hubTest struct {
	*hub
	watch *watch
}

func newHubTest(t *testing.T, prefixes ...string) *hubTest {
	s := &Store{names: bucketNames, ctx: t.Context()}
	s.hub.init(s)
	w := &watch{feed: feed.New(prefixes), bound: make(map[string]uint64)}
	h := &hubTest{hub: &s.hub, watch: w}
	h.filters = feed.NewPrefixes(prefixes)
	h.watches[w] = struct{}{}
	closed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w.feed.Run(t.Context(), closed)
	}()
	t.Cleanup(func() {
		close(closed)
		<-ended
	})
	w.reset(1, 1, nil)
	h.expect(t, "R1")
	return h
}

// take hands over one message: "a" writes, "-a" removes, "a!5" refreshes at
// revision 5. commit, if not "", is "2/3 a b c": the second of three.
func (h *hubTest) take(seq uint64, what, commit string) {
	e := entry{seq: seq, rev: seq, value: fmt.Append(nil, seq)}
	name, gone := strings.CutPrefix(what, "-")
	name, refreshed, _ := strings.Cut(name, "!")
	e.key, e.gone = "/"+name, gone
	if refreshed != "" {
		e.rev, e.session, e.value = number(refreshed), "s", []byte(refreshed)
	}
	if at, keys, ok := strings.Cut(commit, " "); ok {
		i, count, _ := parseBatch(at)
		e.rev = seq + count - i
		e.batch = e.rev
		e.manyKeys = keys == "*"
		for k := range strings.FieldsSeq(strings.TrimPrefix(keys, "*")) {
			e.keys = append(e.keys, "/"+k)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takeLocked(e)
}

// expect compares all updates that came, each as R or C, revision, keys; what
// is not taken yet becomes one with what follows, so that there may be several
// right ones.
func (h *hubTest) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for more := true; more; {
		synctest.Wait()
		select {
		case u := <-h.watch.feed.C():
			text := fmt.Sprintf("%c%d", "?RCL"[u.Kind], u.Rev)
			for _, kv := range u.KVs {
				text += fmt.Sprintf(" %s=%s", kv.Key[1:], kv.Value)
			}
			for _, g := range u.Gone {
				text += " -" + g.Key[1:]
			}
			got = append(got, text)
		default:
			more = false
		}
	}
	if text := strings.Join(got, "|"); !slices.Contains(want, text) {
		t.Errorf("got %q, want %q", text, want)
	}
}

// woken says whether the hub was told to read the state anew.
func (h *hubTest) woken() bool {
	synctest.Wait()
	select {
	case <-h.kick:
		return true
	default:
		return false
	}
}

func TestHub(t *testing.T) {
	for name, run := range map[string]func(*testing.T, *hubTest){
		"one by one": func(t *testing.T, h *hubTest) {
			h.take(2, "a", "")
			h.expect(t, "C2 a=2")
			h.take(3, "-a", "")
			h.expect(t, "C3 -a")
		},
		"a commit": func(t *testing.T, h *hubTest) {
			h.take(2, "a", "1/3 a b c")
			h.take(3, "-b", "2/3 a b c")
			h.expect(t, "")
			h.take(4, "c", "3/3 a b c")
			h.expect(t, "C4 a=2 c=4 -b")
		},
		"a commit of which most is elsewhere": func(t *testing.T, h *hubTest) {
			h.take(3, "b", "2/4 x/1 b x/2 x/3")
			h.expect(t, "C5 b=3")
			h.take(6, "a", "")
			h.expect(t, "C6 a=6")
		},
		"a commit that was overwritten in part": func(t *testing.T, h *hubTest) {
			h.take(2, "a", "1/3 a b c") // b and c are gone by now
			h.take(5, "a", "1/3 a b c")
			h.take(6, "b", "2/3 a b c")
			h.expect(t, "")
			h.take(7, "c", "3/3 a b c")
			h.expect(t, "C7 a=5 b=6 c=7")
		},
		"its beginning was overwritten": func(t *testing.T, h *hubTest) {
			h.take(3, "b", "2/2 a b")
			h.expect(t, "")
			h.take(4, "a", "")
			h.expect(t, "C4 a=4 b=3")
		},
		"what it lacks never comes": func(t *testing.T, h *hubTest) {
			h.woken()
			h.take(3, "b", "2/2 a b")
			if h.woken() {
				t.Error("at once")
			}
			time.Sleep(holdMax)
			if !h.woken() || h.watch.ready {
				t.Error("the state is not read anew")
			}
			h.take(4, "c", "") // comes while it is read
			h.watch.reset(3, 3, []entry{{key: "/b", seq: 3, rev: 3, value: []byte("3")}})
			h.expect(t, "R4 b=3 c=4", "R3 b=3|C4 c=4")
		},
		"too many keys to list": func(t *testing.T, h *hubTest) {
			h.woken()
			h.take(2, "a", "1/2 *")
			if !h.woken() || h.watch.ready {
				t.Error("the state is not read anew")
			}
			h.take(3, "b", "2/2 *")
			if h.woken() {
				t.Error("it is read twice")
			}
		},
		"refreshed": func(t *testing.T, h *hubTest) {
			h.take(5, "a!2", "") // the write itself was overwritten
			h.expect(t, "C5 a=2")
			h.take(6, "a!2", "")
			h.take(7, "a!2", "")
			h.expect(t, "")
			h.take(8, "-a", "")
			h.expect(t, "C8 -a")
			h.take(10, "a!9", "")
			h.expect(t, "C10 a=9")
		},
		"refreshed, known by the reset": func(t *testing.T, h *hubTest) {
			h.watch.reset(5, 5, []entry{{key: "/a", seq: 5, rev: 2, session: "s", value: []byte("2")}})
			h.expect(t, "R5 a=2")
			h.take(4, "a!2", "")
			h.take(6, "a!2", "")
			h.expect(t, "")
		},
		"lost": func(t *testing.T, h *hubTest) {
			round := h.watch.round
			h.lost(store.ErrUnavailable)
			h.take(2, "a", "")
			h.expect(t, "L0")
			if h.watch.round == round {
				t.Error("a state that is being read would still be taken")
			}
			h.waits(store.ErrClosed)
			h.expect(t, "")
		},
		"state and changes meet": func(t *testing.T, h *hubTest) {
			h.mu.Lock()
			h.resetLocked()
			h.mu.Unlock()
			h.take(5, "a", "")
			h.take(6, "b", "")
			h.take(7, "-c", "")
			h.watch.reset(6, 6, []entry{{key: "/b", seq: 6, rev: 6, value: []byte("6")}, {key: "/c", seq: 3, rev: 3}, {key: "/x", seq: 4, gone: true}})
			h.expect(t, "R7 b=6", "R6 b=6 c=|C7 -c")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, newHubTest(t, "/a", "/b", "/c")) })
		})
	}
}
