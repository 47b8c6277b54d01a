package nats_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
)

// A state that takes the link some seconds arrives all the same: what it takes
// is not asked for again meanwhile.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	s := startServer(t, "")
	a := openStore(t, defaults(s.url()))
	value := make([]byte, 20<<10)
	const n = 400
	for i := 0; i < n; i += 40 {
		var ops []store.Op
		for k := range 40 {
			ops = append(ops, store.Put(fmt.Sprintf("/t/k%d", i+k), value))
		}
		commit(t, a, nil, ops...)
	}
	b := openStore(t, defaults("nats://"+slowly(t, s.addr(), 4<<20)))
	answers(t, b)
	began := time.Now()
	f := follow(t, b, "/t/")
	f.until("all of them", func() bool { return len(f.state) == n })
	within(t, "the first Reset", began, 20*time.Second)
}

// slowly returns the address of a link that brings so many bytes per second.
func slowly(t *testing.T, target string, rate int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	link := func(c net.Conn) {
		defer c.Close()
		up, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			_, _ = io.Copy(up, c)
			up.Close()
		}()
		for {
			n, err := io.CopyN(c, up, int64(rate/100))
			if err != nil {
				return
			}
			time.Sleep(time.Second * time.Duration(n) / time.Duration(rate))
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go link(c)
		}
	}()
	return l.Addr().String()
}
