package etcd_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a TCP link that can be cut, and that can swallow what it is given.
type proxy struct {
	listener net.Listener
	work     sync.WaitGroup
	bytes    atomic.Int64 // that were passed, both ways

	mu     sync.Mutex // guards following
	target string
	cut    bool
	gate   *gate // of new connections
	conns  map[net.Conn]struct{}
	black  []*gate     // of connections that stay so
	times  []time.Time // of connections that were made
}

// gate is what the bytes of connections go through; nil: it is open.
type gate struct{ closed chan struct{} }

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: ln, target: target, gate: new(gate), conns: make(map[net.Conn]struct{})}
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
		p.mu.Lock()
		p.times = append(p.times, time.Now())
		p.mu.Unlock()
		p.work.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(c net.Conn) {
	if !p.add(c) {
		return
	}
	defer p.remove(c)
	p.mu.Lock()
	g := p.gate
	p.mu.Unlock()
	p.wait(g) // in a hole nothing is connected
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
			p.copy(g, way[0], way[1])
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
}

func (p *proxy) copy(g *gate, to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.wait(g)
		p.bytes.Add(int64(n))
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
func (p *proxy) wait(g *gate) {
	p.mu.Lock()
	closed := g.closed
	p.mu.Unlock()
	if closed != nil {
		<-closed
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
func (p *proxy) Cut(testing.TB) {
	p.mu.Lock()
	p.cut = true
	p.mu.Unlock()
	p.close()
}

// Swallow makes the link a black hole: connections stay, nothing arrives.
func (p *proxy) Swallow(testing.TB) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate.closed == nil {
		p.gate.closed = make(chan struct{})
	}
}

func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range append(p.black, p.gate) {
		if g.closed != nil {
			close(g.closed)
		}
	}
	p.gate, p.black = new(gate), nil
}

// accepted returns when connections were made since it was called last.
func (p *proxy) accepted() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	times := p.times
	p.times = nil
	return times
}

// passNew mends a black hole for new connections only: the old ones stay open,
// and say nothing.
func (p *proxy) passNew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.black = append(p.black, p.gate)
	p.gate = new(gate)
}

// Heal mends what Cut and Swallow did. What was swallowed stays lost.
func (p *proxy) Heal(testing.TB) {
	p.mu.Lock()
	swallowed := p.gate.closed != nil
	p.cut = false
	p.mu.Unlock()
	if swallowed {
		p.close()
		p.pass()
	}
}
