// Package status is what the agent says of itself: the types behind
// `listener status`, `explain` and `runs`, their documented JSON, and their
// text for one screen.
package status

import "time"

// Status answers: is it on, what runs, what is pending and why, which gate
// holds it until when, what is missing or degraded since when, what failed.
type Status struct {
	Node       string `json:"node"`
	Region     string `json:"region"`
	Federation string `json:"federation"`
	Host       string `json:"host,omitempty"`
	Version    string `json:"version"`
	PID        int    `json:"pid"`
	// Started is when this agent process started.
	Started time.Time `json:"started"`

	On         bool        `json:"on"`
	Off        *Off        `json:"off,omitempty"`
	Store      Store       `json:"store"`
	Running    *Run        `json:"running,omitempty"`
	Pending    *Pending    `json:"pending,omitempty"`
	LastRun    *Run        `json:"last_run,omitempty"`
	Failures   []Failure   `json:"failures"`
	Conditions []Condition `json:"conditions"`
	Services   []Service   `json:"services"`
	Balancers  []Balancer  `json:"balancers"`
	// Holds are commands that keep provisions away while they run.
	Holds []Hold `json:"holds"`
	// Publishing is what this node tells the fleet; null in one pass.
	Publishing *Publishing `json:"publishing,omitempty"`
	// Synced: the link to the store holds, nothing runs, nothing is pending:
	// every ready service is applied.
	Synced bool `json:"synced"`
	// RunsTotal counts runs since this agent process started.
	RunsTotal uint64 `json:"runs_total"`
}

// Off says who switched the agent off, why and until when.
type Off struct {
	Who    string    `json:"who"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// Until is zero: until `listener on`.
	Until time.Time `json:"until,omitzero"`
	// Lane is "" (both), "provision" or "balancer".
	Lane string `json:"lane,omitempty"`
}

// Store says what the agent knows of its store.
type Store struct {
	Kind string `json:"kind"`
	// State: "ok", "waiting" (no first Reset yet), "replica" (values from
	// disk), "unreachable" (the link is lost, last picture kept).
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	Revision uint64    `json:"revision"`
	Error    string    `json:"error,omitempty"`
	// ReplicaAge is set while values come from disk.
	ReplicaAge string `json:"replica_age,omitempty"`
}

// Pending is the one provision that waits.
type Pending struct {
	Since    time.Time `json:"since"`
	Kind     string    `json:"kind"` // auto, retry, manual
	Reasons  []string  `json:"reasons"`
	Services []string  `json:"services"`
	Keys     []string  `json:"changed_keys"`
	// Gate that is closed, "" when the run is about to start.
	Gate string `json:"gate,omitempty"`
	// Why in words; Until when the gate opens, zero if not a matter of time.
	Why   string    `json:"why,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// Gate is one check before a run, in the order of evaluation.
type Gate struct {
	Name  string    `json:"name"`
	Open  bool      `json:"open"`
	Why   string    `json:"why"`
	Until time.Time `json:"until,omitzero"`
}

// Condition is a named state that an operator should know of.
type Condition struct {
	// Name is stable, such as "missing", "degraded", "store unreachable".
	Name     string    `json:"name"`
	Severity string    `json:"severity"` // info, warning, error
	Service  string    `json:"service,omitempty"`
	Key      string    `json:"key,omitempty"`
	Since    time.Time `json:"since"`
	// Text is one sentence; Hint what an operator can do.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

// Service is the state of one service of this node.
type Service struct {
	ID string `json:"id"`
	// State: ready, waiting (never provisioned, something is missing) or
	// missing (keeps its last good values).
	State string `json:"state"`
	// Step: "node", "own" or "none".
	Step    string    `json:"step"`
	Due     bool      `json:"due"`
	Dirty   bool      `json:"dirty,omitempty"`
	Applied time.Time `json:"applied,omitzero"` // when it was last provisioned
	Waiting []string  `json:"waiting_on,omitempty"`
	Files   []string  `json:"files"` // its environment, in each format
	File    string    `json:"file"`
}

// Failure is a step that failed last time.
type Failure struct {
	Step     string    `json:"step"`
	Run      string    `json:"run"`
	Count    int       `json:"count"` // in a row
	At       time.Time `json:"at"`
	Text     string    `json:"text"` // such as "exit code 1 after 2.1s"
	NextTry  time.Time `json:"next_try,omitzero"`
	LastTail []string  `json:"last_lines"` // of its output, at most 5
}

// Run is one provision, running or ended.
type Run struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // auto, retry, manual
	Reasons []string  `json:"reasons"`
	Keys    []string  `json:"changed_keys"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// Result: "" while it runs, ok, failed, lost, check-failed (a candidate
	// file was refused, no command ran).
	Result   string   `json:"result"`
	Error    string   `json:"error,omitempty"`
	Services []string `json:"services"`
	Files    []string `json:"files"` // written by this run
	Steps    []Step   `json:"steps"`
}

// Step is one command of a run.
type Step struct {
	Name     string    `json:"name"` // "node" or a service id
	Services []string  `json:"services"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	// Result: "" while it runs, ok, failed, timeout, cancelled, lost, skipped.
	Result string `json:"result"`
	Exit   int    `json:"exit"`
	Signal string `json:"signal,omitempty"`
	Error  string `json:"error,omitempty"`
	// Unit is the systemd unit that it ran in, "" for none.
	Unit string `json:"unit,omitempty"`
}

// Explain says in words why a run will or will not happen now.
type Explain struct {
	// Verdict is one sentence.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
	Gates   []Gate   `json:"gates"`
	// Due lists the services with the changed inputs of each.
	Due []DueService `json:"due"`
	// NotDue says, per service that is not ready, why.
	NotDue     []string    `json:"not_due"`
	Conditions []Condition `json:"conditions"`
}

// DueService is a service that the next run provisions.
type DueService struct {
	ID   string   `json:"id"`
	Step string   `json:"step"`
	Why  string   `json:"why"` // in words, such as "new" or "API_URL changed"
	Keys []string `json:"changed_keys,omitempty"`
}

// Resolved is one variable of a service, as `listener resolve` prints it.
type Resolved struct {
	Service string `json:"service"`
	Name    string `json:"name"`
	// Value is "(redacted)" unless revealed; Present false: nothing has it.
	Value   string        `json:"value"`
	Present bool          `json:"present"`
	Keys    []ResolvedKey `json:"keys"`
}

// ResolvedKey is where the value of one placeholder came from.
type ResolvedKey struct {
	Key string `json:"key"`
	// Origin: "value", "value of region R", "provider NODE/SERVICE",
	// "attributes", "attributes of region R", "default", "last known good", "missing".
	Origin   string `json:"origin"`
	Revision uint64 `json:"revision,omitempty"`
	// Why says what decided among several providers, or why a value that the
	// store does not have any more stays.
	Why string `json:"why,omitempty"`
	// Seen is when this agent first saw that revision.
	Seen time.Time `json:"seen,omitzero"`
}

// Event is one line of /v1/events and of `listener dev`.
type Event struct {
	At   time.Time         `json:"at"`
	Name string            `json:"event"`
	Text string            `json:"text"`
	Attr map[string]string `json:"attr,omitempty"`
}

// Accepted says what an accept changed.
type Accepted struct {
	Changed []string `json:"changed"`
}

// Queued answers a provision request.
type Queued struct {
	// Ticket is the forced counter that the request raised: a run that covers
	// it carries the request out.
	Ticket uint64 `json:"ticket"`
	// Held says which command keeps it from starting now.
	Held string `json:"held,omitempty"`
}
