package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// metadata is a metadata server on loopback, of both clouds.
type metadata struct {
	answers map[string]string // by path; none: 404
	hang    string            // the path whose answer has no end

	mu    sync.Mutex // guards asked and bad
	asked []string
	bad   []string // requests that the cloud refuses
}

// serve returns the URL.
func (m *metadata) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return s.URL
}

const imdsToken = "AQAEAK+/x_y-z=="

// awsAnswers and googleAnswers are those of a machine, each a map of its own.
func awsAnswers() map[string]string {
	return map[string]string{
		"/latest/api/token":                                 imdsToken,
		"/latest/meta-data/instance-id":                     "i-0123456789abcdef0",
		"/latest/meta-data/local-ipv4":                      "10.1.2.3",
		"/latest/meta-data/placement/region":                "eu-central-1",
		"/latest/meta-data/placement/availability-zone":     "eu-central-1b",
		"/latest/meta-data/iam/security-credentials/secret": "of nobody",
	}
}

func googleAnswers() map[string]string {
	const base = "/computeMetadata/v1/instance/"
	return map[string]string{
		base + "hostname":                "web1.europe-west1-b.c.shop.internal",
		base + "network-interfaces/0/ip": "10.4.5.6",
		base + "zone":                    "projects/123/zones/europe-west1-b",
	}
}

func (m *metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r.URL.Path)
	h := r.Header
	var ok bool
	switch {
	case r.URL.Path == "/latest/api/token":
		ok = r.Method == http.MethodPut && h.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "60"
	case strings.HasPrefix(r.URL.Path, "/latest/"):
		ok = r.Method == http.MethodGet && h.Get("X-Aws-Ec2-Metadata-Token") == imdsToken
	default:
		ok = r.Method == http.MethodGet && h.Get("Metadata-Flavor") == "Google"
	}
	if !ok {
		m.bad = append(m.bad, fmt.Sprint(r.Method, r.URL.Path, h))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path == m.hang {
		m.mu.Unlock()
		_, _ = w.Write([]byte("i-0")) // the first bytes of an answer are none
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		m.mu.Lock()
		return
	}
	text, ok := m.answers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(text))
}

// bootedNode is a machine that runs the script at boot.
type bootedNode struct {
	t    *testing.T
	exe  string
	dir  string // instead of /etc/listener
	said string // by the last run
}

func newBootedNode(t *testing.T) *bootedNode {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl, with which the script asks")
	}
	built, err := buildListener()
	if err != nil {
		t.Fatal(err)
	}
	n := &bootedNode{t: t, exe: filepath.Join(t.TempDir(), "listener"), dir: t.TempDir()}
	syscall.ForkLock.RLock() // see system.writeMode
	err = os.WriteFile(n.exe, built, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "listener.toml"), []byte("state_dir = 'state'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *bootedNode) file() string { return filepath.Join(n.dir, "conf.d/10-node.toml") }

// boot runs the script, which must succeed whatever it is told, and leave no
// files of its own.
func (n *bootedNode) boot(cloud, url string, env ...string) {
	n.t.Helper()
	cmd := exec.Command("../../examples/user-data/node-settings.sh", cloud)
	// A proxy must not be asked; nothing listens there.
	cmd.Env = append([]string{
		"LISTENER_METADATA_URL=" + url, "LISTENER_METADATA_SECONDS=1", "LISTENER_CONF_D=" + filepath.Dir(n.file()),
		"http_proxy=http://127.0.0.1:9", "LC_ALL=C",
	}, env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	start := time.Now()
	err := cmd.Run()
	n.said = said.String()
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.said)
	}
	if d := time.Since(start); d > 8*time.Second {
		n.t.Errorf("it took %s", d)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(n.file()), ".*"))
	if len(left) > 0 {
		n.t.Errorf("it left %v", left)
	}
}

// settings are those that the agent has from the script's file.
func (n *bootedNode) settings() map[string]string {
	n.t.Helper()
	cmd := exec.Command(n.exe, "config", "--config", filepath.Join(n.dir, "listener.toml"), "-o", "json")
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.t.Fatalf("listener config: %v\n%s", err, out)
	}
	var all map[string]struct {
		Value  any
		Origin string
	}
	if err := json.Unmarshal(out, &all); err != nil {
		n.t.Fatal(err)
	}
	set := map[string]string{}
	for name, s := range all {
		if strings.HasPrefix(s.Origin, n.file()) {
			set[name] = fmt.Sprint(s.Value)
		}
	}
	return set
}

func (n *bootedNode) want(node, region, host string) {
	n.t.Helper()
	want := map[string]string{}
	for name, value := range map[string]string{"node": node, "region": region, "host": host} {
		if value != "" {
			want[name] = value
		}
	}
	if diff := cmp.Diff(want, n.settings()); diff != "" {
		n.t.Errorf("settings (-want +got):\n%s\n%s", diff, n.said)
	}
	if info, err := os.Stat(n.file()); err != nil || info.Mode() != 0o644 {
		n.t.Errorf("%v, mode %v", err, info.Mode())
	}
}

// The script writes what the metadata server answers.
func TestUserDataAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cloud, is          string
		answers            map[string]string
		node, region, host string
	}{
		{"aws", "region", awsAnswers(), "i-0123456789abcdef0", "eu-central-1", "10.1.2.3"},
		{"aws", "zone", awsAnswers(), "i-0123456789abcdef0", "eu-central-1b", "10.1.2.3"},
		{"google", "region", googleAnswers(), "web1.europe-west1-b.c.shop.internal", "europe-west1", "10.4.5.6"},
		{"google", "zone", googleAnswers(), "web1.europe-west1-b.c.shop.internal", "europe-west1-b", "10.4.5.6"},
	} {
		n, m := newBootedNode(t), &metadata{answers: c.answers}
		url := m.serve(t)
		n.boot(c.cloud, url, "LISTENER_REGION_IS="+c.is)
		n.want(c.node, c.region, c.host)
		if m.bad != nil || n.said != "" {
			t.Errorf("%s: the server refused %q; the script said %s", c.cloud, m.bad, n.said)
		}
		// Again, it writes nothing.
		before, _ := os.Stat(n.file())
		n.boot(c.cloud, url, "LISTENER_REGION_IS="+c.is)
		if after, _ := os.Stat(n.file()); !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
			t.Errorf("%s: the file was written again", c.cloud)
		}
		// What does not answer later changes nothing either.
		n.boot(c.cloud, nobody(t), "LISTENER_REGION_IS="+c.is)
		n.want(c.node, c.region, c.host)
	}
}

// nobody is the URL of a server that is not there.
func nobody(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}

// Without answers the agent has its defaults, and the boot goes on in time.
func TestUserDataFallsBack(t *testing.T) {
	t.Parallel()
	aws, google := awsAnswers(), googleAnswers()
	delete(aws, "/latest/meta-data/placement/region")
	delete(google, "/computeMetadata/v1/instance/network-interfaces/0/ip")
	for _, c := range []struct {
		name, cloud        string
		m                  *metadata // nil: no server
		node, region, host string
	}{
		{"no server", "aws", nil, "", "", ""},
		{"no server", "google", nil, "", "", ""},
		{"404", "aws", &metadata{}, "", "", ""},
		{"404", "google", &metadata{}, "", "", ""},
		{"one 404", "aws", &metadata{answers: aws}, "i-0123456789abcdef0", "", "10.1.2.3"},
		{"one 404", "google", &metadata{answers: google}, "web1.europe-west1-b.c.shop.internal", "europe-west1", ""},
		{"hang", "aws", &metadata{answers: awsAnswers(), hang: "/latest/api/token"}, "", "", ""},
		{"hang", "google", &metadata{answers: googleAnswers(), hang: "/computeMetadata/v1/instance/hostname"}, "", "", ""},
		{"late hang", "aws", &metadata{answers: awsAnswers(), hang: "/latest/meta-data/instance-id"}, "", "eu-central-1", "10.1.2.3"},
	} {
		t.Run(c.cloud+" "+c.name, func(t *testing.T) {
			t.Parallel()
			n, url := newBootedNode(t), nobody(t)
			if c.m != nil {
				url = c.m.serve(t)
			}
			n.boot(c.cloud, url)
			n.want(c.node, c.region, c.host)
			if !strings.Contains(n.said, "the agent takes its default") {
				t.Errorf("it says nothing of that: %s", n.said)
			}
			if c.name == "hang" && len(c.m.asked) != 1 {
				t.Errorf("it asked on: %q", c.m.asked)
			}
		})
	}
}

// Whoever answers in the server's place sets no setting, and no text that keeps
// the agent from its start.
func TestUserDataHostile(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"x\"\n[provision]\ncommand = [\"/bin/evil\"]\n#", "web1\nstate_dir = 'x'", "a\rb", `a\u0022`, `$(touch x)`, "`id`", "<html>no</html>", "wéb",
		"localhost", "LOCALHOST", "localhost.localdomain", ".", "-n", "1:2:3", "http://10.0.0.1", "a/b", " ", "", "\x00\x01", strings.Repeat("a", 254), strings.Repeat("1", 1<<20),
	} {
		n, m := newBootedNode(t), &metadata{answers: awsAnswers()}
		for path := range m.answers {
			if strings.HasPrefix(path, "/latest/meta-data/") {
				m.answers[path] = text
			}
		}
		n.boot("aws", m.serve(t))
		n.want("", "", "")
		m = &metadata{answers: map[string]string{"/latest/api/token": "x\r\nMetadata-Flavor: Google\r\n" + text}}
		n.boot("aws", m.serve(t))
		n.want("", "", "")
		if len(m.asked) != 1 {
			t.Errorf("a token of two lines was used: %q", m.asked)
		}
	}
}

// A directory that cannot be written to, a file that is none, and a cloud that
// is not known do not fail the boot.
func TestUserDataCannotWrite(t *testing.T) {
	t.Parallel()
	m := &metadata{answers: awsAnswers()}
	url := m.serve(t)
	n := newBootedNode(t)
	if err := os.WriteFile(filepath.Dir(n.file()), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n.boot("aws", url)
	n = newBootedNode(t)
	if err := os.MkdirAll(n.file(), 0o755); err != nil {
		t.Fatal(err)
	}
	n.boot("aws", url)
	if !strings.Contains(n.said, "could not be written") {
		t.Errorf("it says nothing of that: %s", n.said)
	}
	n = newBootedNode(t)
	n.boot("no-cloud", url)
	if _, err := os.Stat(n.file()); err == nil || !strings.Contains(n.said, "usage") {
		t.Errorf("it wrote for a cloud that it does not know: %s", n.said)
	}
}

// The cloud-config files have the script as it is.
func TestUserDataHasScript(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../examples/user-data/node-settings.sh")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for line := range strings.Lines(string(script)) {
		if line != "\n" {
			want.WriteString("      ")
		}
		want.WriteString(line)
	}
	for _, cloud := range []string{"aws", "google"} {
		data, err := os.ReadFile("../../examples/user-data/" + cloud + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), "#cloud-config\n") || !strings.Contains(string(data), "    content: |\n"+want.String()+"  - path:") {
			t.Errorf("%s.yaml does not have node-settings.sh as it is, indented by 6", cloud)
		}
		if len(data) > 16<<10 {
			t.Errorf("%s.yaml has %d bytes; AWS takes 16 KiB", cloud, len(data))
		}
	}
}
