package balancer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

// text is a plan in few words: "! " begins a problem.
func text(p *balancer.Plan) []string {
	var lines []string
	mode := func(http bool) string {
		if http {
			return "http"
		}
		return "tcp"
	}
	for _, f := range p.Frontends {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s: %s", f.Name, mode(f.HTTP), strings.Join(f.Keys, ","), f.Backend)))
		for _, r := range f.Routes {
			lines = append(lines, fmt.Sprintf("  %s %s: %s", r.Host, r.Path, r.Backend))
		}
	}
	for _, b := range p.Backends {
		lines = append(lines, fmt.Sprintf("%s %s %s %s", b.Name, b.Key, mode(b.HTTP), b.Balance))
		for _, s := range b.Servers {
			line := fmt.Sprintf("  %s %s %d", s.Name, join(s.Host, s.Port), s.Weight)
			if s.Backup {
				line += " backup"
			}
			if s.Draining {
				line += " draining"
			}
			lines = append(lines, line)
		}
	}
	for _, problem := range p.Problems {
		lines = append(lines, "! "+problem.Kind+": "+problem.String())
	}
	return lines
}

// backendOf are the lines of the servers of one key's plan, and its problems.
func backendOf(entries ...balancer.Entry) []string {
	lines := text(balancer.MakePlan(local(key("API_URL", entries...))))
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "local-") })
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		entries []balancer.Entry
		want    []string
	}{
		{"states", []balancer.Entry{
			up("a"), up("b", is(store.Down)), up("c", is(store.Draining)), up("d", is(store.Standby)), up("e", is(store.Left)), up("f", weight(0)),
		}, []string{"  us::a::api 10.0.0.1:8000 100", "  us::c::api 10.0.0.1:8000 0 draining", "  us::f::api 10.0.0.1:8000 0"}},
		{"own region, its first fallback, no others", []balancer.Entry{up("a"), up("b", in("eu")), up("c", in("ap")), up("d", in("mars"))}, []string{
			"  eu::b::api 10.0.0.1:8000 100 backup", "  us::a::api 10.0.0.1:8000 100",
		}},
		{"own region is away", []balancer.Entry{up("a", is(store.Left)), up("b", in("eu")), up("c", in("ap"))}, []string{
			"  ap::c::api 10.0.0.1:8000 100 backup", "  eu::b::api 10.0.0.1:8000 100",
		}},
		{"own region drains", []balancer.Entry{up("a", is(store.Draining)), up("b", in("eu")), up("c", in("ap"))}, []string{
			"  ap::c::api 10.0.0.1:8000 100 backup", "  eu::b::api 10.0.0.1:8000 100", "  us::a::api 10.0.0.1:8000 0 draining",
		}},
		{"own region is down, others are up", []balancer.Entry{up("a", is(store.Down)), up("b", in("eu"))}, []string{"  eu::b::api 10.0.0.1:8000 100"}},
		{"priority within a region", []balancer.Entry{up("a", priority(10)), up("b", priority(-1)), up("c", priority(10)), up("d", in("eu"), priority(-5))}, []string{
			"  us::a::api 10.0.0.1:8000 100 backup", "  us::b::api 10.0.0.1:8000 100", "  us::c::api 10.0.0.1:8000 100 backup",
		}},
		{"all down", []balancer.Entry{up("a", is(store.Down)), up("b", is(store.Down), priority(1)), up("c", is(store.Draining)), up("d", is(store.Standby))}, []string{
			"  us::a::api 10.0.0.1:8000 100", "  us::b::api 10.0.0.1:8000 100 backup", "  us::c::api 10.0.0.1:8000 0 draining",
			"! all down: API_URL: no provider is up; those that are down are used, as the alternative is none",
		}},
		{"all drain", []balancer.Entry{up("a", is(store.Draining)), up("b", is(store.Draining), in("eu"))}, []string{
			"  eu::b::api 10.0.0.1:8000 0 draining", "  us::a::api 10.0.0.1:8000 0 draining",
		}},
		{"all left", []balancer.Entry{up("a", is(store.Left))}, nil},
		{"another scheme", []balancer.Entry{up("a"), up("b", at("https://", "10.0.0.1", 8000)), up("c", at("ws://", "10.0.0.1", 8000))}, []string{
			"  us::a::api 10.0.0.1:8000 100", "  us::c::api 10.0.0.1:8000 100",
			"! mixed: API_URL of us/b/api: its value has another scheme than those of most providers; it is left out",
		}},
		{"addresses", []balancer.Entry{
			up("a", at("http://", "fd00::1", 1)), up("b", at("http://", "::ffff:10.0.0.9", 65535)), up("c", at("http://", "Web_1.Example.COM.", 80)),
		}, []string{"  us::a::api [fd00::1]:1 100", "  us::b::api 10.0.0.9:65535 100", "  us::c::api web_1.example.com:80 100"}},
		{"names", []balancer.Entry{up("web1.example.com"), up("a:b c\n"), up("é")}, []string{
			"  us::a:3Ab:20c:0A::api 10.0.0.1:8000 100", "  us::web1.example.com::api 10.0.0.1:8000 100", "  us:::C3:A9::api 10.0.0.1:8000 100",
		}},
		{"twice", []balancer.Entry{up("a"), up("a", weight(7))}, []string{
			"  us::a::api 10.0.0.1:8000 100", "! bad entry: API_URL of us/a/api: it is given twice, only one of them counts",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, backendOf(tc.entries...), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestHostileEntries(t *testing.T) {
	t.Parallel()
	const (
		noURL  = "its value is neither a URL nor host:port"
		noHost = "its value is not a URL that has a host"
		noPort = "its value has no port between 1 and 65535"
		badHst = "its value has a host that is neither an address nor a name"
	)
	for _, tc := range []struct {
		name   string
		change func(*balancer.Entry)
		want   string
	}{
		{"word", value("password"), noURL},
		{"empty", value(""), noURL},
		{"no host", value("http:///x"), noHost},
		{"port 0", value("http://10.0.0.1:0"), noPort},
		{"port 65536", value("10.0.0.1:65536"), noPort},
		{"huge port", value("http://10.0.0.1:99999999999999999999"), noPort},
		{"negative port", value("http://10.0.0.1:-1"), noHost},
		{"no port of an unknown scheme", func(e *balancer.Entry) { e.Value, e.Port = "amqp://10.0.0.1", 0 }, noPort},
		{"newline", value("http://10.0.0.1:8000\n    bind :1"), noHost},
		{"newline in host:port", value("10.0.0.1\nserver x 1:8000"), badHst},
		{"quotes", value(`"10.0.0.1":8000`), badHst},
		{"command", value("$(reboot):8000"), badHst},
		{"command in a URL", value("http://$(reboot):8000"), badHst},
		{"unix socket", value("unix@x:8000"), badHst},
		{"every address", value("http://0.0.0.0:8000"), badHst},
		{"every IPv6 address", value("[::]:8000"), badHst},
		{"zone", value("http://[fe80::1%25eth0]:8000"), badHst},
		{"short address", value("127.1:8000"), badHst},
		{"number", value("2130706433:8000"), badHst},
		{"option", value("-x:8000"), badHst},
		{"long", value("http://10.0.0.1:8000/" + strings.Repeat("x", 1<<20)), "its value has 1048597 bytes, more than a URL or host:port"},
		{"weight", weight(257), "its weight is not between 0 and 256"},
		{"local_port", localPort(70000), "its local_port is not between 1 and 65535"},
		{"itself", at("http://", "127.0.0.1", 8080), "it is the balancer itself"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := backendOf(up("good"), up("bad", tc.change))
			want := []string{"  us::good::api 10.0.0.1:8000 100", "! bad entry: API_URL of us/bad/api: " + tc.want + "; it is left out"}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	taken := local(key("API_URL", up("a")), key("DB_URL", up("a", of("db"), localPort(5432))))
	taken.Taken = map[string]int{"www": 8080, "other": 1}
	for _, tc := range []struct {
		name string
		in   balancer.Input
		want []string
	}{
		{"nothing", local(), nil},
		{"no local_port", local(key("API_URL", up("a", localPort(0)))), nil},
		{"two ports of one key", local(key("API_URL", up("a"), up("b", localPort(8081)))), []string{
			"local-8080 http API_URL: local-8080", "local-8081 http API_URL: local-8081",
			"local-8080 API_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"local-8081 API_URL http roundrobin", "  us::b::api 10.0.0.1:8000 100",
		}},
		{"two keys of one service", local(key("ADMIN_URL", up("a")), key("API_URL", up("a"), up("b"))), []string{
			"local-8080 http ADMIN_URL,API_URL: local-8080",
			"local-8080 API_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100", "  us::b::api 10.0.0.1:8000 100",
		}},
		{"http and tcp of one service", local(key("ADDR", up("a", at("", "10.0.0.1", 8000))), key("API_URL", up("a"))), []string{
			"local-8080 tcp ADDR,API_URL: local-8080", "local-8080 ADDR tcp roundrobin", "  us::a::api 10.0.0.1:8000 100",
		}},
		{"a second service offers one of two keys", local(key("ADMIN_URL", up("a")), key("API_URL", up("a"), up("b", of("canary")))), []string{
			"local-8080 http ADMIN_URL,API_URL: local-8080", "local-8080 ADMIN_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
		}},
		{"two services", local(key("API_URL", up("a")), key("WWW_URL", up("a", of("www")))), []string{
			"! collision: API_URL: local_port 8080 of api is that of WWW_URL of www too: no frontend, the keys resolve directly",
			"! collision: WWW_URL: local_port 8080 of www is that of API_URL of api too: no frontend, the keys resolve directly",
		}},
		{"taken on this node", taken, []string{
			"local-5432 http DB_URL: local-5432", "local-5432 DB_URL http roundrobin", "  us::a::db 10.0.0.1:8000 100",
			"! collision: API_URL: local_port 8080 of api is taken on this node by www: no frontend, the key resolves directly",
		}},
		{"elsewhere", local(key("API_URL", up("a", value("http://db.example.com:8000")))), []string{
			"! elsewhere: API_URL of us/a/api: its value is not its own host and port, so local_port does not apply to it",
		}},
		{"not a key", local(key("API URL\n", up("a")), key("", up("b"))), []string{
			"! bad entry: \"\": it is not a key, so its providers are left out",
			"! bad entry: \"API URL\\n\": it is not a key, so its providers are left out",
		}},
		{"hash over tcp", local(key("DB", up("a", at("", "10.0.0.1", 8000), balance(store.Hash)))), []string{
			"local-8080 tcp DB: local-8080", "local-8080 DB tcp roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"! mixed: DB: balance hash is by the URI, which only http has; it is roundrobin",
		}},
		{"most say how", local(key("API_URL", up("a", balance(store.LeastConn)), up("b", balance(store.LeastConn)), up("c"))), []string{
			"local-8080 http API_URL: local-8080", "local-8080 API_URL http leastconn",
			"  us::a::api 10.0.0.1:8000 100", "  us::b::api 10.0.0.1:8000 100", "  us::c::api 10.0.0.1:8000 100",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, text(balancer.MakePlan(tc.in))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	p := balancer.MakePlan(taken)
	if p.Serves("API_URL", 8080) || !p.Serves("DB_URL", 5432) || p.Serves("DB_URL", 8080) || p.Serves("API_URL", 5432) {
		t.Error("Serves does not follow the frontends")
	}
}

func TestInternal(t *testing.T) {
	t.Parallel()
	in := local(key("FAR_URL", up("a", value("http://db.example.com/x"))), key("DB", up("a", of("db"), localPort(81), value("mysql://10.0.0.1"))))
	in.Kind = balancer.Internal
	want := []string{
		"internal-81 tcp DB: internal-81", "internal-8080 http FAR_URL: internal-8080",
		"internal-81 DB tcp roundrobin", "  us::a::db 10.0.0.1:8000 100",
		"internal-8080 FAR_URL http roundrobin", "  us::a::api db.example.com:80 100",
	}
	if d := cmp.Diff(want, text(balancer.MakePlan(in))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	in := local(key("API_URL", up("a")))
	in.Bind = "lo\n"
	if d := cmp.Diff([]string{`! bad entry: bind: "lo\n" is not an address: no frontend`}, text(balancer.MakePlan(in))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	in.Bind = ""
	if p := plan(t, in); p.Frontends[0].Bind != "127.0.0.1" {
		t.Errorf("bind is %q", p.Frontends[0].Bind)
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	with := func(keys ...balancer.Key) balancer.Input {
		return balancer.Input{Kind: balancer.Public, Bind: "*", Region: "us", Keys: keys}
	}
	taken := with(key("WWW_URL", up("a", public("/"))))
	taken.Taken = map[string]int{"nginx": 80}
	for _, tc := range []struct {
		name string
		in   balancer.Input
		want []string
	}{
		{"nothing public", with(key("WWW_URL", up("a"))), []string{"public http :"}},
		{"the closest first", with(
			key("A_URL", up("a", public("/", "*.example.com", "b.example.com", "*.x.example.com"))),
			key("B_URL", up("a", public("/api/v1/", "b.example.com"))), key("C_URL", up("a", public("/api", "b.example.com"))),
			key("D_URL", up("a", public("/"))), key("E_URL", up("a", public("/e"))),
		), []string{
			"public http A_URL,B_URL,C_URL,D_URL,E_URL:",
			"  b.example.com /api/v1: B_URL:2Fapi:2Fv1", "  b.example.com /api: C_URL:2Fapi", "  b.example.com /: A_URL",
			"  *.x.example.com /: A_URL", "  *.example.com /: A_URL", "   /e: E_URL:2Fe", "   /: D_URL",
			"A_URL A_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"B_URL:2Fapi:2Fv1 B_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"C_URL:2Fapi C_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"D_URL D_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"E_URL:2Fe E_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
		}},
		{"hosts of one key differ", with(key("WWW_URL", up("a", public("/", "a.org")), up("b", public("/", "a.org", "b.org")))), []string{
			"public http WWW_URL:", "  a.org /: WWW_URL", "  b.org /: WWW_URL",
			"WWW_URL WWW_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100", "  us::b::api 10.0.0.1:8000 100",
		}},
		{"two keys of one service", with(key("A_URL", up("a", public("/"))), key("B_URL", up("a", public("/")))), []string{
			"public http A_URL,B_URL:", "   /: A_URL", "A_URL A_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
		}},
		{"two ports of one service", with(key("A_URL", up("a", public("/"))), key("B_URL", up("a", at("http://", "10.0.0.1", 9000), public("/")))), []string{
			"public http :",
			"! collision: A_URL: the route any host / of api is that of B_URL of api too: none of them has it",
			"! collision: B_URL: the route any host / of api is that of A_URL of api too: none of them has it",
		}},
		{"two services want one route of several", with(
			key("A_URL", up("a", public("/", "a.org", "both.org"))), key("B_URL", up("a", of("b"), public("/", "both.org"))),
		), []string{
			"public http A_URL:", "  a.org /: A_URL", "A_URL A_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"! collision: A_URL: the route both.org / of api is that of B_URL of b too: none of them has it",
			"! collision: B_URL: the route both.org / of b is that of A_URL of api too: none of them has it",
		}},
		{"bad hosts", with(key("A_URL", up("a", public("/", "good.org", "a b", "*.", "*", "x:80", "10.0.0.1", "a*.org", "q'\n")))), []string{
			"public http A_URL:", "  good.org /: A_URL", "   /: A_URL", "A_URL A_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"! bad entry: A_URL of us/a/api: \"a b\" of its hosts is not a host name, nor *.domain; it is left out",
			"! bad entry: A_URL of us/a/api: \"q'\\n\" of its hosts is not a host name, nor *.domain; it is left out",
			"! bad entry: A_URL of us/a/api: *. of its hosts is not a host name, nor *.domain; it is left out",
			"! bad entry: A_URL of us/a/api: 10.0.0.1 of its hosts is not a host name, nor *.domain; it is left out",
			"! bad entry: A_URL of us/a/api: a*.org of its hosts is not a host name, nor *.domain; it is left out",
			"! bad entry: A_URL of us/a/api: x:80 of its hosts is not a host name, nor *.domain; it is left out",
		}},
		{"not http, odd paths", with(key("A_URL", up("a", at("https://", "10.0.0.1", 443), func(e *balancer.Entry) { e.Public = true })),
			key("B_URL", up("a", public("/x'y"))), key("C_URL", up("a", public("/$(reboot)"))), key("D_URL", up("a", public("/%7Euser/a%20b")))), []string{
			"public http D_URL:", "   /%7Euser/a%20b: D_URL:2F:257Euser:2Fa:2520b", "D_URL:2F:257Euser:2Fa:2520b D_URL http roundrobin", "  us::a::api 10.0.0.1:8000 100",
			"! bad entry: A_URL of us/a/api: its value is not an http URL, which the public balancer needs; it is left out",
			"! bad entry: B_URL of us/a/api: the path of its value has characters that cannot be a prefix to choose by; it is left out",
			"! bad entry: C_URL of us/a/api: the path of its value has characters that cannot be a prefix to choose by; it is left out",
		}},
		{"port taken", taken, []string{"! collision: WWW_URL: port 80 of the public balancer is taken on this node by nginx: no frontend"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, text(balancer.MakePlan(tc.in))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestOrder: neither the order of keys nor that of entries matters.
func TestOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		in := goldens()[rapid.SampledFrom([]string{"local.cfg", "internal.cfg", "public.cfg"}).Draw(rt, "input")]
		want := text(balancer.MakePlan(in))
		in.Keys = rapid.Permutation(in.Keys).Draw(rt, "keys")
		for i := range in.Keys {
			in.Keys[i].Entries = rapid.Permutation(in.Keys[i].Entries).Draw(rt, "entries")
		}
		if d := cmp.Diff(want, text(balancer.MakePlan(in))); d != "" {
			rt.Errorf("(-want +got):\n%s", d)
		}
	})
}
