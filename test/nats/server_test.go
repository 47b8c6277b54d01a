package nats_test

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/freeport"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// A server is a process of its own, this test binary, so that it can be
// killed and stopped, and has no goroutines in the process under test.
const serverConfig = "LISTENER_TEST_NATS_CONFIG"

// otherServer names the program of another version of the server to test with.
const otherServer = "LISTENER_TEST_NATS_SERVER"

func TestMain(m *testing.M) {
	if config := os.Getenv(serverConfig); config != "" {
		serve(config)
	}
	if kind := os.Getenv(fleetKind); kind != "" {
		if err := fleet(kind); err != nil {
			fmt.Fprintln(os.Stderr, kind+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Tests wait for time to pass, more than for processors.
	flag.Parse()
	_ = flag.Set("test.parallel", "4")
	os.Exit(m.Run())
}

// serve runs a server until a signal ends it.
func serve(config string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	options, err := natsserver.ProcessConfigFile(config)
	if err != nil {
		fail(err)
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		fail(err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		fail(fmt.Errorf("the server does not start"))
	}
	fmt.Println(s.ClientURL())
	s.WaitForShutdown()
	os.Exit(0)
}

// server keeps its port and its data over restarts.
type server struct {
	dir    string
	port   int
	config string // beside port and JetStream
	// jetstream has more settings of that, through what to start it with.
	jetstream string
	through   []string
	cmd       *exec.Cmd
}

func startServer(t testing.TB, config string) *server {
	t.Helper()
	s := newServer(t)
	s.config = config
	s.start(t)
	return s
}

// newServer does not start it yet.
func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), port: freePort(t)}
	t.Cleanup(s.kill)
	return s
}

// freePort is one that nobody listens on now, or else until the test ends.
func freePort(t testing.TB) int {
	t.Helper()
	port, release, err := freeport.Take()
	must(t, err)
	t.Cleanup(release)
	return port
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }
func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }
func (s *server) url() string  { return "nats://" + s.addr() }

func (s *server) start(t testing.TB) {
	t.Helper()
	config := filepath.Join(s.dir, "nats.conf")
	jetstream := fmt.Sprintf("store_dir: %q", s.data())
	if s.jetstream != "" {
		jetstream += ", " + s.jetstream
	}
	text := fmt.Sprintf("host: 127.0.0.1\nport: %d\nlog_file: %q\njetstream { %s }\n%s\n", s.port, filepath.Join(s.dir, "log"), jetstream, s.config)
	must(t, os.WriteFile(config, []byte(text), 0o600))
	exe, err := os.Executable()
	must(t, err)
	s.cmd = exec.Command(exe)
	other := os.Getenv(otherServer)
	if other != "" {
		s.cmd = exec.Command(other, "-c", config)
	}
	if len(s.through) > 0 {
		s.cmd = exec.Command(s.through[0], append(s.through[1:], s.cmd.Args...)...)
	}
	s.cmd.Env = append(os.Environ(), serverConfig+"="+config)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if other != "" {
		must(t, s.cmd.Start())
		eventually(t, "the server listens", func() error {
			c, err := net.Dial("tcp", s.addr())
			if err == nil {
				c.Close()
			}
			return err
		})
		return
	}
	out, err := s.cmd.StdoutPipe()
	must(t, err)
	must(t, s.cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the server says %q: %v\n%s", line, err, s.log())
	}
}

// stop ends the server as an operator would.
func (s *server) stop() {
	s.signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
}

// kill ends it as a crash would.
func (s *server) kill() {
	s.signal(syscall.SIGKILL)
	if s.cmd != nil {
		_ = s.cmd.Wait()
	}
}

func (s *server) signal(sig syscall.Signal) {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

func (s *server) wipe(t testing.TB) {
	t.Helper()
	s.kill()
	must(t, os.RemoveAll(s.data()))
	s.start(t)
}

// snapshot copies the data of the stopped server, and starts it again.
func (s *server) snapshot(t testing.TB) (setBack func(testing.TB)) {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	s.stop()
	must(t, os.CopyFS(saved, os.DirFS(s.data())))
	s.start(t)
	return func(t testing.TB) {
		t.Helper()
		s.stop()
		must(t, os.RemoveAll(s.data()))
		must(t, os.CopyFS(s.data(), os.DirFS(saved)))
		s.start(t)
	}
}

// log is what the server wrote to its log, for a test that failed.
func (s *server) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return strings.TrimSpace(string(b))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
