// Package manifest reads what a node's services declare: one strict JSON file
// per service with what it requires and what it provides.
package manifest

import (
	"slices"
	"strconv"
)

// Manifest is one service's declaration, already validated. It is not
// modified after Parse and may be shared.
type Manifest struct {
	ID   string
	File string // the path it was read from

	Command     Command
	RunList     []string
	Environment map[string]string   // numbers and booleans as their JSON text
	Requires    map[string]Template // variable → template over keys and built-ins
	Provides    map[string]Template // key → template over built-ins and Environment
	Check       *Check              // nil: none

	LocalPort  int // 0: none
	Public     bool
	Hosts      []string
	Federation string // "": the node's
	Priority   int    // lower is preferred; -65535…65535, 0 unless told
	Weight     int    // 0…256; 100 unless told
	Balance    string // roundrobin (default), leastconn, hash
	Exclusive  []string
	Relaxed    bool // binding = "relaxed"
	User       string
	Group      string

	// Extra holds the unknown members (chef_type, data_bag, …) as raw JSON,
	// for node.json. Notes says which, and what else looks odd, for people.
	Extra map[string][]byte
	Notes []string
}

// Port is what {PORT} stands for: environment.PORT, else local_port; "" when
// there is neither, and then no template of m names it.
func (m *Manifest) Port() string {
	if port, ok := m.Environment["PORT"]; ok || m.LocalPort == 0 {
		return port
	}
	return strconv.Itoa(m.LocalPort)
}

// RequiredKeys are the keys that requires names, sorted, each once.
func (m *Manifest) RequiredKeys() []string {
	var keys []string
	for _, t := range m.Requires {
		for _, p := range t.Parts {
			if p.Key != "" {
				keys = append(keys, p.Key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Command says how a service is provisioned.
type Command struct {
	// Node: by the node's command, together with the others (true, the default).
	Node bool
	// Argv: its own step; a JSON string s became /bin/sh -c s. Empty and not
	// Node: the service only declares (false).
	Argv []string
}

// Own reports whether the service has a step of its own.
func (c Command) Own() bool { return len(c.Argv) > 0 }

// Check is a health check; exactly one of HTTP, TCP, Exec is set.
type Check struct {
	HTTP *Template // URL
	TCP  *Template // host:port
	Exec []Template
}

// Template is text with placeholders, parsed. The zero value is empty text.
type Template struct {
	Text  string // as written
	Parts []Part
}

// Part is a literal or a placeholder (one of Builtin, EnvVar, Key is set).
type Part struct {
	Literal string

	Builtin string // HOST, PORT, NODE, REGION, FEDERATION or ID
	// Bracket: this HOST stands in a URL or before a port, where Expand writes
	// an IPv6 address as [::1].
	Bracket bool
	// EnvVar: in provides and check, a variable of the service's own environment.
	EnvVar string

	Key      string // {KEY}
	Service  string // {service/KEY}: only its providers
	Optional bool   // {KEY?}
	// Default is the text of {KEY:-text}; HasDefault tells "" from none.
	Default    string
	HasDefault bool
	List       bool   // {KEY[]}
	Sep        string // between list elements, "," unless told
}
