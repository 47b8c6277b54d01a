package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/listener-agent/listener/store"
)

// emptyStore has nothing in it and says so.
type emptyStore struct {
	store.Store
	closed atomic.Bool
}

func (s *emptyStore) List(context.Context, string) ([]store.KV, uint64, error) { return nil, 9, nil }

func (s *emptyStore) Watch(ctx context.Context, _ ...string) <-chan store.Update {
	ch := make(chan store.Update, 1)
	ch <- store.Update{Kind: store.Reset, Rev: 9}
	context.AfterFunc(ctx, func() { close(ch) })
	return ch
}

func (s *emptyStore) Close() error { s.closed.Store(true); return nil }

// A store that opens only at the third try: Lost until then, then a Reset.
func TestLateStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &emptyStore{}
		tries := 0
		s := openLate(func() (store.Store, error) {
			if tries++; tries < 3 {
				return nil, errors.New("locked")
			}
			return inner, nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		updates := s.Watch(ctx, "/")
		if u := <-updates; u.Kind != store.Lost || u.Err == nil {
			t.Errorf("first update %+v", u)
		}
		if _, _, err := s.List(ctx, "/"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("list before it is open: %v", err)
		}
		if u := <-updates; u.Kind != store.Reset || u.Rev != 9 {
			t.Errorf("second update %+v", u)
		}
		if _, rev, err := s.List(ctx, "/"); rev != 9 || err != nil {
			t.Errorf("list: %d, %v", rev, err)
		}
		cancel()
		if u, open := <-updates; open {
			t.Errorf("after the end %+v", u)
		}
		if err := s.Close(); err != nil || !inner.closed.Load() {
			t.Errorf("close: %v, closed %v", err, inner.closed.Load())
		}
	})
}

// One that never opens: watches end with Close.
func TestLateStoreCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openLate(func() (store.Store, error) { return nil, errors.New("locked") }, slog.New(slog.DiscardHandler))
		updates := s.Watch(t.Context(), "/")
		<-updates
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, open := <-updates; open {
			t.Error("the watch goes on")
		}
		if _, err := s.Get(t.Context(), "/x"); !errors.Is(err, store.ErrClosed) {
			t.Errorf("get after close: %v", err)
		}
	})
}
