package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// lookupTime bounds the look-up of a store's host name: only the choice
// between two addresses of this machine depends on it.
const lookupTime = time.Second

// SourceAddress is the address from which this machine would talk to dst,
// "host:port"; false when there is no route or dst cannot be looked up within
// a second. No packet is sent to dst: a UDP socket is connected, which asks
// the kernel for the route.
func SourceAddress(dst string) (string, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	return sourceAddress(ctx, dst)
}

func sourceAddress(ctx context.Context, dst string) (string, bool) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", dst)
	if err != nil {
		return "", false
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	addr, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return "", false
	}
	return addr.Addr().Unmap().String(), true
}

// DefaultHost is the address for others: that of the route to the store, else
// that of the default route; empty when there is none (yet). Loopback and
// link-local addresses are no use to others and do not count. It may look up
// the store's name, and blocks for at most a second.
func DefaultHost(s Store) string {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	// No host has these (RFC 5737, RFC 3849): what routes them is the default route.
	for _, dst := range append(s.addresses(), "192.0.2.1:9", "[2001:db8::1]:9") {
		if text, ok := sourceAddress(ctx, dst); ok {
			if a, err := netip.ParseAddr(text); err == nil && a.IsGlobalUnicast() {
				return text
			}
		}
	}
	return ""
}

// defaultNode is the host name. Many machines are called localhost, so that
// is no name; the machine id then makes one, hashed because machine-id(5)
// asks not to show it. Empty when there is neither.
func defaultNode() string {
	name, err := os.Hostname()
	if err == nil && !isLocalhost(name) {
		return name
	}
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		id, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if node := nodeOf(string(id)); node != "" {
			return node
		}
	}
	return ""
}

// nodeOf makes a name of a machine id; empty when id is none.
func nodeOf(id string) string {
	id = strings.TrimSpace(id)
	if _, err := hex.DecodeString(id); err != nil || len(id) != 32 {
		return ""
	}
	sum := sha256.Sum256([]byte("listener node name " + id))
	return "node-" + hex.EncodeToString(sum[:4])
}

func isLocalhost(name string) bool {
	first, _, _ := strings.Cut(strings.ToLower(name), ".")
	return first == "" || first == "localhost"
}
