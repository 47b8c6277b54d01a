package nats_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// server is a NATS server in this process. It keeps its port over restarts.
type server struct {
	options natsserver.Options
	running *natsserver.Server
}

func startServer(t testing.TB, change func(*natsserver.Options)) *server {
	t.Helper()
	s := &server{options: natsserver.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: filepath.Join(t.TempDir(), "data"), NoLog: true, NoSigs: true,
	}}
	if change != nil {
		change(&s.options)
	}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	o := s.options
	running, err := natsserver.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	if !running.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not start")
	}
	s.running = running
	s.options.Port = o.Port
}

func (s *server) stop() {
	s.running.Shutdown()
	s.running.WaitForShutdown()
}

func (s *server) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *server) wipe(t testing.TB) {
	t.Helper()
	s.stop()
	must(t, os.RemoveAll(s.options.StoreDir))
	s.start(t)
}

// snapshot copies the data of the stopped server, and starts it again.
func (s *server) snapshot(t testing.TB) (setBack func(testing.TB)) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	s.stop()
	must(t, os.CopyFS(saved, os.DirFS(s.options.StoreDir)))
	s.start(t)
	return func(t testing.TB) {
		t.Helper()
		s.stop()
		must(t, os.RemoveAll(s.options.StoreDir))
		must(t, os.CopyFS(s.options.StoreDir, os.DirFS(saved)))
		s.start(t)
	}
}

func (s *server) url() string { return s.running.ClientURL() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
