package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// State says whether a provider serves.
type State string

// The states of a provider.
const (
	Up       State = "up"
	Down     State = "down"     // its check fell
	Draining State = "draining" // serves who is there, takes nobody new
	Standby  State = "standby"  // another one holds the claim of an exclusive key
	Left     State = "left"     // withdrawn cleanly; stays for a while so that every watch sees it
)

// The ways in which a balancer spreads requests over the providers of a key.
const (
	RoundRobin = "roundrobin"
	LeastConn  = "leastconn"
	Hash       = "hash" // consistent, on the URI
)

// Limits of what a provider's entry may hold.
const (
	MaxProvider = 64 << 10 // bytes of the whole entry
	MaxWeight   = 256
	MaxPriority = 65535
)

// Provider is what stands under Space.Provider: one service of one node that
// offers one key. The JSON is part of the store's format; members that a
// reader does not know are ignored.
type Provider struct {
	// Value is what the key means with this provider, such as a URL.
	Value string `json:"value"`
	// Host is the node's address; Port where the service listens on it, 0 when
	// its manifest names none.
	Host string `json:"host,omitempty"`
	Port int    `json:"port,omitempty"`
	// LocalPort is where local balancers offer it on every node; 0: nowhere.
	LocalPort int `json:"local_port,omitempty"`
	// Public: the world may reach it, under Hosts (none: any host).
	Public bool     `json:"public,omitempty"`
	Hosts  []string `json:"hosts,omitempty"`
	// Priority: lower is preferred. Weight is 0 … MaxWeight; 0 takes no share.
	Priority int `json:"priority,omitempty"`
	Weight   int `json:"weight"`
	// Balance is RoundRobin, LeastConn or Hash; "" is RoundRobin.
	Balance string `json:"balance,omitempty"`
	State   State  `json:"state"`
	// Incarnation orders publishers of one node over time: the revision of the
	// Commit that put the node's record under their session. A lower one never
	// overwrites a higher.
	Incarnation uint64 `json:"incarnation"`
	// Claim is the create revision of the claim ticket that the publisher of an
	// exclusive key held: a fencing token. 0: the key is not exclusive.
	Claim uint64 `json:"claim,omitempty"`
}

// Encode is the entry as it is stored.
func (p Provider) Encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of plain fields
	}
	return b
}

// DecodeProvider reads an entry. What no publisher of ours wrote is refused
// with a reason: an entry comes from another node.
func DecodeProvider(b []byte) (Provider, error) {
	p := Provider{Weight: 100}
	if len(b) > MaxProvider {
		return Provider{}, fmt.Errorf("provider entry has %d bytes, more than %d", len(b), MaxProvider)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return Provider{}, fmt.Errorf("provider entry: %w", err)
	}
	if err := p.check(); err != nil {
		return Provider{}, fmt.Errorf("provider entry: %w", err)
	}
	return p, nil
}

func (p *Provider) check() error {
	states := []State{Up, Down, Draining, Standby, Left}
	balances := []string{"", RoundRobin, LeastConn, Hash}
	switch {
	case !slices.Contains(states, p.State):
		return fmt.Errorf("state %q is unknown", p.State)
	case !utf8.ValidString(p.Value) || strings.ContainsAny(p.Value, "\n\x00"):
		return errors.New("value is not one line of text")
	case !word(p.Host):
		return fmt.Errorf("host %q is not an address", p.Host)
	case p.Port < 0 || p.Port > 65535:
		return fmt.Errorf("port %d is out of range", p.Port)
	case p.LocalPort < 0 || p.LocalPort > 65535:
		return fmt.Errorf("local_port %d is out of range", p.LocalPort)
	case p.Weight < 0 || p.Weight > MaxWeight:
		return fmt.Errorf("weight %d is out of range", p.Weight)
	case p.Priority < -MaxPriority || p.Priority > MaxPriority:
		return fmt.Errorf("priority %d is out of range", p.Priority)
	case !slices.Contains(balances, p.Balance):
		return fmt.Errorf("balance %q is unknown", p.Balance)
	}
	for _, h := range p.Hosts {
		if h == "" || !word(h) {
			return fmt.Errorf("host name %q is not one", h)
		}
	}
	return nil
}

// word reports whether s is made of what host names and addresses are made of.
func word(s string) bool {
	return len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool {
		return !(r < utf8.RuneSelf && (plain(byte(r)) || strings.ContainsRune(".:*%", r)))
	}) < 0
}

// NodeRecord is what stands under Space.Node: what a node says of itself to
// the fleet, written on change. It never holds a value or a digest of one.
type NodeRecord struct {
	Version    string `json:"version"`
	Region     string `json:"region"`
	Host       string `json:"host,omitempty"`
	MachineID  string `json:"machine_id"`
	BootID     string `json:"boot_id"`
	AgentState string `json:"state"` // up, off, draining, drained
	// Run is the last run: its id, result and when it ended (RFC 3339).
	Run    string `json:"run,omitempty"`
	Result string `json:"result,omitempty"`
	Ended  string `json:"ended,omitempty"`
	// Revision of the store that the last successful run used.
	Revision uint64 `json:"revision,omitempty"`
	// WaitingOn are keys that services of the node wait for, sorted.
	WaitingOn []string `json:"waiting_on,omitempty"`
}

// Encode is the record as it is stored.
func (n NodeRecord) Encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // a struct of plain fields
	}
	return b
}

// DecodeNodeRecord reads a record.
func DecodeNodeRecord(b []byte) (NodeRecord, error) {
	var n NodeRecord
	if len(b) > MaxProvider {
		return n, fmt.Errorf("node record has %d bytes, more than %d", len(b), MaxProvider)
	}
	if err := json.Unmarshal(bytes.TrimSpace(b), &n); err != nil {
		return NodeRecord{}, fmt.Errorf("node record: %w", err)
	}
	return n, nil
}
