package listener

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/listener-agent/listener/internal/atomicfile"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
)

// digestVersion is of the newest way to compute a digest. An applied digest of
// an older version is compared the old way, so that an upgrade runs nothing;
// the next success records the new one.
const digestVersion = 1

// digester makes digests under a node-local key, so that state.json tells
// nothing about values to who cannot read that key.
type digester struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

func newDigester(key []byte) *digester { return &digester{mac: hmac.New(sha256.New, key)} }

// loadDigestKey reads the key from dir or makes a new one. fresh: digests made
// before cannot be compared. On error a usable key for this process is returned.
func loadDigestKey(dir string) (key []byte, fresh bool, err error) {
	path := filepath.Join(dir, "digest.key")
	key, err = os.ReadFile(path)
	if err == nil && len(key) == sha256.Size {
		return key, false, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err != nil:
		err = fmt.Errorf("read digest key: %w", err)
	default:
		err = fmt.Errorf("read digest key %s: it has %d bytes instead of %d; there is a new one", path, len(key), sha256.Size)
	}
	key = make([]byte, sha256.Size)
	rand.Read(key)
	return key, true, errors.Join(err, atomicfile.WriteSync(path, key, 0o600))
}

// inputs is what the digest of one service is made of, and what a record of
// its success keeps.
type inputs struct {
	Version int    `json:"v"`
	Digest  string `json:"digest"`
	// Vars and Keys hold a short digest per variable and per placeholder:
	// they name what changed, also after a restart; they decide nothing.
	Vars map[string]string `json:"vars,omitempty"`
	Keys map[string]string `json:"keys,omitempty"`
}

// service digests what a run would provision: the resolved variables, the run
// list and the service's own command. version is one that this build knows; any
// other gives "", which equals no recorded digest.
func (d *digester) service(m *manifest.Manifest, res resolve.Result, version int) string {
	if version != digestVersion {
		return ""
	}
	d.mac.Reset()
	d.list("vars", len(res.Vars))
	for _, v := range res.Vars {
		d.text(v.Name)
		d.text(v.Value)
	}
	d.list("run_list", len(m.RunList))
	for _, s := range m.RunList {
		d.text(s)
	}
	d.list("command", len(m.Command.Argv))
	for _, s := range m.Command.Argv {
		d.text(s)
	}
	return d.hex(sha256.Size)
}

// inputs is the digest with what is needed to name changes later.
func (d *digester) inputs(m *manifest.Manifest, res resolve.Result) inputs {
	in := inputs{
		Version: digestVersion,
		Digest:  d.service(m, res, digestVersion),
		Vars:    make(map[string]string, len(res.Vars)),
		Keys:    make(map[string]string, len(res.Uses)),
	}
	for _, v := range res.Vars {
		in.Vars[v.Name] = d.short(v.Value)
	}
	for _, u := range res.Uses {
		if u.Answer.Rank != resolve.None {
			in.Keys[u.ID] = d.short(u.Answer.Text)
		}
	}
	return in
}

// node digests what belongs to the node step beside its services' inputs.
func (d *digester) node(ids, command []string) string {
	d.mac.Reset()
	for _, l := range [...][]string{ids, command} {
		d.list("node", len(l))
		for _, s := range l {
			d.text(s)
		}
	}
	return d.hex(sha256.Size)
}

// list opens a list of n texts, text adds one: prefix-free, so that no two
// different inputs make the same bytes.
func (d *digester) list(name string, n int) {
	d.text(name)
	d.text(strconv.Itoa(n))
}

func (d *digester) text(s string) {
	var b [20]byte
	d.mac.Write(append(strconv.AppendInt(b[:0], int64(len(s)), 10), ':'))
	d.mac.Write([]byte(s))
}

func (d *digester) hex(n int) string {
	return hex.EncodeToString(d.mac.Sum(d.sum[:0])[:n])
}

// short is 8 bytes of digest over one value.
func (d *digester) short(s string) string {
	d.mac.Reset()
	d.mac.Write([]byte(s))
	return d.hex(8)
}

// equalInputs reports whether both say the same of every input.
func equalInputs(x, y inputs) bool {
	return x.Version == y.Version && x.Digest == y.Digest && maps.Equal(x.Vars, y.Vars) && maps.Equal(x.Keys, y.Keys)
}

// changed names the placeholders' keys that differ between two inputs, or,
// where only literals changed, nothing.
func changed(old, now inputs) []string {
	var keys []string
	for id, sum := range now.Keys {
		if old.Keys[id] != sum {
			keys = append(keys, keyOf(id))
		}
	}
	for id := range old.Keys {
		if _, ok := now.Keys[id]; !ok {
			keys = append(keys, keyOf(id))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// keyOf is the key in a resolve.PlaceholderID.
func keyOf(id string) string {
	start, end := 0, len(id)
	for i := range len(id) {
		if id[i] == '/' {
			start = i + 1
		}
		if id[i] == '[' {
			end = i
			break
		}
	}
	return id[start:end]
}
