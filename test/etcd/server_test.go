package etcd_test

import (
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// limit is far beyond what anything here takes on a busy machine.
const limit = 60 * time.Second

// server is an etcd of one member inside the test.
type server struct {
	dir          string
	client, peer string // host:port
	etcd         *embed.Etcd
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{dir: filepath.Join(t.TempDir(), "data"), client: freeAddress(t), peer: freeAddress(t)}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

// freeAddress is one that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (s *server) url() string { return "http://" + s.client }

func (s *server) start(t *testing.T) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir, c.TickMs, c.ElectionMs = s.dir, 10, 100
	c.UnsafeNoFsync = true
	c.LogLevel, c.LogOutputs = "panic", []string{"/dev/null"}
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
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(limit):
		t.Fatal("etcd does not get ready")
	}
	if _, err := bare(t, s.url()).Get(t.Context(), "none"); err != nil {
		t.Fatal(err)
	}
}

func (s *server) stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

func (s *server) restart(t *testing.T) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *server) wipe(t *testing.T) {
	t.Helper()
	s.stop()
	must(t, os.RemoveAll(s.dir))
	s.start(t)
}

// snapshot copies the data; what it returns puts the copy in their place.
func (s *server) snapshot(t *testing.T) (setBack func(*testing.T)) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	s.stop()
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

// private makes files writable for etcd again: CopyFS makes them readable.
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
func bare(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func compact(t *testing.T, c *clientv3.Client) {
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
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

