package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/listener-agent/listener/store"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// partSize is how many keys one request for a list returns at most: a member
// answers nobody else while it puts an answer together.
const partSize = 1000

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	if err := store.CheckKey(key); err != nil {
		return store.KV{}, err
	}
	st, err := s.read(ctx, []string{key})
	if err != nil {
		return store.KV{}, err
	}
	if len(st.kvs) == 0 {
		return store.KV{}, fmt.Errorf("%w: %s", store.ErrNotFound, key)
	}
	return toKV(st.kvs[0]), nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) ([]store.KV, uint64, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	st, err := s.read(ctx, []string{prefix})
	if err != nil {
		return nil, 0, err
	}
	return st.toKVs(), uint64(st.rev), nil
}

// state is what is under some prefixes at one revision.
type state struct {
	rev     int64
	cluster uint64
	kvs     []*mvccpb.KeyValue // in the order of the prefixes
}

func (st *state) toKVs() []store.KV {
	kvs := make([]store.KV, len(st.kvs))
	for i, kv := range st.kvs {
		kvs[i] = toKV(kv)
	}
	return kvs
}

func toKV(kv *mvccpb.KeyValue) store.KV {
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return store.KV{Key: string(kv.Key), Value: value, Rev: uint64(kv.ModRevision), Created: uint64(kv.CreateRevision)}
}

// read reads all that is under prefixes, in parts, each as of the first
// part's revision. A revision that is compacted meanwhile, or that a member
// which was set back does not have, makes it begin again.
func (s *Store) read(ctx context.Context, prefixes []string) (*state, error) {
	const attempts = 5
	for n := 1; ; n++ {
		st := new(state)
		err := s.readParts(ctx, st, prefixes)
		if n < attempts && (errors.Is(err, errCompacted) || errors.Is(err, errFuture)) {
			continue
		}
		return st, err
	}
}

var (
	errCompacted = fmt.Errorf("%w: %w", store.ErrUnavailable, rpctypes.ErrCompacted)
	errFuture    = fmt.Errorf("%w: %w", store.ErrUnavailable, rpctypes.ErrFutureRev)
)

func (s *Store) readParts(ctx context.Context, st *state, prefixes []string) error {
	for len(prefixes) > 0 {
		n := min(len(prefixes), store.MaxOps)
		if err := s.readBlock(ctx, st, prefixes[:n]); err != nil {
			return err
		}
		prefixes = prefixes[n:]
	}
	if st.rev > 0 {
		return nil
	}
	return s.readNothing(ctx, st) // no prefix at all
}

// readNothing asks for the revision only.
func (s *Store) readNothing(ctx context.Context, st *state) error {
	return s.call(ctx, doing{verb: "read the revision", reads: true}, func(ctx context.Context, c *conn) error {
		resp, err := c.Txn(ctx).Commit()
		if err == nil {
			st.at(resp.Header)
		}
		return err
	})
}

// readBlock reads several prefixes with one request: of subtrees the first
// keys, which mostly are all.
func (s *Store) readBlock(ctx context.Context, st *state, block []string) error {
	if len(block) == 1 && strings.HasSuffix(block[0], "/") {
		from, _ := bounds(block[0])
		return s.readTree(ctx, st, block[0], from)
	}
	ops := make([]clientv3.Op, len(block))
	for i, prefix := range block {
		from, end := bounds(prefix)
		ops[i] = clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithRev(st.rev), clientv3.WithLimit(partSize/10))
	}
	var resp *clientv3.TxnResponse
	err := s.call(ctx, doing{verb: "read", key: block[0], more: len(block) - 1, reads: true}, func(ctx context.Context, c *conn) (err error) {
		resp, err = c.Txn(ctx).Then(ops...).Commit()
		return known(err)
	})
	if errors.Is(err, store.ErrPermission) && len(block) > 1 {
		// Which one is it? The error has to name it.
		for _, half := range [][]string{block[:len(block)/2], block[len(block)/2:]} {
			if err := s.readBlock(ctx, st, half); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	st.at(resp.Header)
	for i, r := range resp.Responses {
		part := r.GetResponseRange()
		st.kvs = append(st.kvs, part.GetKvs()...)
		if part.GetMore() {
			if err := s.readTree(ctx, st, block[i], after(part.Kvs)); err != nil {
				return err
			}
		}
	}
	return nil
}

// after is where the part that follows begins.
func after(kvs []*mvccpb.KeyValue) string { return string(kvs[len(kvs)-1].Key) + "\x00" }

// readTree reads what is under a prefix that ends in "/", beginning at from.
func (s *Store) readTree(ctx context.Context, st *state, prefix, from string) error {
	_, end := bounds(prefix)
	for more := true; more; {
		err := s.call(ctx, doing{verb: "read", key: prefix, reads: true}, func(ctx context.Context, c *conn) error {
			resp, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(st.rev), clientv3.WithLimit(partSize))
			if err != nil {
				return known(err)
			}
			st.kvs = append(st.kvs, resp.Kvs...)
			st.at(resp.Header)
			if more = resp.More; more {
				from = after(resp.Kvs)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// known makes the errors that read looks for survive explain.
func known(err error) error {
	switch {
	case errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted):
		return errCompacted
	case errors.Is(rpctypes.Error(err), rpctypes.ErrFutureRev):
		return errFuture
	}
	return err
}

// at notes the revision of the first part.
func (st *state) at(h *pb.ResponseHeader) {
	if st.rev == 0 {
		st.rev, st.cluster = h.Revision, h.ClusterId
	}
}

// bounds returns the range [from, end) of a prefix; end "" is the key alone. A
// subtree begins after the key of its own name.
func bounds(prefix string) (from, end string) {
	if !strings.HasSuffix(prefix, "/") {
		return prefix, ""
	}
	return prefix + "\x00", clientv3.GetPrefixRangeEnd(prefix)
}

// readRevision asks the cluster for its revision, by reading a key that need
// not be there. key is a prefix that may be read, or "".
func (s *Store) readRevision(ctx context.Context, key string) (*state, error) {
	st := new(state)
	if key == "" {
		return st, s.readNothing(ctx, st)
	}
	err := s.call(ctx, doing{verb: "read", key: key, reads: true}, func(ctx context.Context, c *conn) error {
		resp, err := c.Get(ctx, key, clientv3.WithKeysOnly())
		if err == nil {
			st.at(resp.Header)
		}
		return err
	})
	return st, err
}
