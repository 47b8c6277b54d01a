package publish

import "github.com/listener-agent/listener/store"

// verdict is what a service's check says.
type verdict int

const (
	unknown verdict = iota // neither rose nor fell since this process started
	up                     // rose, or there is no check
	down                   // fell
)

func (v verdict) String() string { return [...]string{"unknown", "up", "down"}[v] }

// facts are all that decides the state of one entry.
type facts struct {
	ready bool
	// known: published in this boot and not withdrawn since.
	known  bool
	check  verdict
	phase  phase
	stored store.State // of the entry in the store; "": none that can be read
}

// decide returns the state that an entry shall have, and why it is not up.
// "" means that what the store holds stays as it is. A claim comes after this:
// without it, up is standby.
func (f facts) decide() (store.State, string) {
	switch state, why := f.serve(); {
	case f.phase == leaving:
		return store.Left, "the node is out of service"
	case f.phase == serving || state == store.Down:
		return state, why
	case f.stored == store.Up || f.stored == store.Draining:
		return store.Draining, "the node is going out of service"
	}
	return "", "the node is going out of service" // nothing comes up now
}

func (f facts) serve() (store.State, string) {
	switch {
	case !f.ready && !f.known:
		return "", "not provisioned yet"
	case f.check == up:
		return store.Up, ""
	case f.check == down && f.known:
		return store.Down, "its check fell"
	case f.check == down:
		return "", "its check fails"
	// The process is new: what an earlier one found holds until we know better.
	case f.known && (f.stored == store.Up || f.stored == store.Draining || f.stored == store.Standby):
		return store.Up, ""
	case f.known && f.stored == store.Down:
		return store.Down, "its check fell"
	}
	return "", "its check did not rise yet"
}

// entry is one key as the store holds it, as far as we know.
type entry struct {
	known bool // false: it has to be read
	rev   uint64
	value []byte
	// provider is what value says; its State is "" where it says nothing.
	provider store.Provider
}

func entryOf(rev uint64, value []byte) entry {
	e := entry{known: true, rev: rev, value: value}
	if rev != 0 {
		e.provider, _ = store.DecodeProvider(value) // what nobody can read may be overwritten
	}
	return e
}

// later reports whether a later publisher of the node wrote the entry. An
// incarnation is lower than the revision of what is written under it; one that
// is not comes from before the store was set back, and counts for nothing.
func (e entry) later(incarnation uint64) bool {
	other := e.provider.Incarnation
	return other > incarnation && other < e.rev
}

// left is the entry, withdrawn.
func (e entry) left(incarnation uint64) store.Provider {
	p := e.provider
	p.State, p.Incarnation, p.Claim = store.Left, incarnation, 0
	return p
}
