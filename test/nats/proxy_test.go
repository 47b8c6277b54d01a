package nats_test

import (
	"net"
	"sync"
	"testing"
)

// proxy is a TCP link that can be cut or swallow everything.
type proxy struct {
	listener net.Listener
	target   string
	ended    sync.WaitGroup

	mu    sync.Mutex // guards following
	mode  mode
	pass  *sync.Cond
	conns map[net.Conn]struct{}
	done  bool
}

type mode int

const (
	open  mode = iota
	cut        // connections are closed, new ones too
	black      // nothing comes through, nothing is closed
)

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.pass = sync.NewCond(&p.mu)
	p.ended.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

// set changes what becomes of the link. What a black hole swallowed while it
// was one arrives afterwards, as TCP would have it.
func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	if m == cut {
		for c := range p.conns {
			c.Close()
		}
	}
	p.pass.Broadcast()
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.done = true
	for c := range p.conns {
		c.Close()
	}
	p.pass.Broadcast()
	p.mu.Unlock()
	p.ended.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.ended.Go(func() { p.link(c) })
	}
}

// keep says whether c may be used, and closes it with the others.
func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done || p.mode == cut {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) link(c net.Conn) {
	if !p.keep(c) {
		return
	}
	defer p.forget(c)
	if !p.passes() {
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(up) {
		return
	}
	defer p.forget(up)
	var both sync.WaitGroup
	both.Go(func() { p.copy(up, c) })
	both.Go(func() { p.copy(c, up) })
	both.Wait()
}

// passes blocks while the link is a black hole.
func (p *proxy) passes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mode == black && !p.done {
		p.pass.Wait()
	}
	return !p.done
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.passes() {
			return
		}
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
