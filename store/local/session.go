package local

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
)

// session is one session of the store. A holder lives in the process that
// has the file open, so a held one needs no refreshing: it dies with us.
type session struct {
	id   sessionID
	ttl  time.Duration
	done chan struct{}
	// holders is how many handles neither closed nor orphaned it.
	holders int
	// deadline is when it expires if holders is 0.
	deadline time.Time
}

// handle is one holder's store.Session.
type handle struct {
	store   *Store
	session *session
	orphan  sync.Once
}

var _ store.Session = (*handle)(nil)

// Session implements store.Store. A resumed session keeps the ttl it was
// made with.
func (s *Store) Session(ctx context.Context, ttl time.Duration, resume string) (store.Session, error) {
	if err := store.CheckTTL(ttl); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	if err := s.renewIfReplaced(); err != nil {
		return nil, err
	}
	if resume != "" {
		return s.resume(resume)
	}
	x := &session{ttl: ttl, done: make(chan struct{}), holders: 1}
	for x.id == 0 || s.sessions[x.id] != nil {
		x.id = sessionID(rand.Uint64())
	}
	err := s.file.update(func(tx *bolt.Tx) error { return writeSession(tx, x.id, ttl) })
	if err != nil {
		return nil, s.failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[x.id] = x
	return &handle{store: s, session: x}, nil
}

func (s *Store) resume(text string) (store.Session, error) {
	id := parseSessionID(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.sessions[id]
	if x == nil || x.holders == 0 && !time.Now().Before(x.deadline) {
		return nil, fmt.Errorf("%w: %q", store.ErrSession, text)
	}
	x.holders++
	return &handle{store: s, session: x}, nil
}

func (h *handle) ID() string { return h.session.id.String() }

func (h *handle) Done() <-chan struct{} { return h.session.done }

// Orphan implements store.Session.
func (h *handle) Orphan() {
	h.orphan.Do(func() {
		s, x := h.store, h.session
		s.mu.Lock()
		defer s.mu.Unlock()
		if x.holders--; x.holders == 0 {
			x.deadline = time.Now().Add(x.ttl)
			s.scheduleLocked()
		}
	})
}

// Close implements store.Session. It ends the session for all its holders;
// of one that is gone already there is nothing to end.
func (h *handle) Close(ctx context.Context) error {
	s, x := h.store, h.session
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.renewIfReplaced(); err != nil {
		return err
	}
	s.mu.Lock()
	lives := s.sessions[x.id] == x
	s.mu.Unlock()
	if !lives {
		return nil
	}
	return s.end([]*session{x})
}

// end removes sessions and, in the same transaction, their keys. The caller
// has the token.
func (s *Store) end(dead []*session) error {
	c := change{rev: s.rev + 1}
	err := s.file.update(func(tx *bolt.Tx) error {
		for _, x := range dead {
			if err := c.expire(tx, x.id); err != nil {
				return err
			}
		}
		if len(c.gone) == 0 {
			return nil
		}
		return writeRev(tx, c.rev)
	})
	if err != nil {
		return s.failed(err)
	}
	s.mu.Lock()
	for _, x := range dead {
		delete(s.sessions, x.id)
		close(x.done)
	}
	s.scheduleLocked()
	s.mu.Unlock()
	if len(c.gone) > 0 {
		slices.SortFunc(c.gone, func(a, b store.Gone) int { return strings.Compare(a.Key, b.Key) })
		s.publish(c)
	}
	return nil
}

// expire removes a session and its keys.
func (c *change) expire(tx *bolt.Tx, id sessionID) error {
	bound := tx.Bucket(bucketBound)
	var names []string
	cursor := bound.Cursor()
	for b, _ := cursor.Seek(id.key()); bytes.HasPrefix(b, id.key()); b, _ = cursor.Next() {
		names = append(names, string(b[len(id.key()):]))
	}
	for _, key := range names {
		if err := tx.Bucket(bucketKeys).Delete([]byte(key)); err != nil {
			return err
		}
		if err := bound.Delete(id.boundKey(key)); err != nil {
			return err
		}
		c.gone = append(c.gone, store.Gone{Key: key, Rev: c.rev, Expired: true})
	}
	return tx.Bucket(bucketSessions).Delete(id.key())
}

// adoptLocked makes found, read from the file, the sessions of the store.
func (s *Store) adoptLocked(found map[sessionID]time.Duration) {
	for id, x := range s.sessions {
		if _, ok := found[id]; !ok {
			close(x.done)
			delete(s.sessions, id)
		}
	}
	for id, ttl := range found {
		x := s.sessions[id]
		if x == nil {
			x = &session{id: id, done: make(chan struct{})}
			s.sessions[id] = x
		}
		x.ttl, x.deadline = ttl, time.Now().Add(ttl)
	}
	s.scheduleLocked()
}

// scheduleLocked sets the timer for the session that expires first.
func (s *Store) scheduleLocked() {
	var first *session
	for _, x := range s.sessions {
		if x.holders == 0 && (first == nil || x.deadline.Before(first.deadline)) {
			first = x
		}
	}
	stop(&s.expiring)
	if first != nil && !s.ended {
		s.expiring = time.AfterFunc(time.Until(first.deadline), s.expire)
	}
}

// expire ends the sessions whose time is up. Where the file cannot be written
// their keys stay until it can.
func (s *Store) expire() {
	if s.lock(context.Background()) != nil {
		return
	}
	defer s.unlock()
	err := s.renewIfReplaced()
	dead := s.overdue()
	if err == nil && len(dead) > 0 {
		err = s.end(dead)
	}
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop(&s.expiring); !s.ended {
		s.expiring = time.AfterFunc(s.opts.CheckEvery, s.expire)
	}
}

func (s *Store) overdue() (dead []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, x := range s.sessions {
		if x.holders == 0 && !now.Before(x.deadline) {
			dead = append(dead, x)
		}
	}
	if len(dead) == 0 {
		s.scheduleLocked()
	}
	return dead
}
