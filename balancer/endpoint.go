package balancer

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Limits of what is taken over from a provider's value.
const (
	maxValue = 4096
	maxPath  = 512
	maxHost  = 253
)

// endpoint is what a value says of where its provider is.
type endpoint struct {
	scheme string // in lower case; "" of a bare host:port
	host   string // an address as netip writes it, or a name in lower case
	port   int
	path   string // escaped as in the value, without a slash at the end; "/"
}

// http reports whether a balancer may speak HTTP to it.
func (ep endpoint) http() bool { return ep.class() == "http" }

// class is what servers of one backend have to agree on.
func (ep endpoint) class() string {
	switch ep.scheme {
	case "ws":
		return "http"
	case "wss":
		return "https"
	}
	return ep.scheme
}

// parseValue reads a URL or host:port. port is that of a URL without one whose
// scheme has none either. why says what is wrong, without the value: that may
// hold a password.
func parseValue(value string, port int) (ep endpoint, why string) {
	if len(value) > maxValue {
		return ep, "its value has " + strconv.Itoa(len(value)) + " bytes, more than a URL or host:port"
	}
	if !strings.Contains(value, "://") {
		host, p, err := net.SplitHostPort(value)
		if err != nil {
			return ep, "its value is neither a URL nor host:port"
		}
		ep.path = "/"
		return ep, ep.at(host, p)
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return ep, "its value is not a URL that has a host"
	}
	ep.scheme = strings.ToLower(u.Scheme)
	ep.path = strings.TrimRight(u.EscapedPath(), "/")
	if ep.path == "" {
		ep.path = "/"
	}
	p := u.Port()
	if p == "" {
		p = defaultPort(ep.scheme, port)
	}
	return ep, ep.at(u.Hostname(), p)
}

func defaultPort(scheme string, port int) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return strconv.Itoa(port)
}

// at sets host and port; why says what is wrong with them.
func (ep *endpoint) at(host, port string) (why string) {
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return "its value has no port between 1 and 65535"
	}
	ep.port = n
	ep.host = canonicalHost(host)
	if ep.host == "" {
		return "its value has a host that is neither an address nor a name"
	}
	return ""
}

// canonicalHost is one spelling for each host: what netip writes, or a name in
// lower case. "" is none that can be connected to: an address for all, a zone, or
// a name of other characters than letters, digits, dots, _ and -.
func canonicalHost(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
			return ""
		}
		return addr.String()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !hostName(host) {
		return ""
	}
	return host
}

// hostName reports whether s, in lower case, is a host name that cannot be
// taken for an address: 127.1 and 0x7f are addresses to a resolver.
func hostName(s string) bool {
	if s == "" || len(s) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !letter(c) && !digit(c) && c != '_' && c != '-' {
				return false
			}
		}
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return !digit(last[0])
}

// goodPath reports whether a path prefix can stand in a configuration: no
// quotes, blanks, $, \, ( ) or braces, which no server needs in a prefix.
func goodPath(s string) bool {
	if len(s) > maxPath || s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !letter(c) && !digit(c) && (c < 'A' || c > 'Z') && !strings.ContainsRune("/-_.~%:@!+,=", rune(c)) {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// publicHost is one spelling of a host name to be served: *.domain, or ""
// for any. ok is false for anything else, an address included: those come without a
// name to choose by.
func publicHost(s string) (host string, ok bool) {
	s = strings.ToLower(s)
	if s == "*" {
		return "", true
	}
	name := strings.TrimPrefix(s, "*.")
	return s, hostName(name)
}
