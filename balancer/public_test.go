package balancer_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/balancer"
)

// TestPublicRoutes: HAProxy and nginx send a request to the same server.
func TestPublicRoutes(t *testing.T) {
	t.Parallel()
	origins := map[string]*origin{}
	entry := func(name, path string, hosts ...string) balancer.Key {
		o := serve(t, name)
		origins[name] = o
		return key(name, up("web1", of(name), at("http://", "127.0.0.1", o.port), public(path, hosts...)))
	}
	in := balancer.Input{
		Kind: balancer.Public, Bind: "127.0.0.1", Region: "us", Keys: []balancer.Key{
			entry("WWW", "/", "www.example.com"), entry("API", "/v1", "www.example.com", "api.example.com"), entry("DEEP", "/v1/deep/", "www.example.com"),
			entry("WILD", "/", "*.example.com"), entry("WILDER", "/", "*.x.example.com"), entry("ANY", "/any"),
		},
	}
	in.Port = freePort(t)
	start(t, plan(t, in))
	haproxy := in.Port
	in.Port = freePort(t)
	startNginx(t, plan(t, in))
	ports := []int{haproxy, in.Port}
	for _, tc := range []struct{ host, path, want string }{
		{"www.example.com", "/", "WWW"},
		{"WWW.Example.COM:8080", "/v1", "API"},
		{"www.example.com.", "/v1/x?y=/any", "API"},
		{"www.example.com", "/v1x", "WWW"},
		{"www.example.com", "/v1/deep", "DEEP"},
		{"www.example.com", "/v1/deeper", "API"},
		{"www.example.com", "/any/x", "WWW"},
		{"api.example.com", "/v1", "API"},
		{"api.example.com", "/", "WILD"},
		{"api.example.com", "/any", "WILD"},
		{"a.b.example.com", "/", "WILD"},
		{"a.x.example.com", "/", "WILDER"},
		{"example.com", "/any", "ANY"},
		{"example.com", "/", "503"},
		{"badexample.com", "/", "503"},
		{"127.0.0.1", "/any/thing", "ANY"},
		{"[::1]:80", "/any", "ANY"},
	} {
		for i, port := range ports {
			if got := answer(t, port, tc.host, tc.path); got != tc.want {
				t.Errorf("%s%s through %s is answered by %s, want %s", tc.host, tc.path, []string{"HAProxy", "nginx"}[i], got, tc.want)
			}
		}
	}
}

// answer is the body of a request, or its code if that is not 200.
func answer(t *testing.T, port int, host, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Sprint(res.StatusCode)
	}
	return string(b)
}

func TestNginxGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"local.cfg", "public.cfg"} {
		text, err := os.ReadFile(filepath.Join("..", "examples", "nginx", "nginx.conf.tmpl"))
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := balancer.NewTemplate(name, string(text))
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, goldens()[name])
		got, err := tmpl.Render(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "nginx-"+name, got)
		if again, err := tmpl.Render(t.Context(), p); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s renders differently a second time (%v)", name, err)
		}
	}
}
