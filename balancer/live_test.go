package balancer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/balancer"
)

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 15 s: not %s", what)
		}
	}
}

// freePort is one that nobody listens on, below those that the kernel gives to
// connections: of these, the load takes thousands.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if l, err := net.Listen("tcp", join("127.0.0.1", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// proxy is a HAProxy with a master, as its unit of Debian runs it.
type proxy struct {
	t       testing.TB
	haproxy balancer.HAProxy
	runtime *balancer.Runtime
	config  string
	cmd     *exec.Cmd
	plan    *balancer.Plan // that it was told last
}

// start runs HAProxy with a plan until the test ends.
func start(t testing.TB, p *balancer.Plan) *proxy {
	t.Helper()
	return startWith(t, balancer.HAProxy{Check: 200 * time.Millisecond}, p)
}

func startWith(t testing.TB, h balancer.HAProxy, p *balancer.Plan) *proxy {
	t.Helper()
	path := program(t, "haproxy", "haproxy")
	dir := t.TempDir()
	h.Socket = filepath.Join(dir, "s")
	x := &proxy{t: t, haproxy: h, runtime: balancer.NewRuntime(h, 0), config: filepath.Join(dir, "cfg"), plan: p}
	x.write(p)
	x.cmd = exec.Command(path, "-W", "-S", filepath.Join(dir, "m"), "-f", x.config)
	x.cmd.WaitDelay = 5 * time.Second // an old worker that still has connections holds its output
	out := &logged{}
	x.cmd.Stdout, x.cmd.Stderr = out, out
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.cmd.Process.Signal(syscall.SIGTERM)
		x.cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy:\n%s", out)
		}
	})
	eventually(t, "answering", func() bool { return x.info("Pid") != "" && x.masterReady() })
	return x
}

// masterReady: until it answers, the master loses the signal for a reload.
func (x *proxy) masterReady() bool {
	conn, err := net.Dial("unix", filepath.Join(filepath.Dir(x.config), "m"))
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintln(conn, "show proc")
	n, _ := conn.Read(make([]byte, 1)) // it does not always close after its answer
	return n > 0
}

type logged struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (x *proxy) write(p *balancer.Plan) {
	x.t.Helper()
	if err := os.WriteFile(x.config, x.haproxy.Render(p), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// ask sends one command; "" when nobody answers.
func (x *proxy) ask(command string) string { return ask(x.haproxy.Socket, command) }

func ask(socket, command string) string {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintln(conn, command)
	b, _ := io.ReadAll(conn)
	return string(b)
}

// info is a line of `show info`.
func (x *proxy) info(name string) string {
	for line := range strings.Lines(x.ask("show info")) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// reload makes it read the file of p, and waits until the new one serves.
func (x *proxy) reload(p *balancer.Plan) {
	x.t.Helper()
	x.write(p)
	pid := x.info("Pid")
	if err := x.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		x.t.Fatal(err)
	}
	eventually(x.t, "reloaded", func() bool { now := x.info("Pid"); return now != "" && now != pid && x.masterReady() })
	x.plan = p
}

// apply tells it p at run time.
func (x *proxy) apply(p *balancer.Plan) balancer.Result {
	x.t.Helper()
	x.write(p)
	res := x.runtime.Apply(x.t.Context(), x.plan, p)
	if res.Reload == "" {
		x.plan = p
	}
	return res
}

// applied is apply that has to do without a reload.
func (x *proxy) applied(p *balancer.Plan) balancer.Result {
	x.t.Helper()
	res := x.apply(p)
	if res.Reload != "" {
		x.t.Fatalf("needs a reload: %s", res.Reload)
	}
	return res
}

// servers are those of a backend, as name → "address:port weight admin".
func (x *proxy) servers(backend string) map[string]string {
	got := map[string]string{}
	for line := range strings.Lines(x.ask("show servers state " + backend)) {
		if w := strings.Fields(line); len(w) > 18 && w[0] != "#" {
			got[w[3]] = fmt.Sprintf("%s:%s %s %s", w[4], w[18], w[7], w[6])
		}
	}
	return got
}

// origin is a server that answers with its name.
type origin struct {
	name string
	port int
	hits atomic.Int64
	// release ends the requests for /hold.
	release chan struct{}
	srv     *http.Server
}

func serve(t testing.TB, name string) *origin {
	t.Helper()
	o := &origin{name: name, release: make(chan struct{})}
	o.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.hits.Add(1)
		if r.URL.Path == "/hold" {
			w.Header().Set("Connection", "close") // else HAProxy keeps it for 5 s more
			w.(http.Flusher).Flush()
			<-o.release
		}
		io.WriteString(w, name)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.port = l.Addr().(*net.TCPAddr).Port
	go o.srv.Serve(l)
	t.Cleanup(func() { o.srv.Close() })
	return o
}

// stop ends it like a service that was told to: what it has is served first.
func (o *origin) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := o.srv.Shutdown(ctx); err != nil {
		t.Errorf("%s: %v", o.name, err)
	}
}

// load sends requests from several clients, half of them over connections that
// stay, until it is stopped.
type load struct {
	sent   atomic.Int64
	mu     sync.Mutex
	failed []string
	stop   func()
}

func traffic(t *testing.T, url string) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{}
	var wg sync.WaitGroup
	for i := range 8 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 10 * time.Second}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				l.one(client, url)
			}
		})
	}
	l.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) one(client *http.Client, url string) {
	res, err := client.Get(url)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			err = errors.Join(err, errors.New(res.Status))
		}
	}
	l.sent.Add(1)
	if err != nil {
		l.mu.Lock()
		l.failed = append(l.failed, time.Now().Format("15:04:05.000 ")+err.Error())
		l.mu.Unlock()
	}
}

// more waits for n further requests.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	want := l.sent.Load() + n
	eventually(t, "more requests", func() bool { return l.sent.Load() >= want })
}
