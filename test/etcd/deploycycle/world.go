package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/internal/freeport"
	"github.com/listener-agent/listener/status"
)

// patience is how long a step may take; it takes a second or two.
const patience = 60 * time.Second

// world is the machine with everything on it.
type world struct {
	dir, binary string
	tell        func(string, ...any)
	etcd        *etcd
	nodes       map[string]*node
	ports       map[string]string // of the example's files, to those used here
	traffic     *traffic
}

// node is one agent with what belongs to it.
type node struct {
	name, dir string
	agent     *exec.Cmd
	log       bytes.Buffer
	client    *api.Client // nil: not asked yet
}

// etcd is a server inside this process.
type etcd struct {
	dir, client, peer string
	server            *embed.Etcd
}

func newWorld(binary, example string, tell func(string, ...any)) (*world, error) {
	for _, program := range []string{"haproxy", binary} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w; this installs HAProxy: apt-get install --no-install-recommends haproxy", err)
		}
	}
	dir, err := os.MkdirTemp("", "cycle")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, binary: binary, tell: tell, nodes: map[string]*node{}, ports: map[string]string{}}
	free, err := freePorts(7)
	if err != nil {
		return nil, err
	}
	for i, port := range []string{"7080", "7100", "7101", "7102", "7201", "7202"} {
		w.ports[port] = free[i]
	}
	w.etcd = &etcd{dir: filepath.Join(dir, "etcd"), client: "127.0.0.1:" + free[6], peer: "127.0.0.1:0"}
	if err := w.etcd.start(); err != nil {
		return nil, err
	}
	for name, kind := range map[string]string{"api1": "api", "api2": "api", "www1": "www", "www2": "www", "lb1": "lb"} {
		if err := w.makeNode(example, name, kind); err != nil {
			w.end()
			return nil, err
		}
	}
	return w, nil
}

// makeNode copies the example's files for one node. A second node of a kind
// gets the next port.
func (w *world) makeNode(example, name, kind string) error {
	n := &node{name: name, dir: filepath.Join(w.dir, name)}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pairs := []string{"@NODE@", name, "@STORE@", "http://" + w.etcd.client, "@PLAY@", self, "@DIR@", n.dir}
	if strings.HasSuffix(name, "2") {
		pairs = append(pairs, "7101", w.ports["7102"], "7201", w.ports["7202"])
	}
	for from, to := range w.ports {
		pairs = append(pairs, from, to)
	}
	fill := strings.NewReplacer(pairs...)
	for from, to := range map[string]string{
		kind + "/listener.toml": "listener.toml", kind + "/" + kind + ".json": "service/" + kind + ".json", "haproxy.sh": "haproxy.sh",
	} {
		data, err := os.ReadFile(filepath.Join(example, from))
		if errors.Is(err, os.ErrNotExist) {
			continue // lb has no service
		}
		if err != nil {
			return err
		}
		path := filepath.Join(n.dir, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(fill.Replace(string(data))), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(n.dir, "service"), 0o755); err != nil {
		return err
	}
	w.nodes[name] = n
	return nil
}

// start starts the agents of nodes.
func (w *world) start(ctx context.Context, names ...string) error {
	for _, name := range names {
		n := w.nodes[name]
		n.agent = exec.Command(w.binary, "agent", "--config", filepath.Join(n.dir, "listener.toml"))
		n.agent.Stderr = &n.log
		if err := n.agent.Start(); err != nil {
			return err
		}
		if err := w.until(ctx, name, "to answer", func(status.Status) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// until waits until a node's status is as it should be.
func (w *world) until(ctx context.Context, name, what string, is func(status.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := w.nodes[name].status(ctx)
		if err == nil && is(s) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s %s: %w", name, what, errors.Join(ctx.Err(), err))
		}
	}
}

func (n *node) socket() string { return filepath.Join(n.dir, "listener.sock") }

func (n *node) status(ctx context.Context) (s status.Status, err error) {
	if n.client == nil {
		if n.client, err = api.Dial(n.socket()); err != nil {
			n.client = nil
			return s, err
		}
	}
	return n.client.Status(ctx)
}

// counts are the runs of a node and the reloads of its balancers.
func (w *world) counts(ctx context.Context, name string) (runs int, reloads uint64, err error) {
	s, err := w.nodes[name].status(ctx)
	if err != nil {
		return 0, 0, err
	}
	list, err := w.nodes[name].client.Runs(ctx, 0)
	for _, b := range s.Balancers {
		reloads += b.Reloads
	}
	return len(list), reloads, err
}

// command runs the command line against a node's agent.
func (w *world) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, w.binary, append(args, "--socket", w.nodes[name].socket())...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("listener %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (w *world) port(name string) string { return w.ports[map[string]string{"public": "7080"}[name]] }

// apiURL is what the env file of a node says.
func (w *world) apiURL(name string) string {
	data, _ := os.ReadFile(filepath.Join(w.nodes[name].dir, "env", "www.conf"))
	for line := range strings.SplitSeq(string(data), "\n") {
		if url, ok := strings.CutPrefix(line, "export API_URL="); ok {
			return strings.Trim(url, "'")
		}
	}
	return "?"
}

// end takes everything away.
func (w *world) end() {
	if w.traffic != nil {
		w.traffic.stop()
	}
	for _, n := range w.nodes {
		if n.agent != nil {
			_ = n.agent.Process.Signal(os.Interrupt)
			_ = n.agent.Wait()
		}
		n.killService()
		pids, _ := filepath.Glob(filepath.Join(n.dir, "*.cfg.pid"))
		for _, path := range pids {
			endProcess(path, "haproxy")
		}
	}
	w.etcd.stop()
	_ = os.RemoveAll(w.dir)
}

// remains is what the agents said last, for who has to find out.
func (w *world) remains() string {
	var b strings.Builder
	for name, n := range w.nodes {
		lines := strings.Split(strings.TrimSpace(n.log.String()), "\n")
		fmt.Fprintf(&b, "--- %s\n%s\n", name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return b.String()
}

func (e *etcd) start() error {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.Logger, cfg.ZapLoggerBuilder = e.dir, "zap", embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.TickMs, cfg.ElectionMs = 10, 100
	client, peer := url.URL{Scheme: "http", Host: e.client}, url.URL{Scheme: "http", Host: e.peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	e.server = server
	select {
	case <-server.Server.ReadyNotify():
		return nil
	case <-time.After(patience):
		return errors.New("etcd does not get ready")
	}
}

func (e *etcd) stop() {
	if e.server != nil {
		e.server.Close()
		e.server = nil
	}
}

// freePorts are n ports for this process alone.
func freePorts(n int) (ports []string, err error) {
	for range n {
		port, _, err := freeport.Take()
		if err != nil {
			return nil, err
		}
		ports = append(ports, strconv.Itoa(port))
	}
	return ports, nil
}
