package main

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// gcPercent has an agent collect garbage when its heap has grown by half. The
// default, by all of it, buys speed that an agent which mostly waits does not
// need with memory that the services of its node do.
const gcPercent = 50

// trimAfter is how long after the last event memory goes back to the system:
// the command has started by then, the node's record is written, and a burst of
// runs is one trim.
const trimAfter = 4 * time.Second

// trimmer returns what a start or a run left behind. The runtime does that,
// too, but takes minutes when nothing is allocated.
type trimmer struct {
	mu    sync.Mutex // guards following
	timer *time.Timer
}

// thrifty makes the process frugal, unless GOGC says how it shall be.
func thrifty() *trimmer {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return &trimmer{}
}

// soon trims, unless it is called again before.
func (t *trimmer) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.timer = time.AfterFunc(trimAfter, debug.FreeOSMemory)
		return
	}
	t.timer.Reset(trimAfter)
}
