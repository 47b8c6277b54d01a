package balancer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/listener-agent/listener/balancer"
)

// One node can claim a port or a route for as many keys as it likes: what that
// costs grows with the keys, not with their square.
func TestManyKeysOnOnePort(t *testing.T) {
	t.Parallel()
	const n = 5000
	for name, in := range map[string]func(keys []balancer.Key) balancer.Input{
		"collide": func(keys []balancer.Key) balancer.Input {
			for i := range keys {
				keys[i].Entries[0].Service = fmt.Sprintf("s%d", i)
			}
			return local(keys...)
		},
		"share": func(keys []balancer.Key) balancer.Input { return local(keys...) },
		"route": func(keys []balancer.Key) balancer.Input {
			for i := range keys {
				keys[i].Entries[0].Public = true
				keys[i].Entries[0].Service = fmt.Sprintf("s%d", i)
			}
			in := local(keys...)
			in.Kind = balancer.Public
			return in
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := make([]balancer.Key, n)
			for i := range keys {
				keys[i] = key(fmt.Sprintf("KEY_%d", i), up("n1"))
			}
			begun := time.Now()
			p := balancer.MakePlan(in(keys))
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("a plan took %v", took)
			}
			if len(p.Problems) > 5*n {
				t.Errorf("%d problems of %d keys, such as %s", len(p.Problems), n, p.Problems[0])
			}
		})
	}
}

// So can it claim paths, and a template asks which of them a host has.
func TestManyPathsOfAHost(t *testing.T) {
	t.Parallel()
	entries := make([]balancer.Entry, 30_000)
	for i := range entries {
		entries[i] = up("n1", of(fmt.Sprintf("s%d", i)), value(fmt.Sprintf("http://10.0.0.1:8000/p%d", i)))
		entries[i].Public = true
		if i%2 == 0 {
			entries[i].Hosts = []string{"a.example.com"}
		}
	}
	in := local(key("K", entries...))
	in.Kind = balancer.Public
	p := balancer.MakePlan(in)
	tmpl, err := balancer.NewTemplate("t", `{{range .Frontends}}{{len (routes "a.example.com" .Routes)}}{{end}}`)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	out, err := tmpl.Render(t.Context(), p)
	if took := time.Since(begun); err != nil || string(out) != "30000" || took > 3*time.Second {
		t.Errorf("%q, %v, after %v", out, err, took)
	}
}
