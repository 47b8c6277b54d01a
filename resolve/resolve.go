// Package resolve computes what a service's placeholders mean on this node:
// it ranks operator values, providers, attributes and defaults, and keeps the
// last known good value while absence is not proven. It is pure.
package resolve

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/listener-agent/listener/manifest"
)

// Rank is which source a value came from; lower wins, None has no value.
type Rank uint8

// The ranks, the first present wins.
const (
	None          Rank = iota
	RegionValue        // operator value for the own region
	Value              // operator value
	OwnRegion          // providers up, own region
	NextRegion         // providers up, next region of region_order
	RegionDefault      // attributes of the own region
	General            // attributes
	Default            // the placeholder's own default
)

// static ranks come from files on this node: a last good value of these gives
// way to an edit at once.
func (r Rank) static() bool { return r >= RegionDefault }

// Entry is an operator's value as the view holds it.
type Entry struct {
	Text string
	Rev  uint64
}

// Node is what the built-in placeholders say.
type Node struct {
	Name, Host, Region, Federation string
	RegionOrder                    []string
}

// Picture is the node's view, as resolve asks of it. Its methods do not block.
type Picture interface {
	// Value is the operator's value of key for region; "" is every region.
	Value(region, key string) (Entry, bool)
	// Providers are all entries of key that matter, up or not, in any order.
	Providers(key string) []Provider
	// Memo is to be used as long as the picture is the same; nil: none.
	Memo() Memo
	// Here is what the value of a provider is on this node.
	Here(key string, p Provider) string
	// Chosen is the provider in use for a choice (see Choice): the ID of one,
	// or for a list the region of all; "": none yet.
	Chosen(choice string) string
	// Settled reports whether a provider has been up for long enough that a
	// better one may take over from the one in use.
	Settled(p Provider) bool
	// Attribute is the static fallback for region; "" is the general one.
	Attribute(region, key string) (string, bool)
	// Proven reports whether the absence of key can be believed: the view is
	// authoritative, no hold is on it and its last providers did not expire.
	Proven(key string) bool
	// Replica: the store has not answered yet in this process, so that values
	// may be older than those that the last run used.
	Replica() bool
	// Known is false until the store or its replica said anything of key.
	Known(key string) bool
	// Awaited: the store was asked for key just now and has yet to answer.
	// Unknown is not missing: no default or attribute stands in meanwhile.
	Awaited(key string) bool
}

// Answer is what one placeholder resolved to.
type Answer struct {
	Rank     Rank   `json:"rank"` // the numbers stand in state.json: never reorder
	Text     string `json:"text"`
	Rev      uint64 `json:"rev,omitempty"`
	Region   string `json:"region,omitempty"`   // of the value, the attributes or the provider
	Provider string `json:"provider,omitempty"` // NODE/SERVICE; with {KEY[]}, all of them joined by ","
	// LastGood: absence is unproven, so the last good value stands in.
	LastGood bool `json:"-"`
}

// Good is what the last successful step of a service used.
type Good struct {
	// Vars is the whole environment.
	Vars map[string]string `json:"vars"`
	// Uses holds each placeholder's answer by PlaceholderID.
	Uses map[string]Answer `json:"uses,omitempty"`
}

// State is whether a service can be provisioned.
type State uint8

// The states of a service.
const (
	// Ready: Vars is the environment to provision with.
	Ready State = iota
	// Kept: something required is not there; the service keeps its last good
	// environment, which Vars is, and is not due.
	Kept
	// Waiting: something required is not there and there is no last good.
	Waiting
)

// Use is one placeholder of a service and its answer.
type Use struct {
	ID, Key string
	Answer  Answer
	// Why says what decided among several providers, for people.
	Why string
	// Better: a better provider than the one in use is up, but not for long
	// enough; the answer changes when Settled does.
	Better bool
}

// Var is one variable of the environment.
type Var struct{ Name, Value string }

// Result is one service, resolved.
type Result struct {
	State State
	// Vars is sorted by name; nil when Waiting.
	Vars []Var
	// Uses has every placeholder over keys once, sorted by ID.
	Uses []Use
	// Missing are the keys (or built-ins) that hold the service back, sorted.
	Missing []string
	// Awaited: the store's answer for one of Missing is on its way.
	Awaited bool
}

// PlaceholderID identifies what a placeholder asks for, whatever its default.
func PlaceholderID(p manifest.Part) string {
	id := p.Key
	if p.Service != "" {
		id = p.Service + "/" + id
	}
	if p.List {
		id += "[" + p.Sep + "]"
	}
	return id
}

// Service resolves m. good is nil when no step of it ever succeeded.
func Service(m *manifest.Manifest, n Node, pic Picture, good *Good) Result {
	r := resolver{m: m, n: n, pic: pic, good: good}
	vars := make([]Var, 0, len(m.Environment)+len(m.Requires))
	for name, text := range m.Environment {
		vars = append(vars, Var{name, text})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Requires)) {
		text, ok := r.expand(m.Requires[name])
		if ok {
			vars = append(vars, Var{name, text})
		}
	}
	slices.SortFunc(r.uses, func(a, b Use) int { return strings.Compare(a.ID, b.ID) })
	slices.Sort(r.missing)
	res := Result{Uses: r.uses, Missing: slices.Compact(r.missing), Awaited: r.awaited}
	switch {
	case len(res.Missing) == 0 || r.relaxed(res.Missing):
		res.Vars = vars
	case good != nil:
		res.State = Kept
		for name, text := range good.Vars {
			res.Vars = append(res.Vars, Var{name, text})
		}
	default:
		res.State = Waiting
	}
	slices.SortFunc(res.Vars, func(a, b Var) int { return strings.Compare(a.Name, b.Name) })
	return res
}

type resolver struct {
	m    *manifest.Manifest
	n    Node
	pic  Picture
	good *Good

	uses           []Use
	missing        []string
	builtinMissing bool
	awaited        bool
}

// relaxed reports whether the service goes ahead although missing are not there.
func (r *resolver) relaxed(missing []string) bool {
	unknown := func(key string) bool { return !r.pic.Known(key) }
	return r.m.Relaxed && !r.builtinMissing && !r.awaited && !slices.ContainsFunc(missing, unknown)
}

// expand returns the text and whether the variable is set at all.
func (r *resolver) expand(t manifest.Template) (string, bool) {
	text, absent, err := t.Expand(func(p manifest.Part) (string, bool) {
		if p.Key == "" {
			return builtin(r.m, r.n, p)
		}
		if r.pic.Awaited(p.Key) {
			r.awaited = true
			r.missing = append(r.missing, p.Key)
			return "", false
		}
		a := r.use(p)
		return a.Text, a.Rank != None
	})
	if lacks, ok := errors.AsType[*manifest.MissingError](err); ok {
		for _, p := range lacks.Parts {
			r.missing = append(r.missing, p.Key+p.Builtin)
			r.builtinMissing = r.builtinMissing || p.Builtin != ""
		}
	}
	return text, err == nil && !absent
}

// use answers a placeholder and remembers it once.
func (r *resolver) use(p manifest.Part) Answer {
	u := Use{ID: PlaceholderID(p), Key: p.Key}
	r.answer(p, &u)
	switch i := slices.IndexFunc(r.uses, func(o Use) bool { return o.ID == u.ID }); {
	case i < 0:
		r.uses = append(r.uses, u)
	case r.uses[i].Answer.Rank == None: // {KEY?} was first, this one has a default
		r.uses[i] = u
	}
	return u.Answer
}

// answer goes through the ranks.
func (r *resolver) answer(p manifest.Part, u *Use) {
	var last Answer
	if r.good != nil {
		last = r.good.Uses[u.ID]
	}
	usable := last.Rank != None && !last.Rank.static()
	unproven := r.fromStore(p, u)
	if u.Answer.Rank != None {
		// The replica may be older than what the last run already used.
		if usable && r.pic.Replica() && last.Rank <= Value && u.Answer.Rank <= Value && last.Rev > u.Answer.Rev {
			last.LastGood = true
			u.Answer = last
		}
		return
	}
	if usable && (unproven || !r.pic.Proven(p.Key)) {
		last.LastGood = true
		u.Answer = last
		return
	}
	if text, ok := r.pic.Attribute(r.n.Region, p.Key); ok && p.Service == "" {
		u.Answer = Answer{Rank: RegionDefault, Text: text, Region: r.n.Region}
	} else if text, ok := r.pic.Attribute("", p.Key); ok && p.Service == "" {
		u.Answer = Answer{Rank: General, Text: text}
	} else if p.HasDefault {
		u.Answer = Answer{Rank: Default, Text: p.Default}
	}
}

// fromStore tries ranks 1 to 4; unproven says that there were providers and
// nobody withdrew them, although none can be used.
func (r *resolver) fromStore(p manifest.Part, u *Use) (unproven bool) {
	if p.Service == "" {
		if e, ok := r.pic.Value(r.n.Region, p.Key); ok {
			u.Answer = Answer{Rank: RegionValue, Text: e.Text, Rev: e.Rev, Region: r.n.Region}
			return false
		}
		if e, ok := r.pic.Value("", p.Key); ok {
			u.Answer = Answer{Rank: Value, Text: e.Text, Rev: e.Rev}
			return false
		}
	}
	return r.fromProviders(p, u)
}

// builtin is the text of a built-in placeholder, and whether the node has it.
func builtin(m *manifest.Manifest, n Node, p manifest.Part) (string, bool) {
	text := ""
	switch p.Builtin {
	case "HOST":
		text = n.Host
	case "PORT":
		text = m.Port()
	case "NODE":
		text = n.Name
	case "REGION":
		text = n.Region
	case "FEDERATION":
		text = n.Federation
	case "ID":
		text = m.ID
	}
	return text, text != ""
}

// Offer expands a template of provides or check; missing names the built-in
// that has no value on this node.
func Offer(m *manifest.Manifest, n Node, t manifest.Template) (text, missing string) {
	text, _, err := t.Expand(func(p manifest.Part) (string, bool) {
		if p.EnvVar != "" {
			return m.Environment[p.EnvVar], true
		}
		return builtin(m, n, p)
	})
	if lacks, ok := errors.AsType[*manifest.MissingError](err); ok {
		return "", lacks.Parts[0].Builtin
	}
	return text, ""
}
