package etcd_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// onlooker keeps all that a watch says.
type onlooker struct {
	prefixes []string
	pause    time.Duration // after each update
	updates  []store.Update
}

// follow does so until the watch ends, or, with last, until it has told the
// last write to all that it follows.
func (o *onlooker) follow(t *testing.T, ch <-chan store.Update, last bool, deadline <-chan time.Time) {
	done := make(map[string]bool)
	for {
		select {
		case u, ok := <-ch:
			if !ok {
				if last {
					t.Errorf("the watch of %v ended", o.prefixes)
				}
				return
			}
			o.updates = append(o.updates, u)
			for _, kv := range u.KVs {
				done[kv.Key] = string(kv.Value) == stormDone
			}
			if last && o.all(done) {
				return
			}
			time.Sleep(o.pause)
		case <-deadline:
			t.Errorf("the watch of %v does not end, or come to an end: %v", o.prefixes, done)
			return
		}
	}
}

// all says whether all is done of what is followed.
func (o *onlooker) all(done map[string]bool) bool {
	for dir := range stormDirs {
		for key := range stormKeys {
			if k := fmt.Sprintf("/s/%d/%d", dir, key); o.under(k) && !done[k] {
				return false
			}
		}
	}
	return true
}

func (o *onlooker) under(key string) bool {
	return slices.ContainsFunc(o.prefixes, func(p string) bool {
		return p == key || strings.HasSuffix(p, "/") && strings.HasPrefix(key, p)
	})
}

// parts is how many prefixes there are, without those inside another one.
func (o *onlooker) parts() (n int) {
	slices.Sort(o.prefixes)
	o.prefixes = slices.Compact(o.prefixes)
	for _, p := range o.prefixes {
		if !slices.ContainsFunc(o.prefixes, func(q string) bool { return q != p && strings.HasSuffix(q, "/") && strings.HasPrefix(p, q) }) {
			n++
		}
	}
	return n
}

// verify compares what was told with what happened.
func (o *onlooker) verify(t *testing.T, h *history, calm bool) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	state, rev, lost := map[string]uint64{}, uint64(0), false
	for i, u := range o.updates {
		err := o.allowed(u, rev, i == 0, lost, calm)
		switch {
		case err != nil:
		case u.Kind == store.Reset:
			state = make(map[string]uint64)
			err = o.take(h, u, state)
			if want := h.state(u.Rev, o.under); err == nil && !maps.Equal(state, want) {
				err = fmt.Errorf("the state is %v", want)
			}
		case u.Kind == store.Change:
			err = o.take(h, u, state)
			if want := h.state(u.Rev, o.under); err == nil && len(o.prefixes) == 1 && !maps.Equal(state, want) {
				err = fmt.Errorf("the state is %v, told is %v", want, state)
			}
		}
		if err != nil {
			t.Errorf("watch of %v, update %d of %d, %+v after revision %d: %v", o.prefixes, i+1, len(o.updates), u, rev, err)
			return
		}
		lost, rev = u.Kind == store.Lost, max(rev, u.Rev)
	}
}

// allowed says whether an update of this kind may come.
func (o *onlooker) allowed(u store.Update, rev uint64, first, lost, calm bool) error {
	switch {
	case u.Kind == store.Lost && calm && !slow(u.Err):
		return fmt.Errorf("lost, and nothing happened")
	case u.Kind == store.Lost:
		return nil
	case u.OtherHistory:
		return fmt.Errorf("it is the same history")
	case u.Rev < rev:
		return fmt.Errorf("the revision went back")
	case u.Kind == store.Change && (first || lost):
		return fmt.Errorf("a Change before a Reset")
	}
	return nil
}

// slow says whether a watch was lost because something took long, as it may on
// a busy machine.
func slow(err error) bool {
	return slices.ContainsFunc([]string{"no answer", "silent", "no sign of life"}, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// take takes an update into state.
func (o *onlooker) take(h *history, u store.Update, state map[string]uint64) error {
	for _, kv := range u.KVs {
		ev := h.at(kv.Key, kv.Rev)
		if ev == nil || ev.Type != clientv3.EventTypePut || uint64(ev.Kv.ModRevision) != kv.Rev ||
			uint64(ev.Kv.CreateRevision) != kv.Created || string(ev.Kv.Value) != string(kv.Value) {
			return fmt.Errorf("%s was not written so: %+v", kv.Key, ev)
		}
		if kv.Rev <= state[kv.Key] {
			return fmt.Errorf("%s was told at %d", kv.Key, state[kv.Key])
		}
		state[kv.Key] = kv.Rev
	}
	for _, g := range u.Gone {
		ev, before := h.at(g.Key, g.Rev), h.at(g.Key, g.Rev-1)
		switch {
		case ev == nil || ev.Type != clientv3.EventTypeDelete || uint64(ev.Kv.ModRevision) != g.Rev:
			return fmt.Errorf("%s was not removed so: %+v", g.Key, ev)
		case g.Expired != (before.Kv.Lease != 0):
			return fmt.Errorf("%s: a session is %v", g.Key, before.Kv.Lease)
		case g.Rev <= state[g.Key]:
			return fmt.Errorf("%s was told at %d", g.Key, state[g.Key])
		}
		delete(state, g.Key)
	}
	return nil
}
