package status

import "time"

// Balancer is one load balancer of this node.
type Balancer struct {
	Kind string `json:"kind"` // local, internal or public
	Path string `json:"path"` // its file
	// State: ok (it does what the store says), due (an update waits or is made),
	// failed (the last update failed), off, waiting (nothing is known yet).
	State string `json:"state"`
	// Since is when the last update ended; zero: none in this process.
	Since     time.Time `json:"since,omitzero"`
	Frontends int       `json:"frontends"`
	Servers   int       `json:"servers"`
	// Updates are those over the runtime socket, Reloads all others, since this
	// agent process started.
	Updates uint64 `json:"updates"`
	Reloads uint64 `json:"reloads"`
	// Last is what the last update did.
	Last string `json:"last,omitempty"`
	// Error of the last update; it is tried again at NextTry, and after each
	// successful provision.
	Error   string    `json:"error,omitempty"`
	NextTry time.Time `json:"next_try,omitzero"`
}
