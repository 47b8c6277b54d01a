package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// minVersion is the first server with atomic batches.
const minVersion = "2.12"

// markerTTL is how long the markers of removed keys stay. A watch that is
// further behind than that would miss a removal: it is begun anew long before.
const markerTTL = time.Hour

// bucket is what is known of the bucket's stream.
type bucket struct {
	created  time.Time // two streams of one name differ in it
	replicas int
	last     uint64 // sequence, when it was asked
	first    uint64 // sequence of the oldest message
	mark     uint64 // sequence of the mark
}

// same says whether a bucket is the one that it was: the mark is its first
// message, and stays until it is emptied.
func (b bucket) same(now bucket) bool { return b.created.Equal(now.created) && b.mark == now.mark }

// config is the stream of a bucket that is made here. It is one that the
// tools for NATS key-value buckets know.
func (s *Store) config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        s.names.stream,
		Description: "configuration values and services, by listener",
		Subjects:    []string{s.names.all()},
		// With more than one message per key the server raises every TTL to
		// that of the markers.
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		Discard:           jetstream.DiscardNew,
		Storage:           jetstream.FileStorage,
		Replicas:          s.opts.Replicas,
		DenyDelete:        true,
		AllowRollup:       true,
		AllowDirect:       true,
		AllowMsgTTL:       true,
		// Without markers a key that expires vanishes without a word.
		SubjectDeleteMarkerTTL: markerTTL,
		AllowAtomicPublish:     true,
	}
}

// checkConfig returns what is wrong with the settings of a bucket that
// somebody else made.
func checkConfig(c *jetstream.StreamConfig, want string) (wrong []string) {
	check := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, text)
		}
	}
	check(slices.Equal(c.Subjects, []string{want}), "subjects must be "+want)
	check(c.Mirror == nil && len(c.Sources) == 0, "it must not be a mirror or have sources")
	check(c.Retention == jetstream.LimitsPolicy, "retention must be limits")
	check(c.MaxMsgsPerSubject == 1, fmt.Sprintf("history must be 1, not %d", c.MaxMsgsPerSubject))
	check(c.MaxAge == 0, "max_age must be 0: values would vanish")
	check(c.Discard == jetstream.DiscardNew || c.MaxBytes <= 0 && c.MaxMsgs <= 0, "discard must be new: old values would vanish")
	check(c.AllowDirect, "allow_direct must be true")
	check(c.AllowRollup, "allow_rollup_hdrs must be true")
	check(c.AllowMsgTTL, "allow_msg_ttl must be true")
	check(c.SubjectDeleteMarkerTTL >= time.Minute, "subject_delete_marker_ttl must be at least 1m")
	check(c.AllowAtomicPublish, "allow_atomic must be true")
	check(!c.NoAck && !c.Sealed, "it must not be sealed or without acknowledgements")
	return wrong
}

// streamInfo is the answer to STREAM.INFO and STREAM.CREATE.
type streamInfo struct {
	Error *apiError `json:"error"`
	jetstream.StreamInfo
}

// enter makes sure that the server and the bucket can hold the store.
func (s *Store) enter(ctx context.Context, l *link) error {
	version, server := l.nc.ConnectedServerVersion(), l.nc.ConnectedAddr()
	if version == "" || server == "" { // neither is known any more
		return nats.ErrConnectionClosed
	}
	if !atLeast(version, minVersion) {
		return &Error{
			Err:  fmt.Errorf("%w: NATS server %s at %s, at least %s is needed", ErrServer, version, server, minVersion),
			Hint: "upgrade it: before 2.12 it has no atomic batches, before 2.11 it ignores the ttl of a key",
		}
	}
	info, err := l.info(ctx)
	if e, ok := errors.AsType[*apiError](err); ok && e.ErrCode == codeStreamNotFound {
		info, err = l.create(ctx, s.config())
	}
	if err != nil {
		return jetStreamError(server, err)
	}
	if wrong := checkConfig(&info.Config, s.names.all()); len(wrong) > 0 {
		return &Error{
			Err:  fmt.Errorf("%w: %s: %s", ErrBucket, s.opts.Bucket, strings.Join(wrong, "; ")),
			Hint: "change the stream " + s.names.stream + ", or name a bucket that does not exist yet: it is made with the right settings",
		}
	}
	l.setBucket(info)
	s.setWarning(s.advise(&info.Config))
	return l.mark(ctx)
}

// jetStreamError says of an error whether there is a JetStream at all. That
// nobody answers may pass: a server that starts answers a little later.
func jetStreamError(server string, err error) error {
	const hint = "enable jetstream on the server and for this account"
	if errors.Is(err, nats.ErrNoResponders) {
		return &Error{Err: fmt.Errorf("%w: JetStream does not answer at %s", store.ErrUnavailable, server), Hint: hint}
	}
	if e, ok := errors.AsType[*apiError](err); ok && (e.ErrCode == codeNotForAccount || e.ErrCode == codeNotEnabled) {
		return &Error{Err: fmt.Errorf("%w: no JetStream at %s: %w", ErrServer, server, err), Hint: hint}
	}
	return err
}

func (l *link) setBucket(info *streamInfo) bucket {
	b := bucket{
		created: info.Created, replicas: info.Config.Replicas,
		last: info.State.LastSeq, first: info.State.FirstSeq,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b.mark = l.bucket.mark
	l.bucket = b
	return b
}

func (l *link) known() bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bucket
}

// advise returns what the settings of the bucket can lose although it was
// acknowledged; "" is nothing.
func (s *Store) advise(c *jetstream.StreamConfig) string {
	switch {
	case c.Storage == jetstream.MemoryStorage:
		return "the bucket " + s.opts.Bucket + " is kept in memory: a restart of the servers empties it"
	case c.PersistMode == jetstream.AsyncPersistMode:
		return "the bucket " + s.opts.Bucket + " has persist_mode async: the server acknowledges writes before they are in its file"
	case c.Replicas < 3:
		return "a power loss can take what NATS acknowledged in the last two minutes, unless its configuration has " +
			"jetstream { sync_interval: always }, which a client cannot see; or keep the bucket " + s.opts.Bucket + " on three servers"
	}
	return ""
}

func (l *link) info(ctx context.Context) (*streamInfo, error) {
	return l.streamCall(ctx, "$JS.API.STREAM.INFO."+l.names.stream, nil)
}

func (l *link) create(ctx context.Context, c jetstream.StreamConfig) (*streamInfo, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return l.streamCall(ctx, "$JS.API.STREAM.CREATE."+l.names.stream, body)
}

func (l *link) streamCall(ctx context.Context, subject string, body []byte) (*streamInfo, error) {
	m, err := l.ask(ctx, &nats.Msg{Subject: subject, Data: body})
	if err != nil {
		return nil, err
	}
	info := new(streamInfo)
	if err := json.Unmarshal(m.Data, info); err != nil {
		return nil, err
	}
	if info.Error != nil {
		return nil, info.Error
	}
	return info, nil
}

// mark makes sure that the bucket has its mark: it makes the revision of an
// empty store more than 0, and lets every read bring a revision.
func (l *link) mark(ctx context.Context) error {
	for {
		now, err := l.latest(ctx, nil)
		if err == nil && len(now.found) == 1 {
			l.setMark(now.found[0].seq)
			return nil
		}
		if err != nil && !errors.Is(err, errNoMark) {
			return err
		}
		m := nats.NewMsg(l.names.meta)
		m.Data = []byte("listener-store/1\n")
		guard(m, 0, "")
		seq, err := l.publish(ctx, m)
		if err == nil {
			l.setMark(seq)
			return nil
		}
		if !errors.Is(err, errRace) {
			return err
		}
		sleep(ctx, 5*time.Millisecond) // another one made it, which a replica does not have yet
	}
}

func (l *link) setMark(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bucket.mark, l.bucket.last = seq, max(l.bucket.last, seq)
}

// atLeast compares versions such as 2.12.0-preview.1 by their numbers.
func atLeast(version, least string) bool {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	have, want := strings.Split(version, "."), strings.Split(least, ".")
	for i, w := range want {
		n, _ := strconv.Atoi(w)
		h := 0
		if i < len(have) {
			h, _ = strconv.Atoi(have[i]) // not a number: 0, too old
		}
		if h != n {
			return h > n
		}
	}
	return true
}
