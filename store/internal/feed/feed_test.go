package feed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

func kv(key string, rev uint64) store.KV {
	return store.KV{Key: key, Value: fmt.Append(nil, rev), Rev: rev, Created: 1}
}

// start runs a feed in the bubble of a test until its end.
func start(t *testing.T, prefixes ...string) *feed.Feed {
	f := feed.New(prefixes)
	closed := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(context.Background(), closed)
	}()
	t.Cleanup(func() {
		close(closed)
		<-ended
	})
	synctest.Wait()
	return f
}

// text is an update in short: R3 a=1 b=2 -c -d!.
func text(u store.Update) string {
	if u.Kind == store.Lost {
		return "L " + u.Err.Error()
	}
	words := []string{fmt.Sprintf("%c%d", "?RC"[u.Kind], u.Rev)}
	if u.OtherHistory {
		words[0] += "!"
	}
	for _, kv := range u.KVs {
		words = append(words, fmt.Sprintf("%s=%s", kv.Key, kv.Value))
	}
	for _, g := range u.Gone {
		word := "-" + g.Key
		if g.Expired {
			word += "!"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// pending takes all updates that wait.
func pending(f *feed.Feed) (all []string) {
	for {
		synctest.Wait()
		select {
		case u := <-f.C():
			all = append(all, text(u))
		default:
			return all
		}
	}
}

// The steps of TestFeed.

type step func(*feed.Feed)

func kvs(rev uint64, keys []string) (all []store.KV) {
	for _, k := range keys {
		all = append(all, kv(k, rev))
	}
	return all
}

func put(rev uint64, keys ...string) step {
	return func(f *feed.Feed) { f.Change(rev, kvs(rev, keys), nil) }
}

func reset(rev uint64, keys ...string) step {
	return func(f *feed.Feed) { f.Reset(rev, kvs(rev, keys)) }
}

func gone(rev uint64, expired bool, keys ...string) step {
	return func(f *feed.Feed) {
		var all []store.Gone
		for _, k := range keys {
			all = append(all, store.Gone{Key: k, Rev: rev, Expired: expired})
		}
		f.Change(rev, nil, all)
	}
}

func lose(f *feed.Feed) { f.Lost(errors.New("broken")) }

func refuse(f *feed.Feed) { f.Lost(store.ErrPermission) }

func other(f *feed.Feed) { f.OtherHistory() }

func TestFeed(t *testing.T) {
	// The first update of each case is in the feed's hand when the others
	// come: those wait and merge.
	for name, c := range map[string]struct {
		does []step
		want string
	}{
		"reset":                       {[]step{reset(3, "/a", "/b")}, "R3 /a=3 /b=3"},
		"nothing there":               {[]step{reset(1)}, "R1"},
		"changes merge":               {[]step{reset(1), put(2, "/b"), put(3, "/a", "/b"), put(4, "/b")}, "R1|C4 /a=3 /b=4"},
		"put then gone":               {[]step{reset(1), put(2, "/a"), gone(3, false, "/a")}, "R1|C3 -/a"},
		"gone then put":               {[]step{reset(1), gone(2, true, "/a", "/b"), put(3, "/a")}, "R1|C3 /a=3 -/b!"},
		"the newest reason":           {[]step{reset(1), gone(2, true, "/a"), put(3, "/a"), gone(4, false, "/a")}, "R1|C4 -/a"},
		"a change before a reset":     {[]step{put(2, "/a")}, ""},
		"lost before a reset":         {[]step{lose, reset(1)}, "L broken|R1"},
		"lost once":                   {[]step{reset(1), lose, lose}, "R1|L broken"},
		"change after lost":           {[]step{reset(1), lose, put(2, "/a")}, "R1|L broken"},
		"changes go before lost":      {[]step{reset(1), put(2, "/a"), lose}, "R1|C2 /a=2|L broken"},
		"lost for another reason":     {[]step{reset(1), refuse, lose, lose}, "R1|L broken"},
		"a reset replaces":            {[]step{reset(5), put(6, "/a"), lose, reset(7, "/b")}, "R5|R7 /b=7"},
		"set back":                    {[]step{reset(5), put(6, "/a"), lose, reset(2, "/b")}, "R5|R2! /b=2"},
		"set back from a change":      {[]step{reset(5), put(8, "/a"), reset(7)}, "R5|R7!"},
		"another history":             {[]step{reset(5), lose, other, reset(6)}, "R5|R6!"},
		"another history, twice read": {[]step{reset(5), other, reset(6), lose, reset(7), put(8, "/a")}, "R5|R8! /a=8"},
		"a waiting reset takes in":    {[]step{reset(5), reset(6, "/a", "/c", "/d"), put(7, "/b", "/c"), gone(8, false, "/d", "/x")}, "R5|R8 /a=6 /b=7 /c=7"},
		"a waiting reset, then lost":  {[]step{reset(5), reset(6, "/a"), put(7, "/a"), lose}, "R5|R7 /a=7|L broken"},
		"two resets, between no word": {[]step{reset(5), reset(6, "/a"), lose, reset(7, "/b")}, "R5|R7 /b=7"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, "/")
				c.does[0](f)
				synctest.Wait()
				for _, do := range c.does[1:] {
					do(f)
				}
				if got := strings.Join(pending(f), "|"); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			})
		})
	}
}

// A receiver that waits gets each change as it comes.
func TestFeedWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "/a/")
		got := make(chan string, 100)
		f.Reset(1, nil)
		go func() {
			for u := range f.C() {
				got <- text(u)
			}
			close(got)
		}()
		synctest.Wait()
		for rev := range uint64(20) {
			f.Change(rev+2, []store.KV{kv("/a/b", rev+2), kv("/ab", rev+2)}, []store.Gone{{Key: "/a"}, {Key: "/b/c"}})
			synctest.Wait()
		}
		f.Change(50, []store.KV{kv("/b", 50)}, nil)
		synctest.Wait()
		if len(got) != 21 {
			t.Errorf("%d updates, want 21", len(got))
		}
		if r := <-got; r != "R1" {
			t.Errorf("first: %s", r)
		}
		if c := <-got; c != "C2 /a/b=2" {
			t.Errorf("second: %s", c)
		}
	})
}

// Whatever the receiver's pace, the newest value arrives.
func TestFeedRace(t *testing.T) {
	f := feed.New([]string{"/"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go f.Run(ctx, nil)
	const last = 20000
	go func() {
		f.Reset(1, nil)
		for rev := uint64(2); rev <= last; rev++ {
			f.Change(rev, []store.KV{kv("/a", rev)}, nil)
		}
	}()
	var before uint64
	for u := range f.C() {
		if u.Rev <= before {
			t.Fatalf("revision %d after %d", u.Rev, before)
		}
		if before = u.Rev; before == last {
			break
		}
	}
	cancel()
	for range f.C() { // ends when it is closed
	}
	f.Reset(1, nil) // after the end: nothing
	f.Change(2, []store.KV{kv("/a", 2)}, nil)
	f.Lost(nil)
}

func TestFeedMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, "/a/", "b")
		f.Reset(1, nil)
		f.Change(2, []store.KV{kv("/a/b", 2)}, nil)
		f.Lost(errors.New("cut"))
		u := <-f.C()
		if u.Kind != store.Lost || !errors.Is(u.Err, store.ErrInvalid) {
			t.Errorf("got %s", text(u))
		}
		if more := pending(f); len(more) > 0 {
			t.Errorf("then %v", more)
		}
	})
}

func TestPrefixes(t *testing.T) {
	p := feed.NewPrefixes([]string{"/b/", "/a", "/b/c/", "/b/c", "/a-b", "/a/b", "/a", "/c/d/"})
	if got, want := p.Sorted(), []string{"/a", "/a-b", "/a/b", "/b/", "/c/d/"}; !slices.Equal(got, want) {
		t.Errorf("sorted: %v, want %v", got, want)
	}
	for key, want := range map[string]bool{
		"/a": true, "/a-b": true, "/a/b": true, "/b/c": true, "/b/x/y/z": true, "/c/d/e": true,
		"/ab": false, "/a/b/c": false, "/a/c": false, "/b": false, "/bb/c": false, "/c/d": false, "/c/de": false, "/": false, "": false,
	} {
		if p.Match(key) != want {
			t.Errorf("Match(%q) = %v", key, !want)
		}
		under := slices.ContainsFunc(p.Sorted(), func(prefix string) bool { return feed.Under(prefix, key) })
		if under != want {
			t.Errorf("Under says %v for %q", under, key)
		}
	}
	if all := feed.NewPrefixes([]string{"/", "/a", "/b/"}); !slices.Equal(all.Sorted(), []string{"/"}) || !all.Match("/a") {
		t.Errorf("the root: %v", all.Sorted())
	}
	if (feed.Prefixes{}).Match("/a") {
		t.Error("the zero value matches")
	}
}
