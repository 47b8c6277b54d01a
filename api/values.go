package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/listener-agent/listener/store"
)

// Value is one operator value.
type Value struct {
	Key    string
	Region string // "": every region
	// Value is the raw bytes. In JSON it is "value" when it is UTF-8, else "base64".
	Value string
	// Version is the revision of the last write, the ETag of the value.
	Version uint64
	// Created is the revision that created the key.
	Created uint64
}

type valueJSON struct {
	Key     string  `json:"key"`
	Region  string  `json:"region,omitempty"`
	Value   *string `json:"value,omitempty"`
	Base64  *string `json:"base64,omitempty"`
	Version uint64  `json:"version"`
	Created uint64  `json:"created,omitempty"`
}

// MarshalJSON writes text as text and anything else as base64.
func (v Value) MarshalJSON() ([]byte, error) {
	j := valueJSON{Key: v.Key, Region: v.Region, Version: v.Version, Created: v.Created}
	if utf8.ValidString(v.Value) {
		j.Value = &v.Value
	} else {
		b := base64.StdEncoding.EncodeToString([]byte(v.Value))
		j.Base64 = &b
	}
	return json.Marshal(j)
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (v *Value) UnmarshalJSON(data []byte) error {
	var j valueJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*v = Value{Key: j.Key, Region: j.Region, Version: j.Version, Created: j.Created}
	if j.Base64 != nil {
		b, err := base64.StdEncoding.DecodeString(*j.Base64)
		if err != nil {
			return fmt.Errorf("value of %s: %w", j.Key, err)
		}
		v.Value = string(b)
	} else if j.Value != nil {
		v.Value = *j.Value
	}
	return nil
}

// ValueList is the answer of GET /v1/values: all values as they were at Revision.
type ValueList struct {
	Revision uint64  `json:"revision"`
	Values   []Value `json:"values"`
}

// ValueOp is one write of POST /v1/values.
type ValueOp struct {
	Key string `json:"key"`
	// Value is the new value; Base64 instead of it for what is not UTF-8.
	Value  string `json:"value,omitempty"`
	Base64 []byte `json:"base64,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	// Version: only if this is the present version; 0: whatever it is.
	Version uint64 `json:"if_version,omitempty"`
	// Create: only if the key is not there.
	Create bool `json:"create,omitempty"`
}

// ValueUpdate is one event of a watch: Kind "reset" (Values is everything),
// "change" (Values written, Gone removed) or "lost" (the link to the store).
type ValueUpdate struct {
	Kind     string      `json:"kind"`
	Revision uint64      `json:"revision,omitempty"`
	Values   []Value     `json:"values"`
	Gone     []ValueGone `json:"gone"`
	Error    string      `json:"error,omitempty"`
}

// ValueGone is a value that was removed.
type ValueGone struct {
	Key     string `json:"key"`
	Version uint64 `json:"version"`
}

// Values reads and writes the operator values of one federation directly in
// a store: the server's half of /v1/values, and what the command line uses
// without an agent. Client has the same methods.
type Values struct {
	Store store.Store
	Space store.Space
}

// Value returns one value, or store.ErrNotFound.
func (v Values) Value(ctx context.Context, region, key string) (Value, error) {
	if err := CheckKey(key); err != nil {
		return Value{}, err
	}
	kv, err := v.Store.Get(ctx, v.Space.Value(region, key))
	if errors.Is(err, store.ErrNotFound) {
		return Value{}, notFound(region, key)
	}
	if err != nil {
		return Value{}, fmt.Errorf("get %s: %w", key, err)
	}
	return valueOf(region, key, kv), nil
}

// Values lists the values whose key begins with prefix, sorted by key.
func (v Values) Values(ctx context.Context, region, prefix string) (ValueList, error) {
	kvs, rev, err := v.Store.List(ctx, v.subtree(region))
	if err != nil {
		return ValueList{}, fmt.Errorf("list values: %w", err)
	}
	return ValueList{Revision: rev, Values: v.pick(kvs, region, prefix)}, nil
}

// Commit applies all ops or none and returns the new revision.
func (v Values) Commit(ctx context.Context, region string, ops []ValueOp) (uint64, error) {
	conds, writes, err := v.plan(region, ops)
	if err != nil {
		return 0, err
	}
	rev, err := v.Store.Commit(ctx, conds, writes...)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", opKeys(ops), err)
	}
	return rev, nil
}

// Watch calls fn for the present state and then for every change until ctx
// ends, the store is closed (ErrClosed) or fn returns an error.
func (v Values) Watch(ctx context.Context, region, prefix string, fn func(ValueUpdate) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for u := range v.Store.Watch(ctx, v.subtree(region)) {
		vu, tell := v.update(u, region, prefix)
		if !tell {
			continue
		}
		if err := fn(vu); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("watch values: %w", store.ErrClosed)
}

func (v Values) plan(region string, ops []ValueOp) ([]store.Cond, []store.Op, error) {
	var (
		conds  []store.Cond
		writes []store.Op
	)
	if len(ops) == 0 {
		return nil, nil, invalid("give at least one operation", "nothing to write")
	}
	seen := map[string]bool{}
	for _, op := range ops {
		if err := op.check(); err != nil {
			return nil, nil, err
		}
		if seen[op.Key] {
			return nil, nil, invalid("write each key once", "%s is given twice", op.Key)
		}
		seen[op.Key] = true
		key := v.Space.Value(region, op.Key)
		if op.Create || op.Version != 0 {
			conds = append(conds, store.Cond{Key: key, Rev: op.Version})
		}
		if op.Delete {
			writes = append(writes, store.Delete(key))
		} else {
			writes = append(writes, store.Put(key, op.bytes()))
		}
	}
	return conds, writes, nil
}

func (v Values) subtree(region string) string {
	if region == "" {
		return v.Space.Key("values") + "/"
	}
	return v.Space.Key("regions", region, "values") + "/"
}

// pick keeps the well-formed keys below prefix.
func (v Values) pick(kvs []store.KV, region, prefix string) []Value {
	out := make([]Value, 0, len(kvs))
	for _, kv := range kvs {
		if key, ok := v.name(kv.Key, prefix); ok {
			out = append(out, valueOf(region, key, kv))
		}
	}
	return out
}

// name is the operator's name of a key in the store.
func (v Values) name(key, prefix string) (string, bool) {
	parts, ok := v.Space.Parts(key)
	if !ok {
		return "", false
	}
	name := parts[len(parts)-1]
	return name, strings.HasPrefix(name, prefix)
}

// update translates; tell is false when nothing below prefix changed.
func (v Values) update(u store.Update, region, prefix string) (vu ValueUpdate, tell bool) {
	vu = ValueUpdate{Revision: u.Rev, Values: v.pick(u.KVs, region, prefix), Gone: []ValueGone{}}
	for _, g := range u.Gone {
		if key, ok := v.name(g.Key, prefix); ok {
			vu.Gone = append(vu.Gone, ValueGone{Key: key, Version: g.Rev})
		}
	}
	switch u.Kind {
	case store.Reset:
		vu.Kind = "reset"
		return vu, true
	case store.Lost:
		vu.Kind = "lost"
		if u.Err != nil {
			vu.Error = u.Err.Error()
		}
		return vu, true
	case store.Change:
		vu.Kind = "change"
	}
	return vu, len(vu.Values)+len(vu.Gone) > 0
}

func (op ValueOp) bytes() []byte {
	if op.Base64 != nil {
		return op.Base64
	}
	return []byte(op.Value)
}

func (op ValueOp) check() error {
	if err := CheckKey(op.Key); err != nil {
		return err
	}
	if op.Create && (op.Version != 0 || op.Delete) {
		return invalid("", "%s: create goes neither with a version nor with delete", op.Key)
	}
	if op.Base64 != nil && op.Value != "" {
		return invalid("", "%s: give either value or base64", op.Key)
	}
	if op.Delete {
		return nil
	}
	return CheckValue(op.Key, op.bytes())
}

func opKeys(ops []ValueOp) string {
	if len(ops) == 1 {
		return ops[0].Key
	}
	return fmt.Sprintf("%s and %d more", ops[0].Key, len(ops)-1)
}

func valueOf(region, key string, kv store.KV) Value {
	return Value{Key: key, Region: region, Value: string(kv.Value), Version: kv.Rev, Created: kv.Created}
}

// CheckKey says whether key can name a value: [A-Z][A-Z0-9_]*.
func CheckKey(key string) error {
	const hint = "a key is an upper-case letter, then upper-case letters, digits and _, such as PRIMARY_DATABASE_URL"
	if key == "" {
		return invalid(hint, "the key is empty")
	}
	for i := range len(key) {
		c := key[i]
		if c >= 'A' && c <= 'Z' || i > 0 && (c >= '0' && c <= '9' || c == '_') {
			continue
		}
		return invalid(hint, "%q cannot be a key", key)
	}
	return nil
}

// CheckValue refuses what no environment file could carry on one line.
func CheckValue(key string, value []byte) error {
	for _, c := range value {
		switch c {
		case '\n', '\r':
			return invalid("a value is one line; strip the newline at its end", "the value of %s has a newline in it", key)
		case 0:
			return invalid("a value is text on one line; encode it, for example as base64", "the value of %s has a NUL byte in it", key)
		}
	}
	return nil
}
