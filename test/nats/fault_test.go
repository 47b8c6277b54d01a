package nats_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// defaults are the options of an agent: nothing is quicker than there.
func defaults(url string) nats.Options {
	return nats.Options{Servers: []string{url}, Bucket: "listener"}
}

// within fails the test when something took longer than ten times what it may.
func within(t testing.TB, what string, began time.Time, figure time.Duration) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s after %v", what, took.Round(10*time.Millisecond))
	if took > 10*figure {
		t.Errorf("%s after %v, ten times the deadline of %v", what, took, figure)
	}
}

// A link that swallows everything is noticed, and once it is good the newest
// value arrives.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	p := startProxy(t, s.addr())
	a, b := openStore(t, defaults(p.url())), openStore(t, defaults(s.url()))
	put(t, b, "/t/a", "1")
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	p.set(black)
	began := time.Now()
	f.until("Lost", func() bool { return f.lost != nil })
	within(t, "Lost", began, 10*time.Second)
	put(t, b, "/t/a", "2")
	p.set(open)
	began = time.Now()
	f.has("/t/a", "2")
	within(t, "the newest value", began, 10*time.Second)
}

// The same for a server that is stopped, and a start while it is.
func TestServerStopped(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	put(t, a, "/t/a", "1")
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	s.signal(syscall.SIGSTOP)
	began := time.Now()
	late := follow(t, openStore(t, defaults(s.url())), "/t/")
	late.until("Lost at the start", func() bool { return late.lost != nil })
	within(t, "Lost at the start", began, 2*time.Second)
	f.until("Lost", func() bool { return f.lost != nil })
	within(t, "Lost", began, 10*time.Second)
	if !errors.Is(f.lost, store.ErrUnavailable) {
		t.Errorf("Lost says %v", f.lost)
	}
	s.signal(syscall.SIGCONT)
	began = time.Now()
	put(t, a, "/t/a", "2")
	f.has("/t/a", "2")
	late.has("/t/a", "2")
	within(t, "the newest value", began, 10*time.Second)
}

// After a crash of the server with writes under way, what was acknowledged is
// there and the watch agrees with it. A killed process loses no page cache.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	f := follow(t, a, "/t/")
	last := ""
	for round := range 5 {
		stop := make(chan struct{})
		acknowledged := make(chan string, 1)
		go func() {
			value := ""
			for i := 0; ; i++ {
				select {
				case <-stop:
					acknowledged <- value
					return
				default:
				}
				next := fmt.Sprintf("%d.%06d", round, i)
				if _, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte(next)), store.Put("/t/b", []byte(next))); err == nil {
					value = next
				}
			}
		}()
		before := f.changes
		f.until("some writes", func() bool { return f.changes > before+20 })
		s.kill()
		began := time.Now()
		s.start(t)
		close(stop)
		if v := <-acknowledged; v != "" {
			last = v
		}
		answers(t, a)
		now := string(get(t, a, "/t/a").Value)
		if now < last {
			t.Fatalf("round %d: %s is there, %s was acknowledged", round, now, last)
		}
		f.has("/t/a", now)
		f.has("/t/b", now)
		within(t, "caught up after a restart", began, 1500*time.Millisecond)
	}
}

func TestBucketRemoved(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	x, err := a.Session(t.Context(), 2*time.Second, "")
	must(t, err)
	commit(t, a, nil, store.PutSession("/t/bound", nil, x), store.Put("/t/a", []byte("1")))
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	rev := f.rev

	js := jetStream(t, s)
	must(t, js.DeleteStream(t.Context(), "KV_listener"))
	began := time.Now()
	f.until("a Reset to nothing", func() bool { return f.resets > 1 && len(f.state) == 0 })
	within(t, "noticed that the bucket was made again", began, 20*time.Second)
	if f.rev >= rev || f.rev == 0 {
		t.Errorf("at revision %d, was %d", f.rev, rev)
	}
	select {
	case <-x.Done():
	case <-time.After(time.Minute):
		t.Error("the session is not lost")
	}
	put(t, a, "/t/a", "2")
	f.has("/t/a", "2")

	// A write notices at once.
	must(t, js.DeleteStream(t.Context(), "KV_listener"))
	eventually(t, "a write", func() error {
		_, err := a.Commit(t.Context(), nil, store.Put("/t/b", []byte("3")))
		return err
	})
	f.until("the new state", func() bool { return fmt.Sprint(f.values()) == "map[/t/b:3]" })
	if f.others != 2 {
		t.Errorf("%d Resets of %d are of another history, want both", f.others, f.resets)
	}
}

// A bucket that took the other's place is ahead of all that was seen, so that
// no revision tells.
func TestBucketReplaced(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	p := startProxy(t, s.addr())
	a, b := openStore(t, options(p.url())), openStore(t, options(s.url()))
	put(t, b, "/t/a", "1")
	put(t, b, "/t/b", "1")
	f := follow(t, a, "/t/")
	f.has("/t/b", "1")
	p.set(cut)
	f.until("Lost", func() bool { return f.lost != nil })
	put(t, b, "/t/a", "2")
	p.set(open)
	f.has("/t/a", "2")
	if f.others != 0 {
		t.Error("the same bucket is of another history")
	}
	for round := 1; round <= 2; round++ {
		p.set(cut)
		f.until("Lost", func() bool { return f.lost != nil })
		if round == 1 {
			must(t, jetStream(t, s).DeleteStream(t.Context(), "KV_listener"))
		} else {
			s.wipe(t)
		}
		eventually(t, "the new bucket is ahead", func() error {
			rev, err := b.Commit(t.Context(), nil, store.Put("/t/a", fmt.Append(nil, round+2)))
			if err == nil && rev <= f.rev+10 {
				err = errors.New("not yet")
			}
			return err
		})
		p.set(open)
		f.lacks("/t/b")
		f.has("/t/a", fmt.Sprint(round+2))
		if f.others != round {
			t.Errorf("%d Resets are of another history, want %d", f.others, round)
		}
		put(t, b, "/t/b", "1")
		f.has("/t/b", "1")
	}
}

// Emptied behind the agent's back, without a marker for any key.
func TestBucketPurged(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, options(s.url()))
	put(t, a, "/t/a", "1")
	put(t, a, "/t/b", "1")
	f := follow(t, a, "/t/")
	f.has("/t/b", "1")
	stream, err := jetStream(t, s).Stream(t.Context(), "KV_listener")
	must(t, err)
	must(t, stream.Purge(t.Context()))
	began := time.Now()
	f.until("nothing is there", func() bool { return len(f.state) == 0 })
	within(t, "noticed that the bucket was emptied", began, time.Second)
	put(t, a, "/t/a", "1")
	put(t, a, "/t/b", "1")
	f.has("/t/b", "1")

	// A key that is written before anybody looks hides nothing.
	kv, err := jetStream(t, s).KeyValue(t.Context(), "listener")
	must(t, err)
	must(t, stream.Purge(t.Context()))
	_, err = kv.Put(t.Context(), "t.b", []byte("2"))
	must(t, err)
	f.has("/t/b", "2")
	f.lacks("/t/a")
	if f.others != 2 {
		t.Errorf("%d Resets are of another history, want both", f.others)
	}
	eventually(t, "a write", func() error {
		_, err := a.Commit(t.Context(), nil, store.Put("/t/a", []byte("2")))
		return err
	})
	f.has("/t/a", "2")
}

// jetStream is a bare client.
func jetStream(t testing.TB, s *server) jetstream.JetStream {
	t.Helper()
	nc, err := client.Connect(s.url(), client.ErrorHandler(func(*client.Conn, *client.Subscription, error) {}))
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return js
}

func TestBucketSettings(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	js := jetStream(t, s)
	_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "listener", History: 5, TTL: time.Hour})
	must(t, err)
	a := openStore(t, defaults(s.url()))
	_, err = a.Get(t.Context(), "/t/a")
	if !errors.Is(err, nats.ErrBucket) || !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("get: %v", err)
	}
	for _, want := range []string{"history must be 1, not 5", "max_age must be 0", "allow_atomic must be true", "allow_msg_ttl must be true", "subject_delete_marker_ttl"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	// Once the operator has put it right, it is used.
	config := streamConfig(t, a, js)
	config.MaxMsgsPerSubject, config.MaxAge = 1, 0
	config.AllowAtomicPublish, config.AllowMsgTTL, config.SubjectDeleteMarkerTTL = true, true, time.Hour
	_, err = js.UpdateStream(t.Context(), config)
	must(t, err)
	answers(t, a)
	put(t, a, "/t/a", "1")
}

func streamConfig(t testing.TB, _ *nats.Store, js jetstream.JetStream) jetstream.StreamConfig {
	t.Helper()
	stream, err := js.Stream(t.Context(), "KV_listener")
	must(t, err)
	return stream.CachedInfo().Config
}

// A bucket that takes no more says so, and what is there is served.
func TestFull(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	js := jetStream(t, s)
	a := openStore(t, defaults(s.url()))
	put(t, a, "/t/a", "1")
	config := streamConfig(t, a, js)
	config.MaxBytes = 64 << 10
	_, err := js.UpdateStream(t.Context(), config)
	must(t, err)
	f := follow(t, a, "/t/")
	f.has("/t/a", "1")
	big := make([]byte, 20<<10)
	for i := range 10 {
		if _, err = a.Commit(t.Context(), nil, store.Put(fmt.Sprintf("/t/big%d", i), big), store.Put("/t/n", []byte(fmt.Sprint(i)))); err != nil {
			break
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "max_bytes") {
		t.Fatalf("writing to a full bucket: %v", err)
	}
	if kv := get(t, a, "/t/a"); string(kv.Value) != "1" {
		t.Errorf("%q", kv.Value)
	}
	config.MaxBytes = -1
	_, err = js.UpdateStream(t.Context(), config)
	must(t, err)
	put(t, a, "/t/a", "2")
	f.has("/t/a", "2")
}

// A server without what is needed is refused by its version. The one here
// only says that it is 2.10.
func TestOldServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, `INFO {"server_id":"X","version":"2.10.27","proto":1,"headers":true,"jetstream":true,"max_payload":1048576}`+"\r\n")
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "PING") {
					fmt.Fprint(c, "PONG\r\n")
				}
			}
		}
	}()
	a := openStore(t, defaults("nats://"+l.Addr().String()))
	f := follow(t, a, "/t/")
	f.until("Lost", func() bool { return f.lost != nil })
	if !errors.Is(f.lost, nats.ErrServer) || !strings.Contains(f.lost.Error(), "2.10.27") || !strings.Contains(f.lost.Error(), "2.12") {
		t.Errorf("Lost says %v", f.lost)
	}
	if _, err := a.Commit(t.Context(), nil, store.Put("/t/a", nil)); !errors.Is(err, nats.ErrServer) {
		t.Errorf("commit: %v", err)
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, "accounts { A: { users: [ {user: a, password: a} ] } }\nno_auth_user: a")
	f := follow(t, openStore(t, defaults(s.url())), "/t/")
	f.until("Lost", func() bool { return f.lost != nil })
	if !errors.Is(f.lost, nats.ErrServer) || !strings.Contains(f.lost.Error(), "JetStream") {
		t.Errorf("Lost says %v", f.lost)
	}
}

// Nobody listens: operations say so in time, Close does not wait.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	a := openStore(t, defaults(fmt.Sprintf("nats://127.0.0.1:%d", freePort(t))))
	began := time.Now()
	f := follow(t, a, "/t/")
	f.until("Lost", func() bool { return f.lost != nil })
	within(t, "Lost", began, 2*time.Second)
	_, err := a.Get(t.Context(), "/t/a")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Get(ctx, "/t/a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get with a context that ends: %v", err)
	}
	missing := defaults("nats://127.0.0.1:1")
	missing.CredsFile = filepath.Join(t.TempDir(), "none")
	_, err = openStore(t, missing).Get(t.Context(), "/t/a")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), missing.CredsFile) {
		t.Errorf("get without the creds file: %v", err)
	}
}
