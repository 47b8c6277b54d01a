package status

import "time"

// Publishing says what this node publishes of its services, and whether the
// store has it.
type Publishing struct {
	// Session is the id of the node's session; "": it has none now.
	Session string `json:"session,omitempty"`
	// Incarnation orders the publishers of this node over time; 0: not told yet.
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Published has a line per key that a service provides, by key and service,
	// and per entry of an earlier manifest that is not withdrawn yet.
	Published []Published   `json:"published"`
	Checks    []CheckResult `json:"checks"`
	// Drain is nil: the node takes its part.
	Drain *Drain `json:"drain,omitempty"`
}

// Published is one key that a service of this node provides.
type Published struct {
	Key     string `json:"key"`
	Service string `json:"service"`
	// State is that of the entry in the store: up, down, draining, standby or
	// left; "": there is none.
	State string `json:"state"`
	// Want is the state that it shall have, where that is another one.
	Want string `json:"want,omitempty"`
	// Why in words, where it is not up.
	Why string `json:"why,omitempty"`
	// Since is when this agent first saw the state.
	Since time.Time `json:"since,omitzero"`
	// Revision of the entry.
	Revision uint64 `json:"revision,omitempty"`
	// Claim is the fencing token of an exclusive key that this node holds.
	Claim uint64 `json:"claim,omitempty"`
	// Error: why the entry could not be read or written; it is tried again.
	Error string `json:"error,omitempty"`
}

// CheckResult is what the check of a service found.
type CheckResult struct {
	Service string `json:"service"`
	Kind    string `json:"kind"` // http, tcp or exec
	// Target is what is asked: a URL without its user, host:port, or a command.
	Target string `json:"target"`
	// State: unknown (neither rose nor fell since the agent started), up, down.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Passed and Failed count results in a row; one of them is 0.
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	// Grace: the node's own provision runs, failures do not count now.
	Grace bool `json:"grace,omitempty"`
	// At is when the last check ended; zero: none did.
	At time.Time `json:"at,omitzero"`
	// Error of the last check; "": it passed.
	Error string `json:"error,omitempty"`
}

// Drain says who took the node out of service, and why.
type Drain struct {
	Who    string    `json:"who"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// State: draining (entries are marked), leaving (they are being
	// withdrawn), drained.
	State string `json:"state"`
	// Until is when entries that are marked will be withdrawn.
	Until time.Time `json:"until,omitzero"`
}
