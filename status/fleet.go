package status

import "time"

// Provider is one entry of a key, as the store has it.
type Provider struct {
	Key     string `json:"key"`
	Region  string `json:"region"`
	Node    string `json:"node"`
	Service string `json:"service"`
	// State: up, down, draining, standby or left; "": the entry is bad.
	State string `json:"state"`
	// Value is "(redacted)" unless revealed.
	Value string `json:"value"`
	Host  string `json:"host,omitempty"`
	Port  int    `json:"port,omitempty"`
	// LocalPort is where local balancers offer it; 0: nowhere.
	LocalPort int      `json:"local_port,omitempty"`
	Public    bool     `json:"public,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`
	Priority  int      `json:"priority"`
	Weight    int      `json:"weight"`
	Balance   string   `json:"balance,omitempty"`
	// Incarnation orders the publishers of one node over time.
	Incarnation uint64 `json:"incarnation"`
	// Claim is the fencing token of an exclusive key.
	Claim    uint64 `json:"claim,omitempty"`
	Revision uint64 `json:"revision"`
	// Seen is when the agent first saw that revision; zero: it does not follow
	// the key, or there is no agent.
	Seen time.Time `json:"seen,omitzero"`
	// Error says why nobody uses the entry; "": it is good.
	Error string `json:"error,omitempty"`
}

// KeyProviders counts the entries of one key.
type KeyProviders struct {
	Key string `json:"key"`
	// Regions that have an entry, sorted.
	Regions  []string `json:"regions"`
	Up       int      `json:"up"`
	Down     int      `json:"down"`
	Draining int      `json:"draining"`
	Standby  int      `json:"standby"`
	Left     int      `json:"left"`
	Bad      int      `json:"bad"`
}

// Node is what a node says of itself to the fleet.
type Node struct {
	Node   string `json:"node"`
	Region string `json:"region"`
	// State: up, off, draining or drained; "": the record is bad.
	State   string `json:"state"`
	Version string `json:"version"`
	Host    string `json:"host,omitempty"`
	// Run is the last run: its id, result, and when it ended.
	Run    string    `json:"last_run,omitempty"`
	Result string    `json:"result,omitempty"`
	Ended  time.Time `json:"ended,omitzero"`
	// Applied is the revision of the store that its last successful run used.
	Applied uint64 `json:"applied,omitempty"`
	// Waiting are keys that its services wait for.
	Waiting []string `json:"waiting_on,omitempty"`
	// Revision of the record.
	Revision uint64 `json:"revision"`
	Error    string `json:"error,omitempty"`
}

// FleetValue is a value of an operator, without what it is.
type FleetValue struct {
	Key string `json:"key"`
	// Region "" is every region.
	Region   string `json:"region,omitempty"`
	Revision uint64 `json:"revision"`
}

// Fleet is what one federation has in the store, at one revision. No value is
// in it.
type Fleet struct {
	Federation string       `json:"federation"`
	Revision   uint64       `json:"revision"`
	Values     []FleetValue `json:"values"`
	Providers  []Provider   `json:"providers"`
	Nodes      []Node       `json:"nodes"`
}

// Environment is that of one service, as one snapshot.
type Environment struct {
	Service string `json:"service"`
	// State: ready; missing (something required is gone, Vars are its last good
	// values); waiting (there is none yet, see Waiting).
	State string            `json:"state"`
	Vars  map[string]string `json:"vars"`
	// Waiting is what is missing.
	Waiting []string `json:"waiting_on,omitempty"`
	// Revision of the store that the agent had seen.
	Revision uint64 `json:"revision"`
}

// Hold is a command that keeps provisions away while it runs.
type Hold struct {
	Who     string `json:"who"`
	PID     int    `json:"pid"`
	Service string `json:"service,omitempty"`
	// Command is its name, without arguments: they may be secrets.
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
	// Waiting: it has not begun, as a run is in progress.
	Waiting bool `json:"waiting,omitempty"`
}
