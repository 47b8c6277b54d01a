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

// askAgain is how long an answer to a question is waited for before it is
// asked again: while servers elect a leader they drop requests silently.
const askAgain = time.Second

// asking repeats a question that changes nothing until there is an answer.
func asking[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for wait := askAgain; ; wait = min(2*wait, 2*askAgain) {
		limited, cancel := context.WithTimeout(ctx, wait)
		answer, err := ask(limited)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
}

// ask is request for a question that changes nothing.
func (l *link) ask(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	return asking(ctx, func(ctx context.Context) (*nats.Msg, error) { return l.request(ctx, m) })
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
	a := l.inbox.expect()
	defer a.close()
	for i, m := range all {
		var done func()
		ctx, done = l.expect(ctx, m.Subject)
		defer done()
		m.Reply = a.reply(i)
		if err := l.nc.PublishMsg(m); err != nil {
			return nil, err
		}
		errs[i] = errUnsure
	}
	for range all {
		answer, i, err := a.next(ctx)
		switch {
		case err != nil:
			return errs, because(ctx, err)
		case i < 0 || i >= len(all):
			return errs, fmt.Errorf("an answer to message %d of %d", i, len(all))
		case answer.Header.Get(headerStatus) != "":
			errs[i] = nats.ErrNoResponders
		default:
			_, errs[i] = written(answer.Data)
		}
	}
	return errs, nil
}
