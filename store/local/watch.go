package local

import (
	"context"
	"errors"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
	bolt "go.etcd.io/bbolt"
)

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefixes ...string) <-chan store.Update {
	f := feed.New(prefixes)
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		cancel()
		f.Run(ctx, s.closed) // closes its channel
		return f.C()
	}
	s.watches.Go(func() {
		defer cancel()
		s.begin(ctx, f)
		f.Run(ctx, s.closed)
		s.forget(f)
	})
	return f.C()
}

// begin reads the state and joins f to the feeds in one step, so that no
// change falls between.
func (s *Store) begin(ctx context.Context, f *feed.Feed) {
	if s.lock(ctx) != nil {
		return // the feed ends by the same cause
	}
	defer s.unlock()
	err := s.renewIfReplaced()
	s.mu.Lock()
	s.feeds[f] = struct{}{}
	if s.checking == nil && !s.ended {
		s.checking = time.AfterFunc(s.opts.CheckEvery, s.check)
	}
	s.mu.Unlock()
	if err == nil {
		err = s.reset(f)
		if err != nil {
			err = s.renew(err)
		}
	}
	if err != nil {
		f.Lost(err)
	}
}

func (s *Store) forget(f *feed.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.feeds, f)
	if len(s.feeds) == 0 {
		stop(&s.checking)
	}
}

// reset sends f the whole state. The caller has the token.
func (s *Store) reset(f *feed.Feed) error {
	var kvs []store.KV
	err := s.file.view(func(tx *bolt.Tx) (err error) {
		for _, p := range f.Prefixes().Sorted() {
			if kvs, err = list(tx, kvs, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		f.Reset(s.rev, kvs)
	}
	return err
}

// publish sends a change that is on disk. The caller has the token.
func (s *Store) publish(c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev = c.rev
	for f := range s.feeds {
		f.Change(c.rev, c.kvs, c.gone)
	}
}

// check runs now and then while there are watches: nobody else would notice
// that the file was replaced when nothing is read or written.
func (s *Store) check() {
	if s.lock(context.Background()) != nil {
		return
	}
	defer s.unlock()
	if s.renewIfReplaced() == nil { // else the watches were told
		_ = s.sameRevision()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking != nil {
		s.checking.Reset(s.opts.CheckEvery)
	}
}

// renewIfReplaced makes sure that s.file is what is at the path. The caller
// has the token.
func (s *Store) renewIfReplaced() error {
	if s.file == nil {
		return s.renew(s.fileErr)
	}
	if err := s.file.intact(); err != nil {
		return s.renew(err)
	}
	return nil
}

// renew opens what is at the path now: another file, an empty one where the
// old one was removed. The watches see Lost with the cause, and a Reset as
// soon as there is a store again; until then each operation and each check
// tries. The caller has the token.
func (s *Store) renew(cause error) error {
	feeds := s.allFeeds()
	for _, f := range feeds {
		f.Lost(cause)
	}
	s.swap(nil, cause)
	f, err := openFile(s.opts)
	if err == nil {
		if err = s.load(f); err != nil {
			f.close()
		}
	}
	if err != nil {
		s.swap(nil, err)
		return err
	}
	s.swap(f, nil)
	for _, w := range feeds {
		if err := s.reset(w); err != nil {
			err = unavailable(s.opts.Path, err)
			w.Lost(err)
			s.swap(nil, err)
			return err
		}
	}
	return nil
}

// swap makes f the file of the store, after reads of the old one have ended.
func (s *Store) swap(f *file, err error) {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if s.file != nil {
		s.file.close()
	}
	s.file, s.fileErr = f, err
}

func (s *Store) allFeeds() []*feed.Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*feed.Feed, 0, len(s.feeds))
	for f := range s.feeds {
		all = append(all, f)
	}
	return all
}

// failed makes the error of a write that the file system refused, or that
// found another revision than expected. bbolt has rolled it back; where it
// could not, or the change is in the file although its sync failed, the file
// is opened again. The caller has the token.
func (s *Store) failed(cause error) error {
	cause = unavailable(s.opts.Path, cause)
	return errors.Join(cause, s.sameRevision())
}

// sameRevision opens the file again if it is not at the revision of our last
// write: the time of a file is not exact enough to show every change.
func (s *Store) sameRevision() error {
	var rev uint64
	err := s.file.view(func(tx *bolt.Tx) error {
		rev = readRev(tx)
		return nil
	})
	if err == nil && rev == s.rev {
		return nil
	}
	if err == nil {
		err = unavailable(s.opts.Path, errReplaced)
	}
	return s.renew(err)
}
