package balancer_test

import (
	"bytes"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

var update = flag.Bool("update", false, "write the golden files, and the table of functions in docs/balancers.md")

// program returns the path of a program that Debian has. Without it the test
// is left out, but not in CI, where scripts/test.sh installs it.
func program(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name)) // not on everybody's PATH
	}
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed: apt-get install %s", name, debian)
	default:
		t.Skipf("%s is not installed (apt-get install %s): left out", name, debian)
	}
	return ""
}

// accepts checks that HAProxy takes a configuration without a word.
func accepts(t *testing.T, config []byte) {
	t.Helper()
	haproxy := program(t, "haproxy", "haproxy")
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), haproxy, "-c", "-q", "-f", path).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("haproxy -c: %v\n%s\n%s", err, out, config)
	}
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, d)
	}
}

// goldens are plans that show what there is.
func goldens() map[string]balancer.Input {
	publicIn := balancer.Input{
		Kind: balancer.Public, Bind: "*", Region: "us", Keys: []balancer.Key{
			key("WWW_URL", up("web1", of("www"), public("/", "www.example.com", "*.example.com")),
				up("web2", of("www"), public("/", "WWW.Example.com", "*.example.com"), weight(10))),
			key("API_URL", up("web1", public("/v1", "www.example.com")), up("web2", public("/v1", "www.example.com"), is(store.Draining))),
			key("OTHER_URL", up("web3", of("other"), public("/x/y/"))),
			key("INNER_URL", up("web3", of("inner"))),
		},
	}
	internal := local(
		key("API_URL", up("web1"), up("web2", balance(store.LeastConn)), up("web3", balance(store.LeastConn))),
		key("FAR_URL", up("web1", of("far"), localPort(8081), at("http://", "db.example.com", 80))),
	)
	internal.Kind, internal.Bind = balancer.Internal, "::"
	return map[string]balancer.Input{
		"local.cfg": local(
			key("API_URL", up("web1.example.com"), up("web2", weight(10), is(store.Draining)), up("web3", in("eu"), weight(256)), up("web4", in("ap"))),
			key("DB_URL", up("db1", of("db"), localPort(5432), at("postgres://user:pw@", "fd00::1", 5432)),
				up("db2", of("db"), localPort(5432), at("postgres://user:pw@", "fd00::2", 5432), priority(10))),
			key("SHARD_URL", up("c1", of("cache"), localPort(6000), balance(store.Hash)), up("c2", of("cache"), localPort(6000), balance(store.Hash))),
		),
		"internal.cfg": internal,
		"public.cfg":   publicIn,
		"empty.cfg":    local(),
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, in := range goldens() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := balancer.HAProxy{Socket: "/run/haproxy/listener.sock", Check: 2 * time.Second}
			got := h.Render(plan(t, in))
			golden(t, name, got)
			if strings.Contains(name, "internal") {
				got = bytes.ReplaceAll(got, []byte("db.example.com"), []byte("localhost"))
			}
			accepts(t, got)
			if again := h.Render(balancer.MakePlan(in)); name == "local.cfg" && !bytes.Equal(again, got) {
				t.Error("the same input renders differently")
			}
		})
	}
}
