// Package balancer says what the load balancers of this node should do: a plan
// made from the providers of keys, HAProxy's configuration and the files of
// other balancers rendered from it, and the changes that a running HAProxy
// takes without a reload. There is no loop in it: who calls it owns timing,
// files and commands.
package balancer

import (
	"slices"

	"github.com/listener-agent/listener/store"
)

// Kind is whom a balancer serves.
type Kind string

// The kinds of balancers.
const (
	Local    Kind = "local"    // this node's services: one frontend per local_port
	Internal Kind = "internal" // other nodes: the same, for chosen keys
	Public   Kind = "public"   // the world: one HTTP frontend, by host and path
)

// Entry is one provider as it stands in the store.
type Entry struct {
	Region, Node, Service string
	store.Provider
}

// Key is a key with all its providers, those of other regions and those that
// do not serve included: a frontend stays while its last provider is away.
type Key struct {
	Name    string
	Entries []Entry // in any order
}

// Input is what a plan is made from. Nothing in it is modified or kept.
type Input struct {
	Kind Kind
	// Bind is the address that the frontends listen on: an IP address, or "*" for
	// all of IPv4 ("::" is all of both). "": 127.0.0.1.
	Bind string
	// Port is that of the one frontend of a Public balancer. 0: 80.
	Port int
	// Region is the node's; RegionOrder are those to fall back to, in this order.
	// Providers of any other region are ignored.
	Region      string
	RegionOrder []string
	Keys        []Key // in any order, each name once
	// Taken are the ports that something else on this node listens on, by who it
	// is: a service's ID for its PORT.
	Taken map[string]int
}

// Plan is what a balancer should do. It holds nothing that can break out of a
// configuration: names, hosts and paths consist of characters that mean
// nothing to HAProxy, nginx or a shell. Everything is in a stable order, so that
// one change makes one line differ.
type Plan struct {
	Kind      Kind
	Region    string
	Frontends []Frontend
	Backends  []Backend
	Problems  []Problem
}

// Frontend is where a balancer listens.
type Frontend struct {
	Name string // kind and port, such as local-8080; of a Public one just public
	Bind string // as in Input
	Port int
	HTTP bool     // it understands HTTP; else it passes TCP on
	Keys []string // that are reached here, sorted
	// Backend takes everything; "" when Routes decide.
	Backend string
	Routes  []Route // of a Public one, the first that matches counts
}

// Route sends requests to a backend.
type Route struct {
	// Host is a host name in lower case, or *.domain for all names below one. ""
	// is any host.
	Host string
	// Path is a prefix of whole segments, such as /some-mount, without a slash at
	// the end. "/" is every path.
	Path    string
	Backend string
}

// Backend is a set of servers that do the same.
type Backend struct {
	Name    string
	Key     string // whose providers its servers are
	HTTP    bool
	Balance string // store.RoundRobin, store.LeastConn or, with HTTP only, store.Hash
	Servers []Server
}

// Server is one provider in a backend.
type Server struct {
	// Name is region::node::service, other bytes than letters, digits and ._- as
	// :XX; unique within its backend.
	Name                  string
	Region, Node, Service string
	Host                  string // an IP address without brackets, or a host name
	Port                  int
	// Weight is its share, 0 … 256; with 0 it gets nothing new. Draining says that
	// it is 0 because the provider is leaving.
	Weight   int
	Draining bool
	// Backup: it gets requests only while no other server of the backend can.
	Backup bool
	// ID is its place on the ring of a backend with store.Hash, the same on every
	// node; else 0.
	ID int
}

// Serves reports whether the plan has a frontend on port for the key: what
// Rewrite makes of a provider's value leads somewhere only then.
func (p *Plan) Serves(key string, port int) bool {
	for i := range p.Frontends {
		if p.Frontends[i].Port == port && slices.Contains(p.Frontends[i].Keys, key) {
			return true
		}
	}
	return false
}

// backend returns the one with that name, or nil.
func (p *Plan) backend(name string) *Backend {
	for i := range p.Backends {
		if p.Backends[i].Name == name {
			return &p.Backends[i]
		}
	}
	return nil
}
