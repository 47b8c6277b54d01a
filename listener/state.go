package listener

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/throttle"
)

// nodeStep is the name of the node's own step; no service id can be this.
const nodeStep = "_node"

// stepName is how a step is called in runs, logs and job files.
func stepName(step string) string {
	if step == nodeStep {
		return "node"
	}
	return step
}

// state is what the agent must not forget: state_dir/state.json. The loop's
// goroutine owns it. A field that is absent has its zero value.
type state struct {
	stateHeader
	Services map[string]*serviceState

	size int // room that the next encoding will need
}

type stateHeader struct {
	// Boot is the boot id under which the agent last started.
	Boot string `json:"boot"`
	// MachineID tells a cloned image.
	MachineID  string `json:"machine_id"`
	Federation string `json:"federation,omitempty"` // the one kept: the first that manifests named

	// Forced counts what forces a run; Settled holds, per step, the count
	// that its last success covered.
	Forced   uint64            `json:"forced"`
	ForcedBy []string          `json:"forced_by,omitempty"`
	Settled  map[string]uint64 `json:"settled,omitempty"`
	Manual   *manual           `json:"manual,omitempty"`

	// Node is what the node step was last applied with, beside its services.
	NodeDigest string    `json:"node_digest,omitempty"`
	NodeDirty  bool      `json:"node_dirty,omitempty"`
	NodeAt     time.Time `json:"node_at,omitzero"` // of its last success

	// Choices are the providers in use, by resolve.Choice.
	Choices map[string]string `json:"choices,omitempty"`

	// Balancers is, by path, the digest of the file that the balancer has read.
	Balancers map[string]string `json:"balancers,omitempty"`

	// BootForced is the Forced of the first start after the last boot, which
	// has to succeed before a service is published; AppliedRev the store's
	// revision that the last successful step was planned with.
	BootForced uint64 `json:"boot_forced,omitempty"`
	AppliedRev uint64 `json:"applied_rev,omitempty"`

	Failures map[string]*failure `json:"failures,omitempty"` // by step
	// Run is the run in progress; after a crash, the one to adopt.
	Run *runState `json:"run,omitempty"`
}

// manual is a `listener provision` that no run has begun to carry out.
type manual struct {
	Ticket    uint64 `json:"ticket"` // the Forced that it raised
	Now       bool   `json:"now,omitempty"`
	EvenIfOff bool   `json:"even_if_off,omitempty"`
	Who       string `json:"who"`
}

// failure holds a step back until Next, for this digest and forced count only.
type failure struct {
	Run    string        `json:"run"`
	Count  int           `json:"count"` // in a row
	At     time.Time     `json:"at"`
	Text   string        `json:"text"`
	Tail   []string      `json:"tail,omitempty"`
	Work   string        `json:"work"`   // what was tried: workOf the step
	Delay  time.Duration `json:"delay"`  // the back-off drawn last
	Next   time.Duration `json:"next"`   // CLOCK_BOOTTIME, valid under Boot
	Boot   string        `json:"boot"`   // another boot: the back-off is over
	Forced uint64        `json:"forced"` // that was tried
}

// remaining is how long the failure still holds work back; 0: not at all.
func (f *failure) remaining(work string, forced uint64, now throttle.Now) time.Duration {
	if f == nil || f.Work != work || f.Forced != forced || f.Boot != now.Boot {
		return 0
	}
	return max(0, f.Next-now.Up)
}

// rebase shortens what would be held back for longer than was ever meant: the
// clock of this boot is behind what it was, as it is outside of a time namespace.
func (s *state) rebase(now throttle.Now) {
	for _, f := range s.Failures {
		if f.Boot == now.Boot {
			f.Next = min(f.Next, now.Up+f.Delay)
		}
	}
}

// serviceState is one service's part.
type serviceState struct {
	Applied   inputs        `json:"applied,omitzero"`
	AppliedAt time.Time     `json:"applied_at,omitzero"` // when it last changed; see Agent.appliedAt
	Dirty     bool          `json:"dirty,omitempty"`
	Good      *resolve.Good `json:"good,omitempty"` // nil: no step of it ever succeeded
	Files     []string      `json:"files,omitempty"`
	// Offers are the entries of what it provides, as of when it was not due.
	Offers map[string]store.Provider `json:"offers,omitempty"`

	raw []byte // its JSON; nil after a change
}

// runState is a run as it must survive the agent.
type runState struct {
	Run    status.Run `json:"run"`
	Forced uint64     `json:"forced"`
	Rev    uint64     `json:"rev,omitempty"` // of the store, when it was planned
	Steps  []stepPlan `json:"steps"`
	Dirty  []string   `json:"dirty,omitempty"` // services dirty before the run

	onDisk bool // state.json has it
}

// stepPlan is one step and what its success makes true.
type stepPlan struct {
	Step       string               `json:"step"`
	Work       string               `json:"work"`
	NodeDigest string               `json:"node_digest,omitempty"`
	Services   map[string]candidate `json:"services"`
	Done       bool                 `json:"done,omitempty"`

	// ids are all services of the step, sorted. Those of the node step that
	// are as they were applied are not among Services: a change of one service
	// must not cost what all of them weigh. Not needed after a crash.
	ids []string
}

// candidate becomes a service's applied state when its step succeeds.
type candidate struct {
	Inputs inputs        `json:"inputs"`
	Good   *resolve.Good `json:"good"`
	Files  []string      `json:"files,omitempty"`
	// Offers are what it provides then; nil: as before.
	Offers map[string]store.Provider `json:"offers,omitempty"`
}

func newState() *state {
	return &state{
		stateHeader: stateHeader{Settled: map[string]uint64{}, Failures: map[string]*failure{}},
		Services:    map[string]*serviceState{},
	}
}

// service returns the state of id to read, never nil.
func (s *state) service(id string) *serviceState {
	if st := s.Services[id]; st != nil {
		return st
	}
	return &serviceState{}
}

// edit returns the state of id to change, making it if need be.
func (s *state) edit(id string) *serviceState {
	st := s.Services[id]
	if st == nil {
		st = &serviceState{}
		s.Services[id] = st
	}
	st.raw = nil
	return st
}

// force raises the counter for a reason that status shows until it is settled.
func (s *state) force(reason string) uint64 {
	s.Forced++
	if !slices.Contains(s.ForcedBy, reason) {
		s.ForcedBy = append(s.ForcedBy, reason)
	}
	return s.Forced
}

// encode writes JSON with one service a line. Only services that changed
// since the last call are encoded anew: the rest is copied.
func (s *state) encode() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(s.size) // about the last one's: growing copies it again and again
	head, err := json.Marshal(s.stateHeader)
	if err != nil {
		return nil, err
	}
	b.Write(bytes.TrimSuffix(head, []byte("}")))
	b.WriteString(",\n\"services\":{")
	for i, id := range slices.Sorted(maps.Keys(s.Services)) {
		st := s.Services[id]
		if st.raw == nil {
			if st.raw, err = json.Marshal(st); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n\"" + id + "\":") // an id needs no escape
		b.Write(st.raw)
	}
	b.WriteString("\n}}\n")
	s.size = b.Len() + b.Len()/16
	return b.Bytes(), nil
}

// loadState reads path. A missing file is a new state and no error; one that
// cannot be read or understood is a new state and an error, and is kept beside
// it as state.json.bad.
func loadState(path string) (s *state, fresh bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(), true, nil
	}
	if err == nil {
		s, err = decodeState(data)
		if err == nil {
			return s, false, nil
		}
		if rerr := os.Rename(path, path+".bad"); rerr == nil {
			err = fmt.Errorf("%w (kept as %s)", err, filepath.Base(path)+".bad")
		}
	}
	return newState(), true, fmt.Errorf("read state: %w", err)
}

func decodeState(data []byte) (*state, error) {
	s := newState()
	if err := json.Unmarshal(data, &s.stateHeader); err != nil {
		return nil, err
	}
	var rest struct {
		Services map[string]*serviceState `json:"services"`
	}
	if err := json.Unmarshal(data, &rest); err != nil {
		return nil, err
	}
	if s.Boot == "" {
		return nil, errors.New("no boot id in it")
	}
	if r := s.Run; r != nil && len(r.Steps) != len(r.Run.Steps) {
		return nil, errors.New("its run has not as many steps as it planned")
	}
	if s.Run != nil {
		s.Run.onDisk = true
	}
	for id, st := range rest.Services {
		if st != nil {
			s.Services[id] = st
		}
	}
	if s.Settled == nil {
		s.Settled = map[string]uint64{}
	}
	if s.Failures == nil {
		s.Failures = map[string]*failure{}
	}
	maps.DeleteFunc(s.Failures, func(_ string, f *failure) bool { return f == nil })
	return s, nil
}

// write replaces the file, without fsync: who survives a crash of the process
// is the page cache, and a power loss is covered by the forced run after boot.
func (s *state) write(path string) error {
	data, err := s.encode()
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return atomicfile.Write(path, data, 0o600)
}
