package etcd_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is a TCP link that can be cut, and that can swallow what it is given.
type proxy struct {
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex // guards following
	target string
	cut    bool
	hole   chan struct{} // closed when the link passes bytes; nil: it does
	conns  map[net.Conn]struct{}
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: ln, target: target, conns: make(map[net.Conn]struct{})}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		ln.Close()
		p.pass()
		p.close()
		p.work.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	if !p.add(c) {
		return
	}
	defer p.remove(c)
	p.wait() // in a hole nothing is connected
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	if !p.add(up) {
		return
	}
	defer p.remove(up)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		both.Go(func() {
			p.copy(way[0], way[1])
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

func (p *proxy) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.wait()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) remove(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// wait blocks while the link is a black hole.
func (p *proxy) wait() {
	p.mu.Lock()
	hole := p.hole
	p.mu.Unlock()
	if hole != nil {
		<-hole
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Cut ends all connections and accepts no other.
func (p *proxy) Cut(*testing.T) {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.close()
}

// Swallow makes the link a black hole: connections stay, nothing arrives.
func (p *proxy) Swallow(*testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole == nil {
		p.hole = make(chan struct{})
	}
}

func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole != nil {
		close(p.hole)
		p.hole = nil
	}
}

// Heal mends what Cut and Swallow did. What was swallowed stays lost.
func (p *proxy) Heal(*testing.T) {
	p.mu.Lock()
	swallowed := p.hole != nil
	p.cut = false
	p.mu.Unlock()
	if swallowed {
		p.close()
		p.pass()
	}
}
