package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
)

// openEvery is how often a store that could not be opened is tried again.
const openEvery = time.Second

// lateStore is a store that may not be open yet: a locked or unreadable file
// does not stop an agent at its start. Until it is open, everything is
// ErrUnavailable and a watch is Lost.
type lateStore struct {
	ready  chan struct{} // closed when inner is there
	cancel context.CancelFunc
	ended  chan struct{} // closed when nothing is tried any more

	mu    sync.Mutex // guards following
	inner store.Store
	err   error // why it is not open
}

var _ store.Store = (*lateStore)(nil)

// openLate tries now, and if that fails again and again until Close.
func openLate(open func() (store.Store, error), log *slog.Logger) store.Store {
	s, err := open()
	if err == nil {
		return s
	}
	log.Error("the store cannot be opened; trying again", "error", err)
	ctx, cancel := context.WithCancel(context.Background())
	l := &lateStore{ready: make(chan struct{}), cancel: cancel, ended: make(chan struct{}), err: err}
	go l.try(ctx, open, log)
	return l
}

func (l *lateStore) try(ctx context.Context, open func() (store.Store, error), log *slog.Logger) {
	defer close(l.ended)
	tick := time.NewTicker(openEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s, err := open()
		l.mu.Lock()
		l.inner, l.err = s, err
		l.mu.Unlock()
		if err == nil {
			log.Info("the store is open")
			close(l.ready)
			return
		}
	}
}

func (l *lateStore) store() (store.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil {
		if errors.Is(l.err, store.ErrUnavailable) || errors.Is(l.err, store.ErrClosed) {
			return nil, l.err
		}
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, l.err)
	}
	return l.inner, nil
}

func (l *lateStore) Get(ctx context.Context, key string) (store.KV, error) {
	s, err := l.store()
	if err != nil {
		return store.KV{}, err
	}
	return s.Get(ctx, key)
}

func (l *lateStore) List(ctx context.Context, prefix string) ([]store.KV, uint64, error) {
	s, err := l.store()
	if err != nil {
		return nil, 0, err
	}
	return s.List(ctx, prefix)
}

func (l *lateStore) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	s, err := l.store()
	if err != nil {
		return 0, err
	}
	return s.Commit(ctx, conds, ops...)
}

func (l *lateStore) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	s, err := l.store()
	if err != nil {
		return nil, err
	}
	return s.Session(ctx, ttl, resume)
}

func (l *lateStore) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	if s, err := l.store(); err == nil {
		return s.Watch(ctx, prefixes...)
	}
	out := make(chan store.Update, 1)
	_, err := l.store()
	out <- store.Update{Kind: store.Lost, Err: err}
	go func() {
		defer close(out)
		select {
		case <-l.ready:
		case <-l.ended:
		case <-ctx.Done():
			return
		}
		s, err := l.store()
		if err != nil {
			return
		}
		for u := range s.Watch(ctx, prefixes...) {
			select {
			case out <- u:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Close stops trying, and closes what was opened.
func (l *lateStore) Close() error {
	l.cancel()
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil {
		l.err = store.ErrClosed
		return nil
	}
	return l.inner.Close()
}
