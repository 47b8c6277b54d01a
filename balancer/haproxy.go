package balancer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/listener-agent/listener/store"
)

// HAProxy renders plans as its configuration, version 2.6 or newer, and tells
// a running one what changed. The zero value is usable.
type HAProxy struct {
	// Socket is the path of the runtime socket. "": none, every change is a reload.
	Socket string
	// User and Group are whom it becomes after a start as root. "": nobody else.
	User, Group string
	// Check is how often it tries to connect to each server, beside what the
	// store says: a node that died is left alone before its entries expire. 0:
	// never. The least is 1ms.
	Check time.Duration
}

// maxRoundRobin is where HAProxy's roundrobin ends (4095 active servers); a
// larger backend takes the server with the fewest connections.
const maxRoundRobin = 4000

// defaults stand for all that is not said elsewhere. Timeouts are those of
// HTTP: TCP has its own, as a pooled connection to a database idles for hours.
const haproxyDefaults = `
defaults
    timeout connect 3s
    timeout check 2s
    timeout queue 30s
    timeout client 10m
    timeout server 10m
    timeout tunnel 24h
    timeout http-request 30s
    timeout http-keep-alive 75s
    retries 3
    option redispatch 1
    option allbackups
`

// Render is the whole configuration file. It is the same for equal plans.
func (h HAProxy) Render(p *Plan) []byte {
	shape := h.shape(p)
	size := 4096
	for i := range p.Backends {
		size += 160 * len(p.Backends[i].Servers)
	}
	b := make([]byte, 0, size)
	b = h.global(b, shape)
	b = append(b, haproxyDefaults...)
	for i := range p.Frontends {
		b = h.frontend(b, &p.Frontends[i])
	}
	if len(p.Frontends) == 0 && h.Socket == "" {
		// With nothing to listen on it would not start.
		b = append(b, "\nfrontend none\n    mode tcp\n    bind abns@listener-"+string(p.Kind)+"-none\n"...)
	}
	for i := range p.Backends {
		b = h.backend(b, &p.Backends[i])
		for j := range p.Backends[i].Servers {
			b = h.server(b, &p.Backends[i].Servers[j])
		}
	}
	return b
}

// shape is a digest of all of the file but the servers: what the runtime socket
// cannot change. It is in the file, so that a running HAProxy tells which one
// it has.
func (h HAProxy) shape(p *Plan) string {
	b := h.global(nil, "")
	b = append(b, haproxyDefaults...)
	for i := range p.Frontends {
		b = h.frontend(b, &p.Frontends[i])
	}
	for i := range p.Backends {
		b = h.backend(b, &p.Backends[i])
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// description is what a running HAProxy of ours says of itself.
func description(shape string) string { return "listener " + shape }

func (h HAProxy) global(b []byte, shape string) []byte {
	b = append(b, "# Written by listener from what is in its store: what is changed here is lost.\nglobal\n"...)
	b = append(b, "    description "+quote(description(shape))+"\n"...)
	if h.User != "" {
		b = append(b, "    user "+quote(h.User)+"\n"...)
	}
	if h.Group != "" {
		b = append(b, "    group "+quote(h.Group)+"\n"...)
	}
	if h.Socket != "" {
		b = append(b, "    stats socket "+quote(h.Socket)+" mode 600 level admin expose-fd listeners\n"...)
	}
	return b
}

func (h HAProxy) frontend(b []byte, f *Frontend) []byte {
	if len(f.Keys) > 0 {
		b = append(b, "\n# "+strings.Join(f.Keys, ", ")...)
	}
	b = append(b, "\nfrontend "+f.Name+"\n"...)
	b = append(b, "    bind "...)
	b = appendAddress(b, f.Bind, f.Port)
	if f.Bind == "::" {
		b = append(b, " v4v6"...)
	}
	b = append(b, '\n')
	if !f.HTTP {
		return append(b, "    mode tcp\n    option clitcpka\n    timeout client 24h\n    default_backend "+f.Backend+"\n"...)
	}
	b = append(b, "    mode http\n"...)
	if f.Backend != "" {
		return append(b, "    default_backend "+f.Backend+"\n"...)
	}
	b = append(b, "    option forwardfor\n"...)
	b = append(b, "    http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)\n"...)
	b = append(b, "    http-request set-var(txn.path) path,concat(/)\n"...)
	for i := range f.Routes {
		b = appendRoute(b, &f.Routes[i])
	}
	return b
}

// appendRoute writes a rule. The path that is compared has a slash at its end, so
// that /api is a prefix of /api and /api/x, and not of /apix.
func appendRoute(b []byte, r *Route) []byte {
	path := strings.TrimSuffix(r.Path, "/") + "/"
	if r.Host == "" && path == "/" {
		return append(b, "    default_backend "+r.Backend+"\n"...)
	}
	b = append(b, "    use_backend "+r.Backend+" if"...)
	switch {
	case strings.HasPrefix(r.Host, "*"):
		b = append(b, " { var(txn.host) -m end "+quote(r.Host[1:])+" }"...)
	case r.Host != "":
		b = append(b, " { var(txn.host) -m str "+quote(r.Host)+" }"...)
	}
	if path != "/" {
		b = append(b, " { var(txn.path) -m beg "+quote(path)+" }"...)
	}
	return append(b, '\n')
}

// backend writes one without its servers.
func (h HAProxy) backend(b []byte, k *Backend) []byte {
	b = append(b, "\n# "+k.Key+"\nbackend "+k.Name+"\n"...)
	balance := cmp.Or(k.Balance, store.RoundRobin)
	if balance == store.RoundRobin && len(k.Servers) > maxRoundRobin {
		balance = store.LeastConn
	}
	if k.HTTP {
		// A request that no server has answered is given to another one, if that
		// cannot do it twice.
		b = append(b, "    mode http\n    retry-on conn-failure empty-response\n"...)
		b = append(b, "    http-request disable-l7-retry unless METH_GET or { method HEAD OPTIONS }\n"...)
	} else {
		b = append(b, "    mode tcp\n    option srvtcpka\n    timeout server 24h\n"...)
	}
	if balance == store.Hash {
		b = append(b, "    balance uri\n    hash-type consistent\n"...)
	} else {
		b = append(b, "    balance "+balance+"\n"...)
	}
	if check := h.check(); check != "" {
		b = append(b, "    default-server"+check+"\n"...)
	}
	return b
}

// check is what makes it try a server; "" is nothing.
func (h HAProxy) check() string {
	if h.Check <= 0 {
		return ""
	}
	ms := max(1, h.Check.Milliseconds())
	return " check inter " + strconv.FormatInt(ms, 10) + "ms fall 3 rise 2"
}

func (h HAProxy) server(b []byte, s *Server) []byte {
	b = append(b, "    server "...)
	b = append(b, s.Name...)
	b = append(b, ' ')
	b = appendAddress(b, s.Host, s.Port)
	b = appendServerOptions(b, s)
	if _, err := netip.ParseAddr(s.Host); err != nil {
		// A name that does not resolve must not keep the others from being served.
		b = append(b, " init-addr libc,none"...)
	}
	return append(b, '\n')
}

// appendServerOptions writes what a server has in the file and at run time.
func appendServerOptions(b []byte, s *Server) []byte {
	b = append(b, " weight "...)
	b = strconv.AppendInt(b, int64(s.Weight), 10)
	if s.Backup {
		b = append(b, " backup"...)
	}
	if s.ID != 0 {
		b = append(b, " id "...)
		b = strconv.AppendInt(b, int64(s.ID), 10)
	}
	return b
}

// appendAddress writes host:port; an IPv6 address in brackets, which HAProxy
// takes, too.
func appendAddress(b []byte, host string, port int) []byte {
	if strings.Contains(host, ":") {
		b = append(b, '[')
		b = append(b, host...)
		b = append(b, ']')
	} else {
		b = append(b, host...)
	}
	b = append(b, ':')
	return strconv.AppendInt(b, int64(port), 10)
}

// quote makes one word of s for HAProxy: nothing has a meaning between single
// quotes but a single quote.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
