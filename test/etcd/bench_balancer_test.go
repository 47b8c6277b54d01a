package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
	"github.com/listener-agent/listener/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// provide is a put of the i-th provider of the key BALANCED.
func provide(i, weight int, state store.State) clientv3.Op {
	host := fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255)
	p := store.Provider{
		Value: "http://" + host + ":8080/api", Host: host, Port: 8080, LocalPort: 9000, Weight: weight, State: state, Incarnation: 1,
	}
	return clientv3.OpPut(benchSpace.Provider("BALANCED", "default", fmt.Sprintf("node-%05d", i), "api"), string(p.Encode()))
}

// balancing starts an agent with a local balancer for BALANCED.
func balancing(b *testing.B, s *server, settings string) (f *followers, dir string) {
	b.Helper()
	f = newFollowers(b, s.url(), 1, 5)
	dir = filepath.Join(f.dir, "0")
	must(b, os.WriteFile(filepath.Join(dir, "service", "app.json"), []byte(`{"id": "app", "command": false, "requires": {"URL": "{BALANCED}"}}`), 0o600))
	file, err := os.OpenFile(filepath.Join(dir, "listener.toml"), os.O_APPEND|os.O_WRONLY, 0)
	must(b, err)
	_, err = fmt.Fprintf(file, "[[balancer]]\nkind = \"local\"\nmin_interval = \"0s\"\n%s\n", settings)
	must(b, err)
	must(b, file.Close())
	f.startAgent(b)
	return f, dir
}

// contains waits until a file has a text; its size and time are looked at first.
func contains(b *testing.B, path, text string) {
	b.Helper()
	var last os.FileInfo
	for until := time.Now().Add(limit); time.Now().Before(until); time.Sleep(time.Millisecond) {
		info, err := os.Stat(path)
		if err != nil || last != nil && os.SameFile(info, last) && info.ModTime().Equal(last.ModTime()) {
			continue
		}
		last = info
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(text)) {
			return
		}
	}
	b.Fatalf("%s never says %s", path, text)
}

// BenchmarkProviders: 10,000 providers of one key behind a local balancer.
func BenchmarkProviders(b *testing.B) {
	const providers, changes = 10_000, 30
	s := newProcess(b)
	c := fill(b, s, 5)
	for from := 0; from < providers; from += store.MaxOps {
		var ops []clientv3.Op
		for i := from; i < min(providers, from+store.MaxOps); i++ {
			ops = append(ops, provide(i, 100, store.Up))
		}
		_, err := c.Txn(b.Context()).Then(ops...).Commit()
		must(b, err)
	}
	f, dir := balancing(b, s, "path = \"lb.cfg\"\ncheck = []\nreload = []")
	path := filepath.Join(dir, "lb.cfg")
	contains(b, path, fmt.Sprintf("node-%05d", providers-1))
	time.Sleep(8 * time.Second)
	var took []time.Duration
	pid := f.cmd.Process.Pid
	for n := range changes {
		time.Sleep(300 * time.Millisecond)
		before := benchenv.ProcessCPU(pid)
		_, err := c.Do(b.Context(), provide(7*n, 1+n, store.Up))
		must(b, err)
		contains(b, path, fmt.Sprintf(" weight %d\n", 1+n))
		took = append(took, benchenv.ProcessCPU(pid)-before)
	}
	time.Sleep(8 * time.Second)
	cpu, size := benchenv.Median(took), benchenv.RSSAnon(b, pid)
	benchenv.Title("%d providers of one key behind a local balancer", providers)
	benchenv.Target("CPU, one change → file in place", benchenv.Millis(cpu), "50 ms", cpu <= 50*time.Millisecond)
	benchenv.Target("RssAnon, 8 s after the last change", benchenv.Megas(size), "60 MB", size <= 60e6)
	b.ReportMetric(float64(cpu.Microseconds()), "cpu-µs")
	b.ReportMetric(float64(size)/1e6, "rss-MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPublished: from the acknowledgement of a provider's entry to the
// server in a running HAProxy, by its runtime socket, beside a bare watch.
func BenchmarkPublished(b *testing.B) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		b.Skip("left out, as haproxy is not installed")
	}
	const samples = 60
	s := newProcess(b)
	c := fill(b, s, 5)
	_, err := c.Do(b.Context(), provide(0, 100, store.Up))
	must(b, err)
	script, err := filepath.Abs("../../examples/deploy-cycle/haproxy.sh")
	must(b, err)
	text, err := os.ReadFile(script)
	must(b, err)
	dir, err := os.MkdirTemp("", "ha") //nolint:usetesting // short: a socket's path must fit
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	must(b, os.WriteFile(filepath.Join(dir, "haproxy.sh"), text, 0o700)) //nolint:gosec // a script
	b.Cleanup(func() { endHAProxy(filepath.Join(dir, "lb.cfg.pid")) })
	socket := filepath.Join(dir, "s")
	_, _ = balancing(b, s, fmt.Sprintf("path = %q\nsocket = %q\nreload = [%q, \"lb.cfg\"]", filepath.Join(dir, "lb.cfg"), socket, filepath.Join(dir, "haproxy.sh")))
	serves(b, socket, "10.1.0.0", true)

	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	watch := c.Watch(ctx, benchSpace.Providers("BALANCED"), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	var bare, agent []time.Duration
	for n := range samples {
		time.Sleep(400 * time.Millisecond) // the check of the file before
		state := []store.State{store.Up, store.Left}[n%2]
		_, err := c.Do(b.Context(), provide(1, 100, state))
		must(b, err)
		at := time.Now()
		<-watch
		bare = append(bare, time.Since(at))
		serves(b, socket, "10.1.0.1", state == store.Up)
		agent = append(agent, time.Since(at))
	}
	benchenv.Title("acknowledgement of a provider → in the running HAProxy, by its runtime socket")
	benchenv.Line("bare watch", "median %s", benchenv.Millis(benchenv.Median(bare)))
	above := benchenv.Median(agent) - benchenv.Median(bare)
	benchenv.Line("agent", "median %s", benchenv.Millis(benchenv.Median(agent)))
	benchenv.Target("median above the bare watch", benchenv.Millis(above), "20 ms", above <= 20*time.Millisecond)
	b.ReportMetric(float64(above.Microseconds()), "above-µs")
	b.ReportMetric(0, "ns/op")
}

// serves waits until HAProxy has, or has not, a server with that address that
// takes requests.
func serves(b *testing.B, socket, address string, want bool) {
	b.Helper()
	for until := time.Now().Add(limit); time.Now().Before(until); time.Sleep(200 * time.Microsecond) {
		text, err := ask(socket, "show servers state")
		if err != nil {
			continue
		}
		has := false
		for line := range strings.SplitSeq(text, "\n") {
			// be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …
			if f := strings.Fields(line); len(f) > 6 && f[4] == address && f[6] == "0" {
				has = true
			}
		}
		if has == want {
			return
		}
	}
	b.Fatalf("HAProxy: %s is not %v", address, want)
}

// ask is one command over HAProxy's runtime socket.
func ask(socket, command string) (string, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(conn)
	return text.String(), err
}

// endHAProxy ends the one whose process id is in path.
func endHAProxy(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
}
