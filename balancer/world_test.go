package balancer_test

import (
	"testing"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

// up is a provider of service api on node, 10.0.0.1:8000, offered on port 8080.
func up(node string, change ...func(*balancer.Entry)) balancer.Entry {
	e := balancer.Entry{Region: "us", Node: node, Service: "api", Provider: store.Provider{
		Value: "http://10.0.0.1:8000/v1", Host: "10.0.0.1", Port: 8000, LocalPort: 8080, Weight: 100, State: store.Up,
	}}
	for _, c := range change {
		c(&e)
	}
	return e
}

func in(region string) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Region = region }
}

func of(service string) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Service = service }
}

func is(s store.State) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.State = s }
}

func weight(w int) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Weight = w }
}

func priority(p int) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Priority = p }
}

func balance(b string) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Balance = b }
}

func value(v string) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.Value = v }
}

func localPort(p int) func(*balancer.Entry) {
	return func(e *balancer.Entry) { e.LocalPort = p }
}

// at puts an entry on host:port, with a value of that scheme.
func at(scheme, host string, port int) func(*balancer.Entry) {
	return func(e *balancer.Entry) {
		e.Host, e.Port = host, port
		e.Value = scheme + join(host, port)
	}
}

func public(path string, hosts ...string) func(*balancer.Entry) {
	return func(e *balancer.Entry) {
		e.Public, e.Hosts = true, hosts
		e.Value = "http://" + join(e.Host, e.Port) + path
	}
}

func key(name string, entries ...balancer.Entry) balancer.Key {
	return balancer.Key{Name: name, Entries: entries}
}

// local is an input of a local balancer in us, with eu and ap behind it.
func local(keys ...balancer.Key) balancer.Input {
	return balancer.Input{Kind: balancer.Local, Bind: "127.0.0.1", Region: "us", RegionOrder: []string{"eu", "ap"}, Keys: keys}
}

// plan makes one that has no problems.
func plan(t *testing.T, in balancer.Input) *balancer.Plan {
	t.Helper()
	p := balancer.MakePlan(in)
	if len(p.Problems) > 0 {
		t.Fatalf("problems: %v", p.Problems)
	}
	return p
}
