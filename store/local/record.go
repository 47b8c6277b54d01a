package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/listener-agent/listener/store"
	bolt "go.etcd.io/bbolt"
)

// The file's buckets. Numbers are big-endian, so that they sort.
var (
	bucketMeta     = []byte("meta")     // format, rev, history
	bucketKeys     = []byte("keys")     // key → rev, created, session (8 bytes each, session 0: none), value
	bucketSessions = []byte("sessions") // session → ttl in ns
	bucketBound    = []byte("bound")    // session and key → nothing

	keyFormat  = []byte("format")
	keyRev     = []byte("rev")
	keyHistory = []byte("history") // random, since the file was made; older ones have none
)

const (
	format     = "listener-store/1"
	recordHead = 24
	// firstRev is the revision of a store that nothing was written to.
	firstRev = 1
)

var errRecord = errors.New("a record is cut short")

type record struct {
	rev, created uint64
	session      sessionID
	value        []byte // of a decoded one: valid during the transaction
}

func (r record) encode() []byte {
	b := make([]byte, recordHead, recordHead+len(r.value))
	binary.BigEndian.PutUint64(b, r.rev)
	binary.BigEndian.PutUint64(b[8:], r.created)
	binary.BigEndian.PutUint64(b[16:], uint64(r.session))
	return append(b, r.value...)
}

func decode(b []byte) (record, error) {
	if len(b) < recordHead {
		return record{}, errRecord
	}
	return record{
		rev:     binary.BigEndian.Uint64(b),
		created: binary.BigEndian.Uint64(b[8:]),
		session: sessionID(binary.BigEndian.Uint64(b[16:])),
		value:   b[recordHead:],
	}, nil
}

// kv copies: what bbolt returns ends with the transaction.
func (r record) kv(key []byte) store.KV {
	return store.KV{Key: string(key), Value: append([]byte{}, r.value...), Rev: r.rev, Created: r.created}
}

// sessionID is random and never 0. Its text is 16 hex digits.
type sessionID uint64

func (id sessionID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// parseSessionID gives 0, which no session has, for any other text.
func parseSessionID(text string) sessionID {
	n, err := strconv.ParseUint(text, 16, 64)
	if id := sessionID(n); err == nil && id.String() == text {
		return id
	}
	return 0
}

func (id sessionID) key() []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

func (id sessionID) boundKey(key string) []byte { return append(id.key(), key...) }

func readRev(tx *bolt.Tx) uint64 {
	b := tx.Bucket(bucketMeta).Get(keyRev)
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func writeRev(tx *bolt.Tx, rev uint64) error {
	return tx.Bucket(bucketMeta).Put(keyRev, binary.BigEndian.AppendUint64(nil, rev))
}

func readSessions(tx *bolt.Tx) (map[sessionID]time.Duration, error) {
	found := make(map[sessionID]time.Duration)
	err := tx.Bucket(bucketSessions).ForEach(func(k, v []byte) error {
		if len(k) != 8 || len(v) != 8 {
			return errRecord
		}
		found[sessionID(binary.BigEndian.Uint64(k))] = time.Duration(binary.BigEndian.Uint64(v))
		return nil
	})
	return found, err
}

func writeSession(tx *bolt.Tx, id sessionID, ttl time.Duration) error {
	return tx.Bucket(bucketSessions).Put(id.key(), binary.BigEndian.AppendUint64(nil, uint64(ttl)))
}
