package balancer_test

import (
	"testing"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

func TestRewrite(t *testing.T) {
	t.Parallel()
	v4 := store.Provider{Host: "10.0.0.1", Port: 8000, LocalPort: 8080}
	v6 := store.Provider{Host: "FD00:0::1", Port: 8000, LocalPort: 8080}
	name := store.Provider{Host: "Web1.example.com", Port: 80, LocalPort: 8080}
	for _, tc := range []struct {
		value    string
		provider store.Provider
		bind     string
		want     string // "": unchanged
	}{
		{"http://10.0.0.1:8000/v1", v4, "127.0.0.1", "http://127.0.0.1:8080/v1"},
		{"http://10.0.0.1:8000", v4, "*", "http://127.0.0.1:8080"},
		{"10.0.0.1:8000", v4, "", "127.0.0.1:8080"},
		{"10.0.0.1:8000", v4, "0.0.0.0", "127.0.0.1:8080"},
		{"10.0.0.1:8000", v4, "::", "[::1]:8080"},
		{"10.0.0.1:8000", v4, "10.9.9.9", "10.9.9.9:8080"},
		{
			"postgres://u%40:p%2F10.0.0.1:8000@10.0.0.1:8000/10.0.0.1:8000?x=10.0.0.1:8000#f", v4, "127.0.0.1",
			"postgres://u%40:p%2F10.0.0.1:8000@127.0.0.1:8080/10.0.0.1:8000?x=10.0.0.1:8000#f",
		},
		{"postgres://10.0.0.1?x=a@b", v4, "127.0.0.1", "postgres://127.0.0.1:8080?x=a@b"},
		{"HTTP://[fd00::1]:8000/%7e//", v6, "::1", "HTTP://[::1]:8080/%7e//"},
		{"[fd00::1]:8000", v6, "::1", "[::1]:8080"},
		{"http://[fd00:0:0::1]:8000", v6, "127.0.0.1", "http://127.0.0.1:8080"},
		{"http://web1.example.com/", name, "127.0.0.1", "http://127.0.0.1:8080/"},
		{"https://web1.example.com/", name, "127.0.0.1", ""},
		{"http://10.0.0.1:8001/", v4, "127.0.0.1", ""},
		{"http://10.0.0.10:8000/", v4, "127.0.0.1", ""},
		{"http://10.0.0.1/", v4, "127.0.0.1", ""},
		{"http://x@10.0.0.2:8000/10.0.0.1:8000", v4, "127.0.0.1", ""},
		{"http://10.0.0.1:8000@evil/", v4, "127.0.0.1", ""},
		{"postgres://10.0.0.1:8000,10.0.0.2:8000/", v4, "127.0.0.1", ""},
		{"token", v4, "127.0.0.1", ""},
		{"", v4, "127.0.0.1", ""},
		{"http://10.0.0.1:8000\n", v4, "127.0.0.1", ""},
		{"10.0.0.1:8000", store.Provider{Host: "10.0.0.1", Port: 8000}, "127.0.0.1", ""},
		{"10.0.0.1:8000", store.Provider{Port: 8000, LocalPort: 1}, "127.0.0.1", ""},
	} {
		want, wantOK := tc.want, true
		if want == "" {
			want, wantOK = tc.value, false
		}
		if got, ok := balancer.Rewrite(tc.value, tc.provider, tc.bind); got != want || ok != wantOK {
			t.Errorf("%q with bind %q: %q %v, want %q %v", tc.value, tc.bind, got, ok, want, wantOK)
		}
	}
}
