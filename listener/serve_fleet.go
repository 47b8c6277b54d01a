package listener

import (
	"context"
	"time"
)

// SeenProviders is when this agent first saw the present entries of key, by
// revision; empty when it does not follow the key.
func (a *Agent) SeenProviders(ctx context.Context, key string) (map[uint64]time.Time, error) {
	seen := map[uint64]time.Time{}
	err := a.do(ctx, func() {
		for _, k := range a.view.members[key] {
			if e := a.view.entries[k]; !e.absent() {
				seen[e.rev] = e.seen
			}
		}
	})
	return seen, err
}
