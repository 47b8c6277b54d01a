package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// maxName bounds names that become parts of keys.
const maxName = 253

// maxSocket is what fits into sun_path of unix(7) with its final NUL.
const maxSocket = 107

// finish fills in what depends on other settings and checks everything.
func (l *loader) finish() (*Config, error) {
	v := validator{loader: l, failed: map[string]bool{}}
	for _, e := range l.errs {
		v.failed[e.Name] = true
	}
	v.all()
	if err := l.errs.err(); err != nil {
		return nil, err
	}
	if l.cfg.Host == "" && !l.skipHost {
		l.cfg.Host = DefaultHost(l.cfg.Store)
	}
	return l.cfg, nil
}

// validator checks values that have the right type. Settings that already
// failed hold their defaults and are left alone.
type validator struct {
	*loader
	failed map[string]bool
}

// bad reports a setting where it was set, one that a balancer leaves to its
// default at the balancer.
func (v *validator) bad(name, hint, format string, args ...any) {
	if v.failed[name] {
		return
	}
	v.failed[name] = true
	o := v.cfg.origins[name]
	if table, _ := splitName(name); o == (origin{}) {
		o = v.cfg.origins[table]
	}
	v.fail(o, name, &problem{fmt.Sprintf(format, args...), hint})
}

func (v *validator) all() {
	v.identity()
	v.store()
	v.provision()
	v.files()
	v.times()
	v.counts()
	v.balancers()
	v.api()
}

func (v *validator) identity() {
	c := v.cfg
	const nodeHint = "write a name that no other node has"
	switch {
	case c.Node == "":
		if c.origins["node"] == (origin{}) {
			v.bad("node", nodeHint, "this machine has neither a host name nor a machine id to make a name of")
		}
		v.bad("node", nodeHint, "the name of the node is empty")
	case isLocalhost(c.Node):
		v.bad("node", nodeHint, "%q is every machine's name for itself", c.Node)
	}
	v.name("node", c.Node)
	if c.Federation != "" {
		v.name("federation", c.Federation)
	}
	v.name("region", c.Region)
	for i, r := range c.RegionOrder {
		v.name("region_order", r)
		if slices.Contains(c.RegionOrder[:i], r) {
			v.bad("region_order", "write each region once", "%q stands there twice", r)
		}
	}
	v.host()
}

// name checks a name that becomes a part of keys.
func (v *validator) name(setting, s string) {
	switch {
	case s == "":
		v.bad(setting, `write a name, such as "default"`, "a name is empty")
	case len(s) > maxName:
		v.bad(setting, "write a shorter name", "a name of %d bytes is longer than %d", len(s), maxName)
	case strings.ContainsFunc(s, isControl):
		v.bad(setting, "write it without", "%q has a control character", s)
	}
}

func (v *validator) host() {
	h := v.cfg.Host
	if h == "" {
		return
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return
	}
	if p := hostProblem(h); p != "" {
		v.bad("host", `write an address or a name alone, such as "10.0.0.5" or "web1.example.com"`, "%q %s", h, p)
	}
}

func hostProblem(h string) string {
	switch {
	case strings.Contains(h, "/"):
		return "looks like a URL"
	case strings.HasPrefix(h, "["):
		return "has brackets, which are added where they are needed"
	case strings.Contains(h, ":"):
		return "has a port"
	case len(h) > maxName:
		return "is too long"
	}
	for _, c := range []byte(h) {
		if c != '.' && !nameByte(c) {
			return "is not a host name"
		}
	}
	return ""
}

// nameByte: A-Z a-z 0-9 _ -.
func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// choice checks one of a few words.
func (v *validator) choice(name, got string, of ...string) {
	if slices.Contains(of, got) {
		return
	}
	quoted := make([]string, len(of))
	for i, s := range of {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	last := len(quoted) - 1
	v.bad(name, "write "+strings.Join(quoted[:last], ", ")+" or "+quoted[last], "%q is not known here", excerpt(got))
}

func (v *validator) provision() {
	p := v.cfg.Provision
	v.argv("provision.command", p.Command)
	if len(p.SuccessExitCodes) == 0 {
		v.bad("provision.success_exit_codes", "write [0]", "no exit code would be success")
	}
	for _, code := range p.SuccessExitCodes {
		if code < 0 || code > 255 {
			v.bad("provision.success_exit_codes", "write numbers from 0 to 255", "%d is not an exit code", code)
		}
	}
	v.choice("provision.preset", p.Preset, "chef", "puppet", "")
	v.choice("provision.runner", p.Runner, "auto", "systemd", "direct")
	v.paths("provision.locks", p.Locks)
}

func (v *validator) argv(name string, argv []string) {
	if len(argv) > 0 && strings.TrimSpace(argv[0]) == "" {
		v.bad(name, `write the program first, such as ["/usr/bin/chef-solo", "-j", "{NODE_JSON}"]`, "the first word is empty")
	}
}

func (v *validator) paths(name string, paths []string) {
	for _, p := range paths {
		v.path(name, p)
	}
}

func (v *validator) path(name, p string) {
	if !filepath.IsAbs(p) {
		v.bad(name, `write a path, such as "/etc/listener"`, "%q is not a path", p)
	}
}

func (v *validator) files() {
	c := v.cfg
	v.paths("manifests", c.Manifests)
	v.paths("attributes", c.Attributes)
	v.path("state_dir", c.StateDir)
	v.path("run_dir", c.RunDir)
	v.path("env.dir", c.Env.Dir)
	for i, f := range c.Env.Formats {
		v.choice("env.formats", f, "shell", "systemd", "json")
		if slices.Contains(c.Env.Formats[:i], f) {
			v.bad("env.formats", "write each format once", "%q stands there twice", f)
		}
	}
	if c.Env.Mode&0o002 != 0 {
		v.bad("env.mode", `write "0640"`, "with %q anyone could write what services run with", formatMode(c.Env.Mode))
	}
}

func (v *validator) times() {
	c := v.cfg
	if c.Throttle.SettleMax < c.Throttle.Settle {
		v.pair("throttle.settle_max", c.Throttle.SettleMax, "throttle.settle", c.Throttle.Settle)
	}
	v.least("retry.base", c.Retry.Base, time.Millisecond)
	if c.Retry.Max < c.Retry.Base {
		v.pair("retry.max", c.Retry.Max, "retry.base", c.Retry.Base)
	}
	v.least("publish.ttl", c.Publish.TTL, time.Second)
	v.least("publish.anti_entropy", c.Publish.AntiEntropy, time.Second)
	v.choice("publish.withdraw_on_stop", c.Publish.WithdrawOnStop, "always", "never", "shutdown")
	v.least("check.interval", c.Check.Interval, time.Millisecond)
	v.least("check.timeout", c.Check.Timeout, time.Millisecond)
}

func (v *validator) least(name string, got, least time.Duration) {
	if got < least {
		v.bad(name, fmt.Sprintf("write %q or more", formatDuration(least)), "%q is too short", formatDuration(got))
	}
}

// pair reports two times that are the wrong way round, at the one that was set.
func (v *validator) pair(high string, max time.Duration, low string, min time.Duration) {
	at := high
	if v.cfg.origins[high] == (origin{}) {
		at = low
	}
	if v.failed[high] || v.failed[low] {
		return
	}
	v.bad(at, fmt.Sprintf("raise %s or lower %s", high, low), "%s (%q) is less than %s (%q)", high, formatDuration(max), low, formatDuration(min))
}

func (v *validator) counts() {
	c := v.cfg
	v.between("throttle.burst", c.Throttle.Burst, 0, 1e6)
	v.between("history.keep", c.History.Keep, 1, 1e6)
	v.between("check.rise", c.Check.Rise, 1, 1e6)
	v.between("check.fall", c.Check.Fall, 1, 1e6)
	v.between("protect.hold_percent", c.Protect.HoldPercent, 0, 100)
	v.between("protect.hold_min", c.Protect.HoldMin, 0, 1e6)
}

func (v *validator) between(name string, n, low, high int) {
	if n < low || n > high {
		v.bad(name, fmt.Sprintf("write a number from %d to %d", low, high), "%d is out of range", n)
	}
}

func (v *validator) balancers() {
	files, sockets := map[string]string{}, map[string]string{}
	for i, b := range v.cfg.Balancers {
		name := fmt.Sprintf("%s[%d]", balancerName, i)
		v.choice(name+".kind", b.Kind, "local", "internal", "public")
		v.choice(name+".keys", b.Keys, "needed", "all")
		if b.Engine == "" {
			v.bad(name+".engine", `write "haproxy" or the path of a template file`, "the engine is empty")
		}
		if _, err := netip.ParseAddr(b.Bind); err != nil && b.Bind != "*" {
			v.bad(name+".bind", `write an address, such as "127.0.0.1", or "*"`, "%q is not an address", excerpt(b.Bind))
		}
		if b.Port < 1 || b.Port > 65535 {
			v.bad(name+".port", "write a number from 1 to 65535", "%d is not a port", b.Port)
		}
		if b.Path == "" && v.cfg.origins[name+".path"] == (origin{}) {
			v.bad(name+".path", "write the file that the balancer reads", "with a template as engine it has no default")
			continue
		}
		v.path(name+".path", b.Path)
		if other, taken := files[b.Path]; taken {
			v.bad(name+".path", "give each balancer a file of its own", "%s writes %s too", other, b.Path)
		}
		files[b.Path] = name
		if other, taken := sockets[b.Socket]; taken && b.Socket != "" {
			v.bad(name+".socket", "give each HAProxy a socket of its own", "%s has %s too", other, b.Socket)
		}
		sockets[b.Socket] = name
		v.argv(name+".check", b.Check)
		v.argv(name+".reload", b.Reload)
	}
}

func (v *validator) api() {
	a := v.cfg.API
	v.path("api.socket", a.Socket)
	if len(a.Socket) > maxSocket {
		v.bad("api.socket", "write a shorter path", "a socket's path may have %d bytes, this one has %d", maxSocket, len(a.Socket))
	}
	if a.Mode&0o200 == 0 {
		v.bad("api.mode", `write "0660"`, "with %q the agent's own user could not use the socket", formatMode(a.Mode))
	}
	if strings.ContainsAny(a.Group, ":\n") || !utf8.ValidString(a.Group) {
		v.bad("api.group", "write the name or number of a group", "%q is not a group", excerpt(a.Group))
	}
}

func (v *validator) store() {
	s := v.cfg.Store
	v.choice("store.kind", s.Kind, kindLocal, kindEtcd, kindNATS)
	v.prefix(s.Prefix)
	v.choice("store.replica", s.Replica, "needed", "all")
	v.endpoints("store.etcd.endpoints", s.Etcd.Endpoints, kindEtcd)
	v.endpoints("store.nats.servers", s.NATS.Servers, kindNATS)
	v.together("store.etcd.cert_file", s.Etcd.CertFile, "store.etcd.key_file", s.Etcd.KeyFile)
	v.together("store.etcd.username", s.Etcd.Username, "store.etcd.password_file", s.Etcd.PasswordFile)
	v.together("store.nats.cert_file", s.NATS.CertFile, "store.nats.key_file", s.NATS.KeyFile)
	if s.NATS.CredsFile != "" && s.NATS.NkeyFile != "" {
		v.bad("store.nats.nkey_file", "drop one of them", "creds_file is set too")
	}
	if s.NATS.Bucket == "" || strings.ContainsFunc(s.NATS.Bucket, func(r rune) bool { return r > 0x7f || !nameByte(byte(r)) }) {
		v.bad("store.nats.bucket", "write letters, digits, _ and -", "%q is not the name of a bucket", excerpt(s.NATS.Bucket))
	}
	v.between("store.nats.replicas", s.NATS.Replicas, 1, 5)
}

func (v *validator) prefix(p string) {
	const name, hint = "store.prefix", `write it as in "/listener/v1"`
	switch {
	case !strings.HasPrefix(p, "/"):
		v.bad(name, hint, "%q does not begin with a slash", excerpt(p))
		return
	case strings.HasSuffix(p, "/"):
		v.bad(name, hint, "%q ends in a slash", excerpt(p))
		return
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		if part == "" {
			v.bad(name, hint, "%q has an empty part", excerpt(p))
		}
		for _, c := range []byte(part) {
			if c != '.' && !nameByte(c) {
				v.bad(name, hint, "%q has a part with other characters than A-Z a-z 0-9 _ . -", excerpt(p))
			}
		}
	}
}

func (v *validator) endpoints(name string, list []string, kind string) {
	if len(list) == 0 && v.cfg.Store.Kind == kind {
		v.bad(name, "write at least one", "there is no server to talk to")
	}
	for _, s := range list {
		if _, p := parseEndpoint(s, kind); p != nil {
			v.bad(name, p.hint, "%s", p.text)
		}
	}
}

// together reports the one of two settings that is missing.
func (v *validator) together(a, as, b, bs string) {
	if as == "" && bs != "" {
		v.bad(b, "set both or none", "%s is not set", a)
	}
	if bs == "" && as != "" {
		v.bad(a, "set both or none", "%s is not set", b)
	}
}
