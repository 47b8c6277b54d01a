package etcd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	// patience is how long a watch may wait for a state before it is told so.
	patience = 1500 * time.Millisecond
	// lasting is the age of a stream whose end begins a new series of attempts.
	lasting = 5 * time.Second
	// maxRefused is the longest pause after a refusal, which only an operator
	// can end. To check a password is much work for a member.
	maxRefused = 5 * time.Second
)

var (
	errSilent   = fmt.Errorf("%w: the watch stream is silent", store.ErrUnavailable)
	errSlow     = fmt.Errorf("%w: no answer yet", store.ErrUnavailable)
	errWentBack = fmt.Errorf("%w: the store was wiped or set back", store.ErrUnavailable)
	errOther    = fmt.Errorf("%w: another cluster answers", store.ErrUnavailable)
)

// link keeps all watches of a Store on one stream. Its goroutine runs from
// the first Watch to Close, and owns all that is here but the channels.
type link struct {
	store   *Store
	once    sync.Once // starts run
	joins   chan *watch
	leaves  chan *watch
	opened  chan opened
	read    chan readResult
	checked chan checkResult
	proven  chan proof

	watches map[*watch]struct{}
	cur     *stream // nil: there is none
	opening bool
	failed  int       // attempts since a stream that lasted
	retry   time.Time // when to try next
	err     error     // why there is no state; nil: there was one since
	same    int       // how many reasons of its kind there were in a row
	unready bool      // the connection was not there at the last attempt
	// mark is of the history that was seen, nextMark a newer one (or none)
	// that takes its place when mark was found in the store again.
	mark, nextMark mark
	era            int // how often there was another history

	timer *time.Timer
	due   time.Time // when timer fires
}

type opened struct {
	stream *stream
	err    error
}

type readResult struct {
	stream *stream
	watch  *watch
	state  *state
	floor  int64   // the stream's newest revision when it was asked for
	marks  [2]mark // that were looked for; one is missing if other
	era    int     // when it was asked for
	other  bool
	err    error
}

type checkResult struct {
	stream *stream
	state  *state
	floor  int64
	mark   mark
	at     int64 // the newest revision of the mark
	next   mark  // known before mark was looked for
	era    int   // as in readResult
	other  bool
	err    error
}

func newLink(s *Store) *link {
	l := &link{
		store: s, joins: make(chan *watch), leaves: make(chan *watch),
		opened: make(chan opened), read: make(chan readResult), checked: make(chan checkResult), proven: make(chan proof),
		watches: make(map[*watch]struct{}),
	}
	return l
}

// run is the link's goroutine.
func (l *link) run() {
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	defer l.drop()
	for {
		var in <-chan received
		var out chan<- *request
		var next *request
		if l.cur != nil {
			in = l.cur.in
			if len(l.cur.toSend) > 0 {
				out, next = l.cur.out, l.cur.toSend[0]
			}
		}
		select {
		case <-l.store.ctx.Done():
			return
		case w := <-l.joins:
			l.join(w)
		case w := <-l.leaves:
			l.leave(w)
		case o := <-l.opened:
			l.onOpened(o)
		case r := <-l.read:
			l.onRead(r)
		case c := <-l.checked:
			l.onChecked(c)
		case p := <-l.proven:
			l.onProven(p)
		case r := <-in:
			l.receive(r)
		case out <- next:
			l.cur.toSend = l.cur.toSend[1:]
		case <-l.timer.C:
			l.due = time.Time{}
		}
		l.tick(time.Now())
	}
}

// spawn does in a goroutine what takes time; it sends the result to the link.
func (l *link) spawn(fn func()) { l.store.work.Go(fn) }

// deliver hands a result to the link's goroutine.
func deliver[T any](l *link, to chan<- T, result T) bool {
	select {
	case to <- result:
		return true
	case <-l.store.ctx.Done():
		return false
	}
}

func (l *link) join(w *watch) {
	l.watches[w] = struct{}{}
	if l.err != nil {
		w.told = true
		w.feed.Lost(l.err)
	}
}

func (l *link) leave(w *watch) {
	delete(l.watches, w)
	w.gone = true
	if l.cur != nil {
		l.cur.forget(w)
	}
	if len(l.watches) == 0 {
		l.drop()
		l.err = nil // nobody sees it end
	}
}

// tick does what is due, and sets the timer for what will be.
func (l *link) tick(now time.Time) {
	if len(l.watches) == 0 {
		return
	}
	if l.cur != nil {
		l.cur.createNext()
		l.askForLife(now)
	}
	if l.cur != nil {
		l.check(now)
	} else {
		l.open(now)
	}
	for w := range l.watches {
		l.attend(w, now)
	}
}

// at makes sure that tick runs then.
func (l *link) at(t time.Time) {
	if l.due.IsZero() || t.Before(l.due) {
		l.due = t
		l.timer.Reset(time.Until(t))
	}
}

// attend reads the state for a watch that waits for it, and tells it when
// that takes long.
func (l *link) attend(w *watch, now time.Time) {
	if w.phase == live || w.phase == creating {
		return
	}
	if w.phase == waiting && l.cur != nil {
		if now.Before(w.again) {
			l.at(w.again)
		} else {
			l.startRead(w)
		}
	}
	if w.told {
		return
	}
	if slow := w.since.Add(patience); now.Before(slow) {
		l.at(slow)
		return
	}
	w.told = true
	w.feed.Lost(l.store.explain(doing{verb: "watch"}, errSlow))
}

func (l *link) startRead(w *watch) {
	w.phase = reading
	s := l.cur
	r := readResult{stream: s, watch: w, floor: s.newest, marks: [2]mark{l.mark, l.nextMark}, era: l.era}
	l.spawn(func() {
		r.state, r.err = l.store.read(s.ctx, w.prefixes)
		for _, m := range r.marks {
			if r.err == nil && !r.other && m.key != "" {
				_, _, r.other, r.err = l.store.compare(s.ctx, m)
			}
		}
		deliver(l, l.read, r)
	})
}

func (l *link) onRead(r readResult) {
	w := r.watch
	if r.stream != l.cur || w.gone {
		return
	}
	switch {
	case errors.Is(r.err, store.ErrPermission):
		w.phase, w.told = waiting, true
		w.again = time.Now().Add(pauseAfter(w.tries, maxRefused))
		w.tries++
		w.feed.Lost(r.err)
		return
	case r.err != nil:
		l.fail(r.err)
		return
	}
	if err := l.cur.plausible(r.state, r.floor); err != nil {
		l.fail(err)
		return
	}
	if r.other && l.otherHistory(r.era) {
		l.fail(errWentBack)
		return
	}
	l.err = nil
	l.mark.reset(r.state)
	l.nextMark = mark{}
	w.reset(r.state)
	w.phase = creating
	l.cur.queue = append(l.cur.queue, w)
}

// fail ends the stream: no watch can prove any more that it is current.
func (l *link) fail(err error) {
	if errors.Is(err, store.ErrClosed) {
		return
	}
	if l.cur != nil {
		if l.cur.movable(err) {
			l.drop() // tick opens another one
			return
		}
		if errors.Is(err, errSilent) || errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
			l.store.retire(l.cur.conn)
		}
		if time.Since(l.cur.opened) >= lasting {
			l.failed = 0
		}
	}
	l.drop()
	longest := maxBackoff
	err = l.store.explain(doing{verb: "watch"}, err)
	if l.same++; l.err == nil || !feed.SameKind(err, l.err) {
		l.same = 1
	}
	l.err = err
	if errors.Is(l.err, store.ErrPermission) {
		longest = maxRefused
	}
	l.retry = time.Now().Add(pauseAfter(l.failed, longest))
	l.failed++
	for w := range l.watches {
		// Of two members one may refuse and the other be away.
		if !w.told || l.same > 1 {
			w.told = true
			w.feed.Lost(l.err)
		}
	}
}

// drop ends the stream and says nothing.
func (l *link) drop() {
	if l.cur != nil {
		l.cur.cancel()
		l.cur = nil
	}
	for w := range l.watches {
		w.wait()
	}
}

// pauseAfter is a random part of a pause that doubles with each attempt.
func pauseAfter(attempt int, longest time.Duration) time.Duration {
	return pause(min(longest, 50*time.Millisecond<<min(attempt, 10)))
}
