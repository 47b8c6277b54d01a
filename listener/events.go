package listener

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/listener-agent/listener/status"
)

// emit tells of one thing that an operator cares about: to the log, to
// OnEvent and to subscribers. attrs are pairs of name and text; a value of a
// key is never among them. It does not block.
func (a *Agent) emit(name, text string, attrs ...string) {
	level := slog.LevelInfo
	if name == "step failed" || name == "store lost" {
		level = slog.LevelWarn
	}
	a.emitAt(level, name, text, attrs...)
}

func (a *Agent) emitAt(level slog.Level, name, text string, attrs ...string) {
	ev := status.Event{At: time.Now(), Name: name, Text: text}
	args := make([]any, 0, len(attrs)+2)
	args = append(args, "event", name)
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] == "" {
			continue
		}
		if ev.Attr == nil {
			ev.Attr = map[string]string{}
		}
		ev.Attr[attrs[i]] = attrs[i+1]
		args = append(args, attrs[i], attrs[i+1])
	}
	a.log.Log(context.Background(), level, text, args...)
	if a.opt.OnEvent != nil {
		a.opt.OnEvent(ev)
	}
	a.events.send(ev)
}

// subscriberBuffer is how many events a slow subscriber may lag behind.
const subscriberBuffer = 256

// broadcast hands events to any number of subscribers.
type broadcast struct {
	mu   sync.Mutex // guards following
	subs map[chan status.Event]bool
}

func newBroadcast() *broadcast { return &broadcast{subs: map[chan status.Event]bool{}} }

func (b *broadcast) send(ev status.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		for {
			select {
			case ch <- ev:
			default:
				select {
				case <-ch: // the oldest goes
				default:
				}
				continue
			}
			break
		}
	}
}

// Subscribe sends events until ctx ends, then closes the channel. A slow
// receiver loses the oldest.
func (a *Agent) Subscribe(ctx context.Context) <-chan status.Event {
	ch := make(chan status.Event, subscriberBuffer)
	b := a.events
	b.mu.Lock()
	b.subs[ch] = true
	b.mu.Unlock()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, ch)
		close(ch)
	})
	return ch
}
