package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/nats.go"
)

// request sends m and returns the answer.
func (l *link) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, done := l.expect(ctx, m.Subject)
	defer done()
	answer, err := l.nc.RequestMsgWithContext(ctx, m)
	return answer, because(ctx, err)
}

// absent is present for a bucket without a mark, where an answer that nothing
// is there has no revision: nothing was written before the second one.
func (l *link) absent(ctx context.Context, filters []string) ([]message, uint64, error) {
	info, err := l.info(ctx)
	if err != nil {
		return nil, 0, err
	}
	found, upTo, err := l.latest(ctx, filters)
	return found, max(upTo, info.State.LastSeq), err
}

// publish writes one message and returns its sequence; errRace when its guard
// did not hold.
func (l *link) publish(ctx context.Context, m *nats.Msg) (seq uint64, err error) {
	answer, err := l.request(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return 0, fmt.Errorf("the bucket %s is not there: %w", l.names.stream, err)
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return 0, &Error{
			Err:  fmt.Errorf("%w: %s: a message of %d bytes is too large for the server", store.ErrUnavailable, m.Subject, m.Size()),
			Hint: fmt.Sprintf("its max_payload is %d; the default, 1 MB, is enough for every value", l.nc.MaxPayload()),
		}
	}
	if err != nil && !known(err) {
		return 0, fmt.Errorf("%w: %w", errUnsure, err)
	}
	if err != nil {
		return 0, err
	}
	return written(answer.Data)
}

func written(data []byte) (seq uint64, err error) {
	var ack struct {
		Error *apiError `json:"error"`
		Seq   uint64    `json:"seq"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return 0, err
	}
	if ack.Error != nil {
		return 0, ack.Error.writeError()
	}
	return ack.Seq, nil
}

// publishAll writes all messages, which asBatch prepared, or none, and returns
// the sequence of the last one.
func (l *link) publishAll(ctx context.Context, all []*nats.Msg) (seq uint64, err error) {
	last := all[len(all)-1]
	for _, m := range all[:len(all)-1] {
		ctx, done := l.expect(ctx, m.Subject) // nobody answers, but the server may deny
		defer done()
		if err := l.nc.PublishMsg(m); err != nil {
			return 0, because(ctx, err)
		}
	}
	seq, err = l.publish(ctx, last)
	if errors.Is(err, errBusy) {
		// Also what a batch comes to of which one message was denied; the
		// server says so before it answers.
		for _, m := range all[:len(all)-1] {
			if denied := l.deniedLately(m.Subject); denied != nil {
				return 0, denied
			}
		}
	}
	return seq, err
}

// publishEach writes messages that do not depend on each other and returns the
// error of each.
func (l *link) publishEach(ctx context.Context, all []*nats.Msg) ([]error, error) {
	errs := make([]error, len(all))
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // of a closed connection
	for i, m := range all {
		m.Reply = fmt.Sprintf("%s.%d", inbox, i)
		if err := l.nc.PublishMsg(m); err != nil {
			return nil, err
		}
		errs[i] = context.DeadlineExceeded
	}
	for range all {
		answer, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return errs, err
		}
		var i int
		if _, err := fmt.Sscanf(answer.Subject[len(inbox):], ".%d", &i); err != nil || i < 0 || i >= len(all) {
			return errs, fmt.Errorf("an answer to %s, which was not asked", answer.Subject)
		}
		if answer.Header.Get(headerStatus) != "" {
			errs[i] = nats.ErrNoResponders
			continue
		}
		_, errs[i] = written(answer.Data)
	}
	return errs, nil
}

// errTooMany: more messages than one answer may have.
var errTooMany = errors.New("too many keys for one answer")

// latest returns the last message of each subject that a filter matches, all
// of them as they were at upTo: the server lets no commit come between.
// upTo can be 0 when there is nothing.
func (l *link) latest(ctx context.Context, filters []string) (found []message, upTo uint64, err error) {
	subject := "$JS.API.DIRECT.GET." + l.names.stream
	if len(filters) != 1 || filters[0] != l.names.all() {
		filters = append(filters[:len(filters):len(filters)], l.names.meta)
	}
	body, err := json.Marshal(map[string]any{"multi_last": filters})
	if err != nil {
		return nil, 0, err
	}
	ctx, done := l.expect(ctx, subject)
	defer done()
	inbox := l.nc.NewInbox()
	sub, err := l.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, 0, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // of a closed connection
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, 0, err
	}
	if err := l.nc.PublishRequest(subject, inbox, body); err != nil {
		return nil, 0, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, because(ctx, err)
		}
		switch status := m.Header.Get(headerStatus); status {
		case "":
			found = append(found, message{
				subject: m.Header.Get(headerSubject), seq: number(m.Header.Get(headerSequence)), header: m.Header, data: m.Data,
			})
		case "204":
			if number(m.Header.Get(headerNumPending)) > 0 {
				return nil, 0, errTooMany // in bytes
			}
			return found, number(m.Header.Get(headerUpTo)), nil
		case "404":
			return nil, 0, nil
		case "413":
			return nil, 0, errTooMany
		case "503":
			return nil, 0, nats.ErrNoResponders
		default:
			return nil, 0, fmt.Errorf("reading: %s %s", status, m.Header.Get("Description"))
		}
	}
}

// present is latest, at least at the sequence that the bucket had when it was
// called: a replica that is behind is asked again.
func (l *link) present(ctx context.Context, filters []string) (found []message, upTo uint64, err error) {
	var least uint64
	if l.known().replicas > 1 {
		info, err := l.info(ctx)
		if err != nil {
			return nil, 0, err
		}
		least = l.setBucket(info).last
	}
	for {
		found, upTo, err = l.latest(ctx, filters)
		if errors.Is(err, errTooMany) {
			return l.scan(ctx, filters)
		}
		if err != nil {
			return nil, 0, err
		}
		if upTo == 0 { // nothing, not even the mark
			return l.absent(ctx, filters)
		}
		if upTo >= least {
			return found, upTo, nil
		}
		sleep(ctx, 5*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return nil, 0, because(ctx, err)
		}
	}
}
