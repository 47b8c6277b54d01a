// Package api serves the agent on a unix socket: HTTP/1.1 and JSON, and the
// client that the command line uses.
package api

import (
	"context"
	"io"
	"time"

	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
)

// Agent is what the server asks of the agent. Every method may be called from
// any goroutine; those with a context block until answered or ctx ends.
type Agent interface {
	Status(ctx context.Context) (status.Status, error)
	Explain(ctx context.Context) (status.Explain, error)

	// On switches a lane ("" both) on; changed is false if it was on already.
	On(ctx context.Context, lane string) (changed bool, err error)
	Off(ctx context.Context, r OffRequest) error
	// Drain takes what this node provides out of service until Undrain; it
	// returns when the disk has it. A node that is drained stays as it is.
	Drain(ctx context.Context, who, reason string) error
	// Undrain ends a drain; changed is false when there was none.
	Undrain(ctx context.Context) (changed bool, err error)
	// Provision forces a run; it returns when queued. ErrOff when off.
	Provision(ctx context.Context, r ProvisionRequest) (status.Queued, error)
	// WaitRun blocks until a run that covers ticket has ended.
	WaitRun(ctx context.Context, ticket uint64) (status.Run, error)
	// WaitDue blocks until nothing is due or running, and says what ran
	// since the call; held names the gate when a gate other than settle is closed.
	WaitDue(ctx context.Context) (runs []status.Run, held string, err error)

	// Runs returns the newest runs first; n 0 means all that are kept.
	Runs(ctx context.Context, n int) ([]status.Run, error)
	// ShowRun returns one run, or store.ErrNotFound.
	ShowRun(ctx context.Context, id string) (status.Run, error)
	// OpenLog reads a run's output from its beginning; "" id: the newest run's.
	// After io.EOF, Read goes on with what was added since.
	OpenLog(ctx context.Context, id string) (log io.Reader, run string, err error)

	// Resolve answers for one service, or store.ErrNotFound.
	Resolve(ctx context.Context, service string, reveal bool) ([]status.Resolved, error)
	// Environment is that of one service, or store.ErrNotFound.
	Environment(ctx context.Context, service string) (status.Environment, error)
	// FollowEnvironment calls fn for the present one and for each change until
	// ctx ends or fn fails. Those in between may be left out.
	FollowEnvironment(ctx context.Context, service string, fn func(status.Environment) error) error
	// Hold keeps provisions away until ctx ends; held is called once, when no
	// run is in progress any more, and its error ends the hold.
	Hold(ctx context.Context, r HoldRequest, held func() error) error
	// SeenProviders is when the agent first saw the present entries of key, by
	// revision; empty when it does not follow the key.
	SeenProviders(ctx context.Context, key string) (map[uint64]time.Time, error)
	// Accept takes what is held: one key, or "" for everything.
	Accept(ctx context.Context, key string) (status.Accepted, error)
	// Reload reads settings, manifests and attributes again; on error nothing changed.
	Reload(ctx context.Context) error
	// Subscribe sends events until ctx ends; a slow receiver loses the oldest.
	Subscribe(ctx context.Context) <-chan status.Event

	// Store is for /v1/values; Space and Region place the keys.
	Store() store.Store
	Space() store.Space
	Region() string
	// Replica returns the value of a followed key from the agent's view and
	// how old the view is (0: current); ok is false when key is not followed.
	Replica(ctx context.Context, region, key string) (kv store.KV, age time.Duration, ok bool)
}

// OffRequest is the body of POST /v1/off.
type OffRequest struct {
	Reason string        `json:"reason,omitempty"`
	Who    string        `json:"who"`
	Lane   string        `json:"lane,omitempty"` // "", provision, balancer
	For    time.Duration `json:"for,omitempty"`  // nanoseconds; 0: until on
}

// ProvisionRequest is the body of POST /v1/provision.
type ProvisionRequest struct {
	// Now skips settle, interval, bucket and splay.
	Now       bool   `json:"now,omitempty"`
	EvenIfOff bool   `json:"even_if_off,omitempty"`
	Who       string `json:"who"`
}
