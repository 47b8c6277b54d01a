package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (kv store.KV, err error) {
	if err := store.CheckKey(key); err != nil {
		return kv, err
	}
	err = s.do(ctx, func(ctx context.Context, l *link) error {
		m, ok, err := l.one(ctx, s.names.subject(key))
		if err != nil {
			return err
		}
		e := entry{key: key, gone: true}
		if ok {
			e.read(m)
		}
		if e.gone {
			return fmt.Errorf("%w: %s", store.ErrNotFound, key)
		}
		kv = e.kv()
		return nil
	})
	return kv, err
}

// one returns the last message of a subject. Where others than the leader
// could answer, the leader is asked.
func (l *link) one(ctx context.Context, subject string) (m message, ok bool, err error) {
	if l.known().replicas > 1 {
		return l.oneOfLeader(ctx, subject)
	}
	answer, err := l.ask(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + l.names.stream + "." + subject})
	if err != nil {
		return m, false, err
	}
	switch status := answer.Header.Get(headerStatus); status {
	case "":
		return message{subject: subject, seq: number(answer.Header.Get(headerSequence)), header: answer.Header, data: answer.Data}, true, nil
	case "404":
		return m, false, nil
	default:
		return m, false, fmt.Errorf("reading %s: %s %s", subject, status, answer.Header.Get("Description"))
	}
}

func (l *link) oneOfLeader(ctx context.Context, subject string) (m message, ok bool, err error) {
	body, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return m, false, err
	}
	answer, err := l.ask(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + l.names.stream, Data: body})
	if err != nil {
		return m, false, err
	}
	var found struct {
		Error   *apiError `json:"error"`
		Message struct {
			Seq    uint64 `json:"seq"`
			Header []byte `json:"hdrs"`
			Data   []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &found); err != nil {
		return m, false, err
	}
	if e := found.Error; e != nil {
		if e.Code == 404 && e.ErrCode != codeStreamNotFound {
			return m, false, nil
		}
		return m, false, e
	}
	m = message{subject: subject, seq: found.Message.Seq, data: found.Message.Data}
	if len(found.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(found.Message.Header); err != nil {
			return m, false, err
		}
	}
	return m, true, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix string) (kvs []store.KV, rev uint64, err error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, err
	}
	err = s.do(ctx, func(ctx context.Context, l *link) error {
		filters := []string{s.names.filter(prefix)}
		now, err := l.present(ctx, filters, 0)
		if errors.Is(err, errTooMany) {
			now, err = l.scan(ctx, filters, 0)
		}
		if err != nil {
			return err
		}
		kvs, rev = nil, now.upTo
		for _, m := range now.found {
			if e, ok := s.names.decode(m); ok && !e.gone {
				kvs = append(kvs, e.kv())
			}
		}
		sortKVs(kvs)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return kvs, rev, nil
}
