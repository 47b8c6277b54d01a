package etcd

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Commit implements store.Store.
func (s *Store) Commit(ctx context.Context, conds []store.Cond, ops ...store.Op) (uint64, error) {
	if err := store.CheckCommit(conds, ops); err != nil {
		return 0, err
	}
	writes, err := writes(ops)
	if err != nil {
		return 0, err
	}
	cmps := make([]clientv3.Cmp, len(conds))
	// A condition that does not hold is to be named. And with these reads a
	// commit of nothing is checked by the cluster, not by one member that may
	// be behind.
	looks := make([]clientv3.Op, len(conds))
	for i, c := range conds {
		if c.Rev > math.MaxInt64 {
			return 0, fmt.Errorf("%w: %s is not at revision %d", store.ErrConflict, c.Key, c.Rev)
		}
		cmps[i] = clientv3.Compare(clientv3.ModRevision(c.Key), "=", int64(c.Rev))
		looks[i] = clientv3.OpGet(c.Key, clientv3.WithKeysOnly())
	}
	var resp *clientv3.TxnResponse
	err = s.call(ctx, about(conds, ops), func(ctx context.Context, c *conn) (err error) {
		resp, err = c.Txn(ctx).If(cmps...).Then(writes...).Else(looks...).Commit()
		if err == nil {
			s.sawTerm(resp.Header)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if !resp.Succeeded {
		return 0, conflict(conds, resp)
	}
	return uint64(resp.Header.Revision), nil
}

func writes(ops []store.Op) ([]clientv3.Op, error) {
	all := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		switch {
		case op.Delete:
			all[i] = clientv3.OpDelete(op.Key)
		case op.Session != nil:
			id, err := parseID(op.Session.ID())
			if err != nil {
				return nil, err
			}
			all[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(id))
		default:
			all[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	return all, nil
}

func about(conds []store.Cond, ops []store.Op) doing {
	switch {
	case len(ops) > 0:
		return doing{verb: "write", key: ops[0].Key, more: len(ops) - 1}
	case len(conds) > 0:
		return doing{verb: "read", key: conds[0].Key, more: len(conds) - 1, reads: true}
	default:
		return doing{verb: "read the revision", reads: true}
	}
}

// conflict names a condition that did not hold.
func conflict(conds []store.Cond, resp *clientv3.TxnResponse) error {
	at := make([]int64, len(conds))
	for i, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			at[i] = kv.ModRevision
		}
	}
	i := max(0, slices.IndexFunc(conds, func(c store.Cond) bool {
		return at[slices.Index(conds, c)] != int64(c.Rev)
	}))
	return fmt.Errorf("%w: %s is at revision %d, not %d", store.ErrConflict, conds[i].Key, at[i], conds[i].Rev)
}
