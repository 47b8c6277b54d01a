package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
)

// errUnchanged ends a transaction that has nothing to write.
var errUnchanged = errors.New("nothing to write")

// change is what one transaction did.
type change struct {
	rev  uint64
	kvs  []store.KV
	gone []store.Gone
}

// Commit implements store.Store. It returns after the change is on disk and
// handed to the watches.
func (s *Store) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	if err := store.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	ops = slices.SortedFunc(slices.Values(ops), func(a, b store.Op) int { return strings.Compare(a.Key, b.Key) })
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	defer s.unlock()
	if err := s.renewIfReplaced(); err != nil {
		return 0, err
	}
	ids, err := s.sessionsOf(ops)
	if err != nil {
		return 0, err
	}
	return s.write(func(tx *bolt.Tx, c *change) error {
		if err := check(tx, conds); err != nil {
			return err
		}
		for i, op := range ops {
			if err := c.apply(tx, op, ids[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// sessionsOf returns the session of each op, 0 for none.
func (s *Store) sessionsOf(ops []store.Op) ([]sessionID, error) {
	ids := make([]sessionID, len(ops))
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, op := range ops {
		if op.Session == nil {
			continue
		}
		id := parseSessionID(op.Session.ID())
		if s.sessions[id] == nil {
			return nil, fmt.Errorf("%w: %s", store.ErrSession, op.Session.ID())
		}
		ids[i] = id
	}
	return ids, nil
}

// write runs one transaction that makes the next revision, and sends what it
// changed to the watches. The caller has the token.
func (s *Store) write(fn func(*bolt.Tx, *change) error) (uint64, error) {
	c := change{rev: s.rev + 1}
	var refused error
	err := s.file.update(func(tx *bolt.Tx) error {
		if readRev(tx) != s.rev {
			return errReplaced
		}
		if refused = fn(tx, &c); refused != nil {
			return refused
		}
		if len(c.kvs)+len(c.gone) == 0 {
			refused = errUnchanged
			return refused
		}
		return writeRev(tx, c.rev)
	})
	switch {
	case err == nil:
		s.durable()
		s.publish(c)
		return c.rev, nil
	case errors.Is(refused, errUnchanged):
		return s.rev, nil
	case refused != nil && !errors.Is(refused, ErrCorrupt) && !s.file.broken.Load():
		return 0, refused
	default:
		return 0, s.failed(err)
	}
}

func check(tx *bolt.Tx, conds []store.Cond) error {
	keys := tx.Bucket(bucketKeys)
	for _, c := range conds {
		var rev uint64
		if b := keys.Get([]byte(c.Key)); b != nil {
			r, err := decode(b)
			if err != nil {
				return corrupt(tx.DB().Path(), err.Error())
			}
			rev = r.rev
		}
		if rev != c.Rev {
			return fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, c.Key, rev, c.Rev)
		}
	}
	return nil
}

// apply writes one op, bound to the session id if that is not 0.
func (c *change) apply(tx *bolt.Tx, op store.Op, id sessionID) error {
	keys, bound := tx.Bucket(bucketKeys), tx.Bucket(bucketBound)
	var old record
	b := keys.Get([]byte(op.Key))
	if b != nil {
		var err error
		if old, err = decode(b); err != nil {
			return corrupt(tx.DB().Path(), err.Error())
		}
	}
	if old.session != 0 && old.session != id {
		if err := bound.Delete(old.session.boundKey(op.Key)); err != nil {
			return err
		}
	}
	if op.Delete {
		if b == nil {
			return nil
		}
		c.gone = append(c.gone, store.Gone{Key: op.Key, Rev: c.rev})
		return keys.Delete([]byte(op.Key))
	}
	if id != 0 {
		if err := bound.Put(id.boundKey(op.Key), nil); err != nil {
			return err
		}
	}
	r := record{rev: c.rev, created: c.rev, session: id, value: op.Value}
	if b != nil {
		r.created = old.created
	}
	c.kvs = append(c.kvs, store.KV{Key: op.Key, Value: op.Value, Rev: r.rev, Created: r.created})
	return keys.Put([]byte(op.Key), r.encode())
}
