package listener

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
)

// replica is the view on disk, state_dir/replica.json: what the agent starts
// from while the store is away, and how it notices a store that went backwards.
type replica struct {
	// Store says which store it is a picture of; another one is a migration.
	Store    string         `json:"store"`
	Saved    time.Time      `json:"saved"`
	Rev      uint64         `json:"rev"`
	Followed []string       `json:"followed"`
	Values   []replicaValue `json:"values"`
	Held     []replicaValue `json:"held,omitempty"` // Rev: of the Reset that went backwards
}

type replicaValue struct {
	Region string    `json:"region,omitempty"`
	Key    string    `json:"key"`
	Text   string    `json:"text,omitempty"`
	Rev    uint64    `json:"rev"`
	Seen   time.Time `json:"seen,omitzero"`
}

// snapshot encodes the view for the disk.
func (v *view) snapshot(identity string, now time.Time) ([]byte, error) {
	r := replica{Store: identity, Saved: now, Rev: v.rev}
	for k := range v.followed {
		r.Followed = append(r.Followed, k)
	}
	slices.Sort(r.Followed)
	for k, e := range v.entries {
		if !e.none {
			r.Values = append(r.Values, replicaValue{k.region, k.key, e.text, e.rev, e.seen})
		}
	}
	for k, rev := range v.held {
		r.Held = append(r.Held, replicaValue{Region: k.region, Key: k.key, Rev: rev})
	}
	for _, l := range [...][]replicaValue{r.Values, r.Held} {
		slices.SortFunc(l, func(a, b replicaValue) int {
			if c := strings.Compare(a.Key, b.Key); c != 0 {
				return c
			}
			return strings.Compare(a.Region, b.Region)
		})
	}
	return json.Marshal(r)
}

// loadReplica reads path. None, or one of another store, is nil and no error.
func loadReplica(path, identity string) (*replica, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read replica: %w", err)
	}
	var r replica
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read replica %s: %w", path, err)
	}
	if r.Store != identity {
		return nil, nil
	}
	return &r, nil
}

// remember makes the replica what the next Reset is compared with. It serves
// nothing until serve.
func (v *view) remember(r *replica) {
	v.rev, v.known = r.Rev, true
	for _, k := range r.Followed {
		v.followed[k] = true
	}
	for _, e := range r.Values {
		v.entries[valueKey{e.Region, e.Key}] = entry{text: e.Text, rev: e.Rev, seen: e.Seen}
	}
	for _, h := range r.Held {
		v.held[valueKey{h.Region, h.Key}] = h.Rev
	}
	v.replicaAt = r.Saved
}

// writeReplica replaces the file; without fsync, as an older or missing
// replica is safe and a torn one is refused.
func writeReplica(path string, data []byte) error {
	return atomicfile.Write(path, data, 0o600)
}
