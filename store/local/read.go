package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (kv store.KV, err error) {
	if err := store.CheckKey(key); err != nil {
		return kv, err
	}
	err = s.view(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketKeys).Get([]byte(key))
		if b == nil {
			return fmt.Errorf("%w: %s", store.ErrNotFound, key)
		}
		r, err := decode(b)
		if err != nil {
			return corrupt(s.opts.Path, err.Error())
		}
		kv = r.kv([]byte(key))
		return nil
	})
	return kv, err
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) (kvs []store.KV, rev uint64, err error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	err = s.view(ctx, func(tx *bolt.Tx) error {
		rev = readRev(tx)
		kvs, err = list(tx, nil, prefix)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return kvs, rev, nil
}

// list appends what is under prefix.
func list(tx *bolt.Tx, kvs []store.KV, prefix string) ([]store.KV, error) {
	from, subtree := []byte(prefix), strings.HasSuffix(prefix, "/")
	c := tx.Bucket(bucketKeys).Cursor()
	for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, from); k, v = c.Next() {
		if !subtree && len(k) > len(from) {
			break
		}
		r, err := decode(v)
		if err != nil {
			return nil, corrupt(tx.DB().Path(), err.Error())
		}
		kvs = append(kvs, r.kv(k))
	}
	return kvs, nil
}

// view reads from the file; one that was replaced is opened first.
func (s *Store) view(ctx context.Context, fn func(*bolt.Tx) error) error {
	err := s.tryView(ctx, fn)
	if !errors.Is(err, errReplaced) && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	if errors.Is(err, ErrCorrupt) {
		err = s.renew(err)
	} else {
		err = s.renewIfReplaced()
	}
	s.unlock()
	if err != nil {
		return err
	}
	return s.tryView(ctx, fn)
}

func (s *Store) tryView(ctx context.Context, fn func(*bolt.Tx) error) error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.fileMu.RLock()
	defer s.fileMu.RUnlock()
	if s.file == nil {
		return unavailable(s.opts.Path, errReplaced)
	}
	if err := s.file.intact(); err != nil {
		return err
	}
	return s.file.view(fn)
}
