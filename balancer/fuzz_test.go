package balancer_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

// lines are all that a configuration may consist of, whatever the entries are.
var lines = regexp.MustCompile(`^(|# [A-Z0-9_, ]+|# Written by .*|global|defaults|(frontend|backend) [A-Za-z0-9_.:-]+|    (` + strings.Join([]string{
	`(description|timeout|retries|option|mode|retry-on|balance|hash-type) [a-z0-9' -]+`, `default-server check inter \d+ms fall 3 rise 2`,
	`http-request set-var.*`, `http-request disable-l7-retry unless METH_GET or { method HEAD OPTIONS }`,
	`bind (127\.0\.0\.1|\*):\d+`, `default_backend [A-Za-z0-9_.:-]+`,
	`use_backend [A-Za-z0-9_.:-]+ if( \{ var\(txn\.(host|path)\) -m (str|end|beg) '[^']*' \})+`,
	`server [A-Za-z0-9_.:-]+ ([a-z0-9_.-]+|\[[0-9a-f:.]+\]):\d+ weight \d+( backup)?( id \d+)?( init-addr libc,none)?`,
}, "|") + `))$`)

// FuzzEntry puts anything into an entry: the configuration stays one.
func FuzzEntry(f *testing.F) {
	f.Add("API_URL", "http://10.0.0.1:8000/x", "us", "web1", "api", "10.0.0.1", "www.example.com", "up", "hash", 8000, 8080, 100)
	f.Add("A", "$(reboot):1\n", "'", "\"", "\\", "$(reboot)", "*.x\nbind :1", "", "roundrobin\n", 1, -1, 257)
	f.Add("A\n", "http://[::1]:1/'{}", "", "a b", strings.Repeat("x", 1000), "::1", "", "down", "", 70000, 1, 0)
	f.Add("A", "http://a/%27%0a", "é", "#", "\x00", "a", "*", "draining", "leastconn", 0, 65535, -1)
	f.Fuzz(func(t *testing.T, k, value, region, node, service, host, name, state, balance string, port, localPort, weight int) {
		e := balancer.Entry{Region: region, Node: node, Service: service, Provider: store.Provider{
			Value: value, Host: host, Port: port, LocalPort: localPort, Public: true, Hosts: []string{name},
			Weight: weight, Balance: balance, State: store.State(state),
		}}
		other := up("web2", func(e *balancer.Entry) { e.LocalPort, e.Balance = localPort, balance })
		for _, kind := range []balancer.Kind{balancer.Local, balancer.Internal, balancer.Public} {
			p := balancer.MakePlan(balancer.Input{
				Kind: kind, Bind: "127.0.0.1", Region: region, RegionOrder: []string{"us"}, Taken: map[string]int{service: port},
				Keys: []balancer.Key{key(k, e, other), key("API_URL", other)},
			})
			for line := range strings.SplitSeq(string(balancer.HAProxy{Check: time.Second}.Render(p)), "\n") {
				if !lines.MatchString(line) && line != "    bind abns@listener-"+string(kind)+"-none" {
					t.Errorf("%s: a line %q", kind, line)
				}
			}
			for _, problem := range p.Problems {
				if s := problem.String(); strings.ContainsAny(s, "\n\x00") || len(s) > 4096 {
					t.Errorf("%s: problem %q", kind, s)
				}
			}
		}
	})
}
