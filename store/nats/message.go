package nats

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
)

// The headers that make a message an entry of the store. One without them is
// a value that another program wrote: created and written at its sequence.
const (
	// headerCreated: the revision that created the key. Absent: this one.
	headerCreated = "Listener-Created"
	// headerRev: the revision, of a message that only refreshes a key.
	headerRev = "Listener-Rev"
	// headerSession: the session that the key is bound to.
	headerSession = "Listener-Session"
	// headerBatch: "2/3" is the second message of a commit of three. They have
	// consecutive sequences; the last one is the commit's revision.
	headerBatch = "Listener-Batch"
	// headerKeys: the keys of a commit of several, in their order; they are
	// its last messages. "*" when the list would be too long.
	headerKeys = "Listener-Keys"
	// headerGone: "session" on the marker of a key that went with its session.
	headerGone = "Listener-Gone"

	maxKeysHeader = 32 << 10 // of the 64 KiB that all headers may take
)

// Headers of NATS.
const (
	headerTTL          = "Nats-TTL"
	headerOperation    = "KV-Operation" // DEL, PURGE
	headerMarker       = "Nats-Marker-Reason"
	headerExpected     = "Nats-Expected-Last-Subject-Sequence"
	headerExpectedOf   = "Nats-Expected-Last-Subject-Sequence-Subject"
	headerBatchID      = "Nats-Batch-Id"
	headerBatchSeq     = "Nats-Batch-Sequence"
	headerBatchCommit  = "Nats-Batch-Commit"
	headerStatus       = "Status"
	headerSubject      = "Nats-Subject"
	headerSequence     = "Nats-Sequence"
	headerUpTo         = "Nats-UpTo-Sequence"
	headerNumPending   = "Nats-Num-Pending"
	headerLastConsumer = "Nats-Last-Consumer"
	headerStalled      = "Nats-Consumer-Stalled"

	operationPurge = "PURGE"
	reasonMaxAge   = "MaxAge"
)

// message is what the bucket holds at one subject.
type message struct {
	subject string
	seq     uint64
	header  nats.Header
	data    []byte
}

// entry is a message as the port sees it.
type entry struct {
	key          string
	seq          uint64 // of the stream: what guards name
	rev, created uint64
	value        []byte
	session      string
	gone         bool // a marker: there is no such key
	expired      bool // of one that is gone
	batch        uint64
	keys         []string // of the commit, if it has several
	manyKeys     bool     // it has, and too many to list
}

func (n names) decode(m message) (e entry, ok bool) {
	e.key, ok = n.key(m.subject)
	if !ok {
		return e, false
	}
	e.read(m)
	return e, true
}

// decodeAll leaves out what is no key of ours.
func (n names) decodeAll(all []message) []entry {
	entries := make([]entry, 0, len(all))
	for _, m := range all {
		if e, ok := n.decode(m); ok {
			entries = append(entries, e)
		}
	}
	return entries
}

// read takes all but the key from a message.
func (e *entry) read(m message) {
	h := m.header
	e.seq, e.rev, e.value = m.seq, m.seq, m.data
	if i, count, ok := parseBatch(h.Get(headerBatch)); ok {
		e.rev = m.seq + count - i
		e.batch = e.rev
	}
	// A message that was copied here from another bucket has numbers that
	// mean nothing.
	if r := number(h.Get(headerRev)); r > 0 && r < m.seq {
		e.rev = r
	}
	e.created = e.rev
	if c := number(h.Get(headerCreated)); c > 0 && c < e.rev {
		e.created = c
	}
	e.session = h.Get(headerSession)
	e.gone = isMarker(h)
	e.expired = h.Get(headerMarker) == reasonMaxAge || h.Get(headerGone) != ""
	switch k := h.Get(headerKeys); k {
	case "":
	case "*":
		e.manyKeys = true
	default:
		e.keys = strings.Fields(k)
	}
}

func isMarker(h nats.Header) bool { return h.Get(headerOperation) != "" || h.Get(headerMarker) != "" }

func (e entry) kv() store.KV {
	return store.KV{Key: e.key, Value: e.value, Rev: e.rev, Created: e.created}
}

func parseBatch(text string) (i, count uint64, ok bool) {
	a, b, _ := strings.Cut(text, "/")
	i, count = number(a), number(b)
	return i, count, i > 0 && i <= count
}

// number is 0 for anything that is none.
func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// guard makes the server refuse a message unless the last sequence of a
// subject is seq: of the message's own one, or, if it is not "", of another.
func guard(m *nats.Msg, seq uint64, subject string) {
	m.Header.Set(headerExpected, strconv.FormatUint(seq, 10))
	if subject != "" {
		m.Header.Set(headerExpectedOf, subject)
	}
}

// setTTL writes whole seconds: the server knows no others.
func setTTL(m *nats.Msg, ttl time.Duration) {
	m.Header.Set(headerTTL, strconv.FormatInt(int64(ttl/time.Second), 10)+"s")
}

// marker makes the message that removes a key.
func marker(subject string) *nats.Msg {
	m := nats.NewMsg(subject)
	m.Header.Set(headerOperation, operationPurge)
	setTTL(m, markerTTL)
	return m
}

// asBatch makes the messages one commit. Those of keys, if there are several,
// are the last ones, in the order of keys.
func asBatch(id string, all []*nats.Msg, keys []string) {
	if len(all) < 2 {
		return
	}
	list := strings.Join(keys, " ")
	if len(list) > maxKeysHeader {
		list = "*"
	}
	for i, m := range all {
		at := strconv.Itoa(i + 1)
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSeq, at)
		m.Header.Set(headerBatch, at+"/"+strconv.Itoa(len(all)))
		if len(keys) > 1 && i >= len(all)-len(keys) {
			m.Header.Set(headerKeys, list)
		}
	}
	all[len(all)-1].Header.Set(headerBatchCommit, "1")
}

// sortKVs sorts by key.
func sortKVs(kvs []store.KV) {
	slices.SortFunc(kvs, func(a, b store.KV) int { return strings.Compare(a.Key, b.Key) })
}
