package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The kinds of store.
const (
	kindLocal = "local"
	kindEtcd  = "etcd"
	kindNATS  = "nats"
)

const storeShapes = "write local:DIR, etcd://h1:2379,h2:2379 or nats://h:4222"

// ParseStoreURL reads local:DIR, etcd://h1:2379,h2:2379 or nats://h:4222;
// ports may be left out, a relative DIR is relative to the working directory.
// All else of the Store is as in Default. The error is *Error.
func ParseStoreURL(s string) (Store, error) {
	st := Default().Store
	bad := func(text, hint string) (Store, error) {
		return Store{}, &Error{Name: "store", Text: text, Hint: hint}
	}
	kind, rest, ok := strings.Cut(s, ":")
	if !ok || !oneOf(kind, kindLocal, kindEtcd, kindNATS) {
		return bad(fmt.Sprintf("%q is not a store", excerpt(withoutUser(s))), storeShapes)
	}
	st.Kind = kind
	if kind == kindLocal {
		rest = strings.TrimPrefix(rest, "//") // local:///var/lib/x is meant the same
		if rest == "" || strings.ContainsFunc(rest, isControl) {
			return bad(fmt.Sprintf("%q names no directory", s), "write local:DIR")
		}
		dir, err := filepath.Abs(rest)
		if err != nil {
			return bad("find the working directory: "+err.Error(), "write local: and an absolute path")
		}
		st.Path = dir
		return st, nil
	}
	rest, ok = strings.CutPrefix(rest, "//")
	rest = strings.TrimSuffix(rest, "/")
	if !ok || rest == "" {
		return bad(fmt.Sprintf("%q names no server", excerpt(withoutUser(s))), storeShapes)
	}
	list := strings.Split(rest, ",")
	for i := range list {
		e, p := parseEndpoint(strings.TrimSpace(list[i]), kind)
		if p != nil {
			return bad(p.text, p.hint)
		}
		list[i] = e.hostPort()
	}
	if kind == kindEtcd {
		st.Etcd.Endpoints = list
	} else {
		st.NATS.Servers = list
	}
	return st, nil
}

// String is the URL of the store, as ParseStoreURL reads it. Schemes of
// endpoints are not part of it.
func (s Store) String() string {
	if s.Kind == kindLocal {
		return s.Kind + ":" + s.Path
	}
	return s.Kind + "://" + strings.Join(s.addresses(), ",")
}

// addresses is host:port of each server of the store; none for a local one.
func (s Store) addresses() []string {
	var list, hosts []string
	switch s.Kind {
	case kindEtcd:
		list = s.Etcd.Endpoints
	case kindNATS:
		list = s.NATS.Servers
	}
	for _, text := range list {
		if e, p := parseEndpoint(text, s.Kind); p == nil {
			hosts = append(hosts, e.hostPort())
		}
	}
	return hosts
}

// endpoint is one server of a store.
type endpoint struct {
	scheme string // empty: not said
	host   string // without brackets
	port   string
}

func (e endpoint) hostPort() string { return net.JoinHostPort(e.host, e.port) }

// parseEndpoint reads [scheme://]host[:port] for etcd or nats.
func parseEndpoint(s, kind string) (endpoint, *problem) {
	schemes, port, sample := []string{"http", "https"}, "2379", "https://10.0.0.1:2379"
	if kind == kindNATS {
		schemes, port, sample = []string{"nats", "tls"}, "4222", "nats://10.0.0.1:4222"
	}
	hint := "write " + sample
	if withoutUser(s) != s {
		return endpoint{}, &problem{"a user name or password does not belong here", "write username and password_file, or creds_file, in the settings file"}
	}
	bad := &problem{fmt.Sprintf("%q is not the address of a server", excerpt(s)), hint}
	text, hasScheme := s, strings.Contains(s, "://")
	if !hasScheme {
		text = schemes[0] + "://" + s
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, bad
	}
	if strings.ContainsAny(u.Hostname(), " \t,") || strings.HasSuffix(u.Host, ":") {
		return endpoint{}, bad
	}
	if !oneOf(u.Scheme, schemes...) {
		return endpoint{}, &problem{fmt.Sprintf("%q has the scheme %s", excerpt(s), excerpt(u.Scheme)), hint}
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return endpoint{}, bad
		}
		port = p
	}
	e := endpoint{host: u.Hostname(), port: port}
	if hasScheme {
		e.scheme = u.Scheme
	}
	return e, nil
}

// withoutUser cuts what stands before an @, which can be a password.
func withoutUser(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// EndpointURLs is store.etcd.endpoints with schemes and ports filled in.
func (e Etcd) EndpointURLs() []string {
	scheme := "http"
	if e.CAFile != "" || e.CertFile != "" {
		scheme = "https"
	}
	return urls(e.Endpoints, kindEtcd, scheme)
}

// ServerURLs is store.nats.servers with schemes and ports filled in.
func (n NATS) ServerURLs() []string { return urls(n.Servers, kindNATS, "nats") }

func urls(list []string, kind, scheme string) []string {
	full := make([]string, 0, len(list))
	for _, text := range list {
		e, p := parseEndpoint(text, kind)
		if p != nil {
			continue // refused by Load
		}
		if e.scheme == "" {
			e.scheme = scheme
		}
		full = append(full, e.scheme+"://"+e.hostPort())
	}
	return full
}

func oneOf(s string, of ...string) bool { return slices.Contains(of, s) }
