package config

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestSourceAddress(t *testing.T) {
	for dst, want := range map[string]string{
		"127.0.0.1:2379": "127.0.0.1",
		"127.9.9.9:1":    "127.0.0.1",
	} {
		if got, ok := SourceAddress(dst); !ok || got != want {
			t.Errorf("%s: %q, %t, want %q", dst, got, ok, want)
		}
	}
	for _, dst := range []string{"", "127.0.0.1", "127.0.0.1:port", "[::ffff:1"} {
		if got, ok := SourceAddress(dst); ok {
			t.Errorf("%q: %q", dst, got)
		}
	}
}

// TestSourceAddressGivesUp: a look-up ends with its context.
func TestSourceAddressGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, ok := sourceAddress(ctx, "no-such-host.invalid:1"); ok {
		t.Errorf("got %q", got)
	}
}

// TestDefaultHostIsForOthers: a store on this machine does not make 127.0.0.1
// the address that other nodes are told.
func TestDefaultHostIsForOthers(t *testing.T) {
	host := DefaultHost(Store{Kind: kindEtcd, Etcd: Etcd{Endpoints: []string{"http://127.0.0.1:2379"}}})
	if host != DefaultHost(Store{Kind: kindLocal}) {
		t.Errorf("a store on loopback makes the host %q", host)
	}
	if host == "" {
		return // no network here: that is what it has to say
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsGlobalUnicast() {
		t.Errorf("host %q, %v", host, err)
	}
}

func TestHostThatIsSetStays(t *testing.T) {
	for _, host := range []string{"10.0.0.5", "fe80::1%eth0", "2001:db8::5", "web-1.example.com", "web_1"} {
		c := mustLoad(t, Options{Path: os.DevNull, Flags: map[string]string{"host": host}})
		if c.Host != host || c.Origin("host") != "flag --host" {
			t.Errorf("host %q from %s", c.Host, c.Origin("host"))
		}
	}
}

func TestDefaultNode(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	node := defaultNode()
	if !isLocalhost(name) && node != name {
		t.Errorf("node %q, host name %q", node, name)
	}
	if node != "" && isLocalhost(node) {
		t.Errorf("node %q", node)
	}
	for name, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost.localdomain": true, "": true, ".x": true, "localhost1": false, "web1.localhost": false,
	} {
		if isLocalhost(name) != want {
			t.Errorf("%q is localhost: want %t", name, want)
		}
	}
}

func TestNodeOfMachineID(t *testing.T) {
	a, b := nodeOf("0123456789abcdef0123456789abcdef\n"), nodeOf("1123456789abcdef0123456789abcdef")
	if !strings.HasPrefix(a, "node-") || len(a) != len("node-")+8 || a == b || strings.Contains(a, "0123456") {
		t.Errorf("%q, %q", a, b)
	}
	if got := nodeOf("uninitialized\n"); got != "" {
		t.Errorf("a machine id that is none makes %q", got)
	}
}
