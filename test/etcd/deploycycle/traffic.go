package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is what clients do all the time.
type traffic struct {
	asked, failed atomic.Int64
	first         atomic.Pointer[error] // the first failure
	end           context.CancelFunc
	wg            sync.WaitGroup
}

func newTraffic(ctx context.Context, port string) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{end: cancel}
	for range 4 {
		t.wg.Go(func() {
			for ctx.Err() == nil {
				_, err := fetch(ctx, "http://127.0.0.1:"+port+"/", "www.example.com")
				if ctx.Err() != nil {
					return
				}
				t.asked.Add(1)
				if err != nil {
					t.failed.Add(1)
					t.first.CompareAndSwap(nil, &err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	return t
}

func (t *traffic) stop() {
	t.end()
	t.wg.Wait()
}

// answers waits until lb1 gives an answer.
func (w *world) answers(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := fetch(ctx, "http://127.0.0.1:"+w.port("public")+"/", "www.example.com")
		if got == want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for the answer %q: %w; the last was %q", want, errors.Join(ctx.Err(), err), got)
		}
	}
}
