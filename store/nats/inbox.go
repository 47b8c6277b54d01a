package nats

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// inbox receives the answers to requests that have more than one. One
// subscription serves all of them: making one takes the server longer than
// most answers.
type inbox struct {
	prefix string // of reply subjects, with the final dot
	gone   <-chan struct{}

	mu      sync.Mutex // guards following
	last    uint64
	waiting map[string]*answers
}

// openInbox begins to receive; it ends with the connection.
func (l *link) openInbox() error {
	b := &inbox{prefix: l.nc.NewInbox() + ".", gone: l.gone, waiting: make(map[string]*answers)}
	sub, err := l.nc.Subscribe(b.prefix+"*", b.received)
	if err != nil {
		return err
	}
	l.inbox = b
	return sub.SetPendingLimits(-1, -1)
}

// answers are those to one request.
type answers struct {
	inbox *inbox
	id    string
	wake  chan struct{} // capacity 1: there is something in queue

	queue []*nats.Msg // guarded by the inbox
}

// expect begins to wait for answers. The caller calls close.
func (b *inbox) expect() *answers {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	a := &answers{inbox: b, id: strconv.FormatUint(b.last, 36), wake: make(chan struct{}, 1)}
	b.waiting[a.id] = a
	return a
}

func (a *answers) close() {
	a.inbox.mu.Lock()
	defer a.inbox.mu.Unlock()
	delete(a.inbox.waiting, a.id)
}

// reply is where the answers to the n-th part of the request go.
func (a *answers) reply(n int) string { return a.inbox.prefix + a.id + "-" + strconv.Itoa(n) }

// split is the inverse of reply.
func (b *inbox) split(subject string) (id, n string) {
	id, n, _ = strings.Cut(strings.TrimPrefix(subject, b.prefix), "-")
	return id, n
}

func (b *inbox) received(m *nats.Msg) {
	id, _ := b.split(m.Subject)
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.waiting[id]; a != nil {
		a.queue = append(a.queue, m)
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// next waits for the next answer; n is the part that it is for.
func (a *answers) next(ctx context.Context) (m *nats.Msg, n int, err error) {
	for {
		if m := a.take(); m != nil {
			_, text := a.inbox.split(m.Subject)
			n, err := strconv.Atoi(text)
			return m, n, err
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-a.inbox.gone:
			return nil, 0, nats.ErrConnectionClosed
		}
	}
}

func (a *answers) take() *nats.Msg {
	a.inbox.mu.Lock()
	defer a.inbox.mu.Unlock()
	if len(a.queue) == 0 {
		return nil
	}
	m := a.queue[0]
	a.queue = a.queue[1:]
	return m
}
