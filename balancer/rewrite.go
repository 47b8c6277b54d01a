package balancer

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/listener-agent/listener/store"
)

// Rewrite makes a provider's value lead to the local balancer, which listens on
// bind (as in Input): the host and port of a URL, or host:port, that are p's own
// become the balancer's address and p's local_port. All else of the value is
// kept byte for byte. Any other value is returned as it is, with false.
//
// It does not know whether there is a frontend: Plan.Serves does.
func Rewrite(value string, p store.Provider, bind string) (string, bool) {
	if p.LocalPort < 1 || p.LocalPort > 65535 || p.Host == "" || p.Port == 0 {
		return value, false
	}
	ep, why := parseValue(value, p.Port)
	if why != "" || !ep.own(&Entry{Provider: p}) {
		return value, false
	}
	start, end := authority(value)
	return value[:start] + net.JoinHostPort(reach(bind), strconv.Itoa(p.LocalPort)) + value[end:], true
}

// authority finds host and port in a value that parseValue took: after the user
// and password, before path, query and fragment.
func authority(value string) (start, end int) {
	i := strings.Index(value, "://")
	if i < 0 {
		return 0, len(value)
	}
	start, end = i+3, len(value)
	if n := strings.IndexAny(value[start:], "/?#"); n >= 0 {
		end = start + n
	}
	return start + strings.LastIndexByte(value[start:end], '@') + 1, end
}

// reach is the address by which this node gets to a frontend on bind.
func reach(bind string) string {
	addr, err := netip.ParseAddr(bind)
	switch {
	case err != nil || addr.IsUnspecified() && addr.Unmap().Is4():
		return "127.0.0.1"
	case addr.IsUnspecified():
		return "::1"
	}
	return addr.String()
}
