package fleettest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Link is a network of its own between an agent and a server: two network
// namespaces, each with an end of a virtual cable, and a bridge at the server's
// end. While it is cut nothing arrives, and neither side is told so.
type Link struct {
	// Address is where the server is for the agent.
	Address string

	t           *testing.T
	near, far   string // the namespaces
	cable, port string // the ends: at the agent, and on the bridge
}

const (
	nearAddress, nearMAC = "10.231.0.1", "02:00:00:00:00:01"
	farAddress, farMAC   = "10.231.0.2", "02:00:00:00:00:02"
)

// NewLink makes one to a server that listens on the test's own loopback. It
// skips a test that may not make namespaces.
func NewLink(t *testing.T, server string) *Link {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skipf("a network of its own needs root and ip: %v", err)
	}
	name := filepath.Base(filepath.Dir(t.TempDir())) // no other test has it
	name = "listener-" + name[max(0, len(name)-10):]
	l := &Link{t: t, near: name + "-near", far: name + "-far", cable: "cable", port: "port"}
	for _, ns := range []string{l.near, l.far} {
		l.ip("netns", "add", ns)
		t.Cleanup(func() { l.ip("netns", "delete", ns) })
	}
	l.ip("-n", l.far, "link", "add", "bridge", "address", farMAC, "type", "bridge")
	l.ip("link", "add", l.cable, "netns", l.near, "address", nearMAC, "type", "veth", "peer", "name", l.port, "netns", l.far)
	l.Heal()
	for _, e := range []struct{ ns, dev, own, other, mac string }{
		{l.near, l.cable, nearAddress, farAddress, farMAC},
		{l.far, "bridge", farAddress, nearAddress, nearMAC},
	} {
		l.ip("-n", e.ns, "address", "add", e.own+"/24", "dev", e.dev)
		l.ip("-n", e.ns, "link", "set", e.dev, "up")
		// Or who asks for the other's address would learn that it is gone.
		l.ip("-n", e.ns, "neighbour", "replace", e.other, "lladdr", e.mac, "dev", e.dev, "nud", "permanent")
	}
	l.ip("-n", l.far, "link", "set", l.port, "up")
	l.forward(server)
	return l
}

func (l *Link) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Cut makes a black hole of the link.
func (l *Link) Cut() {
	l.t.Helper()
	l.ip("-n", l.far, "link", "set", l.port, "nomaster")
}

// Heal mends it.
func (l *Link) Heal() {
	l.t.Helper()
	l.ip("-n", l.far, "link", "set", l.port, "master", "bridge")
}

// Start starts a command at the agent's end.
func (l *Link) Start(c *exec.Cmd) (err error) {
	l.inside(l.near, func() { err = c.Start() })
	return err
}

// inside runs f with the network of a namespace.
func (l *Link) inside(ns string, f func()) {
	l.t.Helper()
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		l.t.Fatal(err)
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + ns)
	if err != nil {
		l.t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		l.t.Fatal(err)
	}
	f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(fmt.Sprint("no way back from a namespace: ", err)) // nothing else may run on this thread
	}
	runtime.UnlockOSThread()
}

// forward makes the server reachable at the far end.
func (l *Link) forward(server string) {
	l.t.Helper()
	var ln net.Listener
	var err error
	l.inside(l.far, func() { ln, err = net.Listen("tcp", farAddress+":0") })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ln.Close() })
	l.Address = ln.Addr().String()
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", server)
			if err != nil {
				in.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				to.Close()
				from.Close()
			}
			go pipe(out, in)
			go pipe(in, out)
		}
	}()
}
