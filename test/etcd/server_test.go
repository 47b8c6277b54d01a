package etcd_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/freeport"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
)

// limit is far beyond what anything here takes on a busy machine.
const limit = 90 * time.Second

// asServer makes the test binary an etcd server, which takes etcd's flags, and
// asUtility an etcdutl.
const (
	asServer  = "LISTENER_TEST_ETCD"
	asUtility = "LISTENER_TEST_ETCDUTL"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(benchRole) != "":
		if err := playBench(os.Getenv(benchRole)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case os.Getenv(asServer) != "":
		etcdmain.Main(os.Args)
		return
	case os.Getenv(asUtility) != "":
		c := &cobra.Command{Use: "etcdutl"}
		c.AddCommand(etcdutl.NewSnapshotCommand())
		if err := c.Execute(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// server is an etcd of one member: inside the test, or a process.
type server struct {
	dir          string
	client, peer string   // host:port
	bin          string   // program to run; "": inside the test
	args         []string // more flags of the program
	secure       bool     // serves https
	dialer       func(*clientv3.Config)

	etcd   *embed.Etcd
	proc   *exec.Cmd
	ended  chan struct{}
	stderr bytes.Buffer
}

// newServer starts one inside the test.
func newServer(t testing.TB) *server {
	t.Helper()
	return startServer(t, "", nil)
}

// newProcess starts this module's etcd as a process.
func newProcess(t testing.TB, args ...string) *server {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	return startServer(t, self, nil, args...)
}

func startServer(t testing.TB, bin string, edit func(*server), args ...string) *server {
	t.Helper()
	s := &server{dir: filepath.Join(t.TempDir(), "data"), client: freeAddress(t), peer: freeAddress(t), bin: bin, args: args}
	if edit != nil {
		edit(s)
	}
	t.Cleanup(s.kill)
	s.start(t)
	return s
}

// freeAddress is one that nobody listens on now, or else until the test ends.
func freeAddress(t testing.TB) string {
	t.Helper()
	port, release, err := freeport.Take()
	must(t, err)
	t.Cleanup(release)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func (s *server) url() string {
	if s.secure {
		return "https://" + s.client
	}
	return "http://" + s.client
}

func (s *server) start(t testing.TB) {
	t.Helper()
	s.launch(t)
	s.serves(t)
}

func (s *server) launch(t testing.TB) {
	t.Helper()
	if s.bin == "" {
		s.embed(t)
		return
	}
	s.proc = exec.Command(s.bin, append([]string{
		"--data-dir", s.dir, "--heartbeat-interval", "10", "--election-timeout", "100", "--log-level", "error",
		"--listen-client-urls", s.url(), "--advertise-client-urls", s.url(),
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		"--initial-cluster", "default=http://" + s.peer,
	}, s.args...)...)
	s.proc.Env = append(os.Environ(), asServer+"=1")
	s.stderr.Reset()
	s.proc.Stderr = &s.stderr
	s.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, s.proc.Start())
	s.ended = make(chan struct{})
	go func(p *exec.Cmd, ended chan struct{}) {
		_ = p.Wait()
		close(ended)
	}(s.proc, s.ended)
}

func (s *server) embed(t testing.TB) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.TickMs, c.ElectionMs = s.dir, 10, 100
	c.UnsafeNoFsync = true
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	client, peer := []url.URL{{Scheme: "http", Host: s.client}}, []url.URL{{Scheme: "http", Host: s.peer}}
	c.ListenClientUrls, c.AdvertiseClientUrls = client, client
	c.ListenPeerUrls, c.AdvertisePeerUrls = peer, peer
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	s.etcd = e
}

// serves waits until the server answers.
func (s *server) serves(t testing.TB) {
	t.Helper()
	until(t, "an etcd that listens", func() bool {
		select {
		case <-s.ended: // nil: inside the test
			t.Fatalf("etcd ended: %s", s.stderr.String())
		default:
		}
		c, err := net.Dial("tcp", s.client)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	c := s.bare(t)
	defer c.Close()
	until(t, "an etcd that answers", func() bool {
		_, err := c.Get(t.Context(), "none")
		return err == nil || strings.Contains(err.Error(), "user name is empty")
	})
}

// stop ends the server in good order.
func (s *server) stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
	s.signal(syscall.SIGTERM)
	s.wait()
}

// kill ends it at once, where that is possible.
func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	s.stop()
}

func (s *server) wait() {
	if s.proc != nil {
		<-s.ended
		s.proc, s.ended = nil, nil
	}
}

func (s *server) signal(sig syscall.Signal) {
	if s.proc != nil {
		_ = s.proc.Process.Signal(sig)
	}
}

func (s *server) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *server) wipe(t testing.TB) {
	t.Helper()
	s.stop()
	must(t, os.RemoveAll(s.dir))
	s.start(t)
}

// snapshot copies the data; what it returns puts the copy in their place.
func (s *server) snapshot(t *testing.T) (setBack func(*testing.T)) {
	t.Helper()
	saved := s.dir + ".saved" // one at a time: it is big
	s.stop()
	must(t, os.RemoveAll(saved))
	must(t, os.CopyFS(saved, os.DirFS(s.dir)))
	s.start(t)
	return func(t *testing.T) {
		t.Helper()
		s.stop()
		must(t, os.RemoveAll(s.dir))
		must(t, os.CopyFS(s.dir, os.DirFS(saved)))
		must(t, private(s.dir))
		s.start(t)
	}
}

// backup saves a snapshot as etcdctl does; what it returns restores it with
// etcdutl, and starts the server on it.
func (s *server) backup(t testing.TB) (restore func(t testing.TB, flags ...string)) {
	t.Helper()
	from, err := s.bare(t).Snapshot(t.Context())
	must(t, err)
	defer from.Close()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	to, err := os.Create(path)
	must(t, err)
	defer to.Close()
	_, err = io.Copy(to, from)
	must(t, err)
	return func(t testing.TB, flags ...string) {
		t.Helper()
		s.kill()
		must(t, os.RemoveAll(s.dir))
		c := exec.Command(self(t), append([]string{
			"snapshot", "restore", path, "--data-dir", s.dir, "--name", "default",
			"--initial-cluster", "default=http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer,
		}, flags...)...)
		c.Env = append(os.Environ(), asUtility+"=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("etcdutl: %v\n%s", err, out)
		}
		s.start(t)
	}
}

// private makes files again what etcd wants them to be: CopyFS makes them
// readable for all.
func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// bare is etcd's own client, to do what an operator does.
func (s *server) bare(t testing.TB, edit ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	o := clientv3.Config{Endpoints: []string{s.url()}, Logger: zap.NewNop()}
	if s.dialer != nil {
		s.dialer(&o)
	}
	for _, e := range edit {
		e(&o)
	}
	c, err := clientv3.New(o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func compact(t testing.TB, c *clientv3.Client) {
	t.Helper()
	resp, err := c.Get(t.Context(), "none")
	must(t, err)
	_, err = c.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
	if err != nil && !strings.Contains(err.Error(), "compacted") {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
