package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
)

// Committed is the answer of a write.
type Committed struct {
	// Version is the new version of every key that was written.
	Version uint64 `json:"version"`
}

// values is made for each request: the federation can change by an accept.
func (s *Server) values() Values { return Values{Store: s.agent.Store(), Space: s.agent.Space()} }

// readValue answers the raw bytes. A key that the agent follows comes from
// its replica, also while the store is away: Age says how old that is.
func (s *Server) readValue(w http.ResponseWriter, r *http.Request) error {
	key, region := r.PathValue("key"), r.URL.Query().Get("region")
	if err := CheckKey(key); err != nil {
		return err
	}
	v, age, ok := s.fromReplica(r.Context(), region, key)
	if !ok {
		var err error
		if v, err = s.values().Value(r.Context(), region, key); err != nil {
			return err
		}
	}
	if v.Version == 0 {
		return notFound(region, key)
	}
	h := w.Header()
	h.Set("Age", strconv.FormatInt(int64(age/time.Second), 10))
	h.Set("ETag", etag(v.Version))
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(v.Value)))
	_, _ = w.Write([]byte(v.Value))
	return nil
}

// fromReplica is the agent's own picture of key, unless this server wrote a
// newer one. A Value with version 0 is a followed key that is not there.
func (s *Server) fromReplica(ctx context.Context, region, key string) (v Value, age time.Duration, ok bool) {
	kv, age, ok := s.agent.Replica(ctx, region, key)
	if !ok {
		return Value{}, 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.agent.Space().Value(region, key)
	if wrote, ours := s.wrote[full]; ours {
		if kv.Rev < wrote && age == 0 {
			return Value{}, 0, false
		}
		if kv.Rev >= wrote {
			delete(s.wrote, full)
		}
	}
	return valueOf(region, key, kv), age, true
}

// remember that the replica may lag behind this write.
func (s *Server) remember(ctx context.Context, region string, ops []ValueOp, rev uint64) {
	for _, op := range ops {
		if _, _, followed := s.agent.Replica(ctx, region, op.Key); !followed {
			continue
		}
		s.mu.Lock()
		s.wrote[s.agent.Space().Value(region, op.Key)] = rev
		s.mu.Unlock()
	}
}

func (s *Server) putValue(w http.ResponseWriter, r *http.Request) error {
	data, err := body(w, r)
	if err != nil {
		return err
	}
	op := ValueOp{Key: r.PathValue("key"), Base64: data}
	if op.Base64 == nil {
		op.Base64 = []byte{}
	}
	return s.writeOne(w, r, op)
}

func (s *Server) deleteValue(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("If-None-Match") != "" {
		return invalid("use If-Match", "If-None-Match says nothing about a delete")
	}
	key, region := r.PathValue("key"), r.URL.Query().Get("region")
	if _, err := s.values().Value(r.Context(), region, key); err != nil {
		return err // removing nothing is most likely a typing error
	}
	return s.writeOne(w, r, ValueOp{Key: key, Delete: true})
}

func (s *Server) writeOne(w http.ResponseWriter, r *http.Request, op ValueOp) error {
	region := r.URL.Query().Get("region")
	if err := s.condition(r, region, &op); err != nil {
		return err
	}
	return s.commit(w, r, region, []ValueOp{op})
}

// condition turns the conditional headers of RFC 9110 into one on the op.
func (s *Server) condition(r *http.Request, region string, op *ValueOp) error {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case match != "" && none != "":
		return invalid("", "give either If-Match or If-None-Match")
	case none == "*":
		op.Create = true
	case none != "":
		return invalid("If-None-Match: * writes only what is not there", "If-None-Match: %s is not understood", none)
	case match == "*":
		v, err := s.values().Value(r.Context(), region, op.Key)
		if errors.Is(err, store.ErrNotFound) {
			return &Error{Status: http.StatusPreconditionFailed, Code: "conflict", Text: op.Key + " is not there"}
		}
		op.Version = v.Version
		return err
	case match != "":
		version, err := strconv.ParseUint(strings.Trim(match, `"`), 10, 64)
		if err != nil || version == 0 {
			return invalid(`give one ETag, such as "42"`, "If-Match: %s is not understood", match)
		}
		op.Version = version
	}
	return nil
}

// commitRequest is the body of POST /v1/values.
type commitRequest struct {
	Region string    `json:"region,omitempty"`
	Ops    []ValueOp `json:"ops"`
}

func (s *Server) commitValues(w http.ResponseWriter, r *http.Request) error {
	var req commitRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	return s.commit(w, r, req.Region, req.Ops)
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request, region string, ops []ValueOp) error {
	rev, err := s.values().Commit(r.Context(), region, ops)
	if err != nil {
		return err
	}
	s.remember(r.Context(), region, ops, rev)
	if len(ops) == 1 && !ops[0].Delete {
		w.Header().Set("ETag", etag(rev))
	}
	return reply(w, http.StatusOK, Committed{Version: rev})
}

// listValues answers a list, or with ?watch=1 a stream of ValueUpdate.
func (s *Server) listValues(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	region, prefix := q.Get("region"), q.Get("prefix")
	watch, err := flag(r, "watch")
	if err != nil {
		return err
	}
	if watch {
		out := newStream(w)
		return out.end(s.values().Watch(r.Context(), region, prefix, func(u ValueUpdate) error {
			return out.send(u.Kind, u)
		}))
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	list, err := s.values().Values(ctx, region, prefix)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, list)
}

func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

func notFound(region, key string) *Error {
	text := key + ": not found"
	if region != "" {
		text = key + " of region " + region + ": not found"
	}
	return &Error{Status: http.StatusNotFound, Code: "not_found", Text: text}
}
