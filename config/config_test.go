package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// write makes a file below dir, with its directories, and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, o Options) *Config {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaultsWithoutAnyFile(t *testing.T) {
	c := mustLoad(t, Options{defaultPath: filepath.Join(t.TempDir(), "listener.toml")})
	want := Default()
	want.Host = c.Host
	if diff := Diff(c, want); diff != nil {
		t.Errorf("differs from Default in %v", diff)
	}
	for _, f := range settings().fields {
		if got := c.Origin(f.name); got != "default" {
			t.Errorf("origin of %s: %s", f.name, got)
		}
	}
}

// TestPrecedence sets one setting in ever more layers; the highest counts.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "listener.toml")
	o := Options{Path: path, defaultPath: path}
	check := func(region, from string) {
		t.Helper()
		c := mustLoad(t, o)
		if c.Region != region || c.Origin("region") != from {
			t.Errorf("region %q from %q, want %q from %q", c.Region, c.Origin("region"), region, from)
		}
	}
	o.Path = ""
	check("default", "default")
	o.Path = path
	write(t, dir, "listener.toml", "# comment\nregion = 'file'\n")
	check("file", path+":2")
	write(t, dir, "conf.d/10-a.toml", "region = 'a'")
	check("a", dir+"/conf.d/10-a.toml:1")
	write(t, dir, "conf.d/20-b.toml", "\n\nregion = 'b'")
	write(t, dir, "conf.d/.30-hidden.toml", "region = 'hidden'")
	write(t, dir, "conf.d/40-other.conf", "region = 'other'")
	check("b", dir+"/conf.d/20-b.toml:3")
	o.Environ = []string{"LISTENER_CFG_REGION=old", "PATH=/bin", "LISTENER_CFG_REGION=env", "LISTENER_OTHER=x", "LISTENER_SOCKET=/s"}
	check("env", "environment LISTENER_CFG_REGION")
	o.Flags = map[string]string{"region": "flag"}
	check("flag", "flag --region")
}

func TestLayersMeet(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "listener.toml", `
manifests = ["services", "/abs/../services"]
[store]
kind = "etcd"
prefix = "/a"
etcd.endpoints = ["https://10.0.0.1"]
[provision]
command = ["./run.sh", "-x", "./y"]
[throttle]
settle = 0
splay = "1m30s"
`)
	c := mustLoad(t, Options{
		Path: path,
		Environ: []string{
			"LISTENER_CFG_STORE__ETCD__ENDPOINTS=10.0.0.2:1, 10.0.0.3", "LISTENER_CFG_THROTTLE__BURST=0",
			"LISTENER_CFG_PROVISION__SUCCESS_EXIT_CODES=0,3", "LISTENER_CFG_REGION_ORDER=", `LISTENER_CFG_ENV__FORMATS=["json", 'shell']`,
			`LISTENER_CFG_ATTRIBUTES=["/a,b","/c\/d"]`,
		},
		Flags: map[string]string{"store.prefix": "/b", "history.max_size": "1GiB", "api.mode": "0600", "env.dir": "out"},
	})
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Host, want.Manifests, want.Attributes = c.Host, []string{dir + "/services", "/services"}, []string{"/a,b", "/c/d"}
	want.Store.Kind, want.Store.Prefix, want.Store.Etcd.Endpoints = "etcd", "/b", []string{"10.0.0.2:1", "10.0.0.3"}
	want.Provision.Command, want.Provision.SuccessExitCodes = []string{dir + "/run.sh", "-x", "./y"}, []int{0, 3}
	want.Env.Formats, want.Env.Dir = []string{"json", "shell"}, filepath.Join(wd, "out")
	want.Throttle.Settle, want.Throttle.Splay, want.Throttle.Burst = 0, 90*time.Second, 0
	want.History.MaxSize, want.API.Mode = 1<<30, 0o600
	for _, name := range Diff(c, want) {
		t.Errorf("%s is not what was set", name)
	}
	if t.Failed() {
		_ = c.Print(os.Stderr)
	}
	if got := c.Origin("store.etcd.endpoints"); got != "environment LISTENER_CFG_STORE__ETCD__ENDPOINTS" {
		t.Error(got)
	}
	if got, want := c.Origin("throttle.settle"), path+":10"; got != want {
		t.Errorf("origin %s, want %s", got, want)
	}
}

func TestConfigVariable(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "x.toml", "region = 'x'")
	if c := mustLoad(t, Options{Environ: []string{"LISTENER_CONFIG=" + path}}); c.Region != "x" {
		t.Errorf("region %q", c.Region)
	}
	_, err := Load(Options{Environ: []string{"LISTENER_CONFIG=" + path + "y"}})
	if want := path + "y: no such file or directory (LISTENER_CONFIG names it)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("is not fs.ErrNotExist")
	}
	if c := mustLoad(t, Options{Path: os.DevNull, Environ: []string{"LISTENER_CONFIG=/nowhere"}}); c.Region != "default" {
		t.Errorf("region %q", c.Region)
	}
}

// TestConfDWithoutMainFile: the default file may be missing, its conf.d counts.
func TestConfDWithoutMainFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "conf.d/a.toml", "state_dir = 'state'")
	c := mustLoad(t, Options{defaultPath: filepath.Join(dir, "listener.toml")})
	if want := filepath.Join(dir, "state"); c.StateDir != want {
		t.Errorf("state_dir %s, want %s", c.StateDir, want)
	}
}

func TestStoreURLLayers(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "l.toml", "[store]\nkind = 'nats'\nprefix = '/p'\npath = 'db'")
	o := Options{Path: path, SkipHost: true, Environ: []string{"LISTENER_STORE=etcd://h1,h2:1", "LISTENER_CFG_STORE__KIND=nats"}}
	c := mustLoad(t, o)
	if c.StoreURL() != "etcd://h1:2379,h2:1" || c.Origin("store.kind") != "environment LISTENER_STORE" || c.Store.Prefix != "/p" {
		t.Errorf("%s from %s, prefix %s", c.StoreURL(), c.Origin("store.kind"), c.Store.Prefix)
	}
	o.Flags = map[string]string{"store": "local:/x/y", "socket": "/run/s", "store.prefix": "/q"}
	c = mustLoad(t, o)
	if c.StoreFile() != "/x/y/store.db" || c.Origin("store.path") != "flag --store" || c.Store.Prefix != "/q" {
		t.Errorf("%s from %s, prefix %s", c.StoreFile(), c.Origin("store.path"), c.Store.Prefix)
	}
	if c.Host != "" {
		t.Errorf("host %q in spite of SkipHost", c.Host)
	}
	if c.API.Socket != "/run/s" || c.Origin("api.socket") != "flag --socket" {
		t.Errorf("socket %s from %s", c.API.Socket, c.Origin("api.socket"))
	}
	c = mustLoad(t, Options{Path: path, Environ: []string{"LISTENER_STORE="}})
	if c.StoreURL() != "nats://127.0.0.1:4222" || c.StoreFile() != dir+"/db/store.db" {
		t.Errorf("%s, file %s", c.StoreURL(), c.StoreFile())
	}
	c = mustLoad(t, Options{Path: os.DevNull})
	if c.StoreURL() != "local:/var/lib/listener" || c.StoreFile() != "/var/lib/listener/store.db" {
		t.Errorf("%s, file %s", c.StoreURL(), c.StoreFile())
	}
}

func TestBalancers(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "l.toml", "[[balancer]]\n[[balancer]]\nkind = 'public'\npath = 'b.cfg'\n")
	extra := write(t, dir, "conf.d/x.toml", "balancer = [\n {engine = 'nginx.tmpl', path = '/n',\n  min_interval = 0},\n]")
	c := mustLoad(t, Options{Path: path})
	want := []Balancer{defaultBalancer(), defaultBalancer(), {
		Kind: "local", Engine: dir + "/nginx.tmpl", Bind: "127.0.0.1", Port: 80, Path: "/n", Keys: "needed",
	}}
	want[1].Kind, want[1].Path = "public", dir+"/b.cfg"
	if !(&Config{Balancers: want}).Equal(&Config{Balancers: c.Balancers}) {
		t.Errorf("got %+v, want %+v", c.Balancers, want)
	}
	for name, from := range map[string]string{
		"balancer": extra + ":1", "balancer[0]": path + ":1", "balancer[0].kind": "default",
		"balancer[1].path": path + ":4", "balancer[2].min_interval": extra + ":3",
	} {
		if got := c.Origin(name); got != from {
			t.Errorf("origin of %s: %s, want %s", name, got, from)
		}
	}
	write(t, dir, "conf.d/y.toml", "balancer = []")
	write(t, dir, "conf.d/z.toml", "[[balancer]]\nbind = '*'")
	c = mustLoad(t, Options{Path: path})
	if len(c.Balancers) != 1 || c.Balancers[0].Bind != "*" || c.Origin("balancer[1].path") != "default" {
		t.Errorf("after balancer = []: %+v", c.Balancers)
	}
	for _, text := range []string{`[{kind = "internal"}]`, `[{"kind": "internal"}]`} {
		c = mustLoad(t, Options{Path: path, Environ: []string{"LISTENER_CFG_BALANCER=" + text}})
		if len(c.Balancers) != 1 || c.Balancers[0].Kind != "internal" || c.Origin("balancer[0].kind") != "environment LISTENER_CFG_BALANCER" {
			t.Errorf("%s: %+v from %s", text, c.Balancers, c.Origin("balancer[0].kind"))
		}
	}
	if c = mustLoad(t, Options{Path: path, Flags: map[string]string{"balancer": ""}}); len(c.Balancers) != 0 {
		t.Errorf("emptied by flag: %+v", c.Balancers)
	}
}

// TestPrintRoundTrip: what Print writes is read back to the same settings, and
// what is printed then differs in origins only.
func TestPrintRoundTrip(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "a\tb.toml", `
node = "n\u0001\"\\é"
host = "::1"
region_order = ["a", "#b"]
[provision]
command = ["sh", "-c", "echo '\u007f' \t\n \"\"\""]
timeout = "1h30m5s"
[history]
max_size = "1536KiB"
[[balancer]]
[[balancer]]
path = "/x"
check = []
`)
	_, err := Load(Options{Path: path})
	if err == nil {
		t.Fatal("a control character in node was taken")
	}
	for _, strip := range []string{`\u0001`} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "a\tb.toml", strings.ReplaceAll(string(data), strip, ""))
	}
	roundTrip(t, mustLoad(t, Options{Path: path, Flags: map[string]string{"throttle.burst": "7"}}))
	roundTrip(t, mustLoad(t, Options{Path: os.DevNull}))
}

func roundTrip(t *testing.T, c *Config) {
	t.Helper()
	var first, second bytes.Buffer
	if err := c.Print(&first); err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, Options{Path: write(t, t.TempDir(), "l.toml", first.String())})
	if diff := Diff(c, again); diff != nil {
		t.Fatalf("differs in %v after reading\n%s", diff, first.String())
	}
	if err := again.Print(&second); err != nil {
		t.Fatal(err)
	}
	if a, b := withoutOrigins(first.String()), withoutOrigins(second.String()); !slices.Equal(a, b) {
		t.Errorf("printed\n%s\nthen\n%s", first.String(), second.String())
	}
}

func withoutOrigins(text string) []string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = line[:max(strings.LastIndex(line, "  # "), 0)]
	}
	return lines
}

func TestPrintShowsOrigins(t *testing.T) {
	path := write(t, t.TempDir(), "l.toml", "[store]\nprefix = '/a'\n[[balancer]]\nkeys = 'all'")
	c := mustLoad(t, Options{
		Path: path, Environ: []string{"LISTENER_CFG_RETRY__BASE=90s"}, Flags: map[string]string{"env.mode": "600"},
	})
	var text, doc bytes.Buffer
	if err := errors.Join(c.Print(&text), c.PrintJSON(&doc)); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"region = \"default\"  # default\n", "\n[store]\n", `prefix = "/a"  # ` + path + ":2\n",
		"\n[[balancer]]  # " + path + ":3\n", `keys = "all"  # ` + path + ":4\n",
		"base = \"1m30s\"  # environment LISTENER_CFG_RETRY__BASE\n", "mode = \"0600\"  # flag --env.mode\n",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("%q is not in\n%s", line, text.String())
		}
	}
	for _, part := range []string{
		"\"env.mode\": {\n    \"value\": \"0600\",\n    \"origin\": \"flag --env.mode\"\n  }", `"balancer[0].keys": {`, "\"provision.locks\": {\n    \"value\": [],",
	} {
		if !strings.Contains(doc.String(), part) {
			t.Errorf("%s is not in\n%s", part, doc.String())
		}
	}
}

func TestDiffAndRestart(t *testing.T) {
	a, b := Default(), Default()
	if Diff(a, b) != nil || !a.Equal(b) {
		t.Error("Default differs from itself")
	}
	b.Store.Etcd.Endpoints = append(b.Store.Etcd.Endpoints, "h")
	b.Throttle.Burst++
	b.RegionOrder = nil // the same as none
	b.Balancers = []Balancer{defaultBalancer()}
	want := []string{"store.etcd.endpoints", "throttle.burst", "balancer"}
	if got := Diff(a, b); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	a.Balancers = []Balancer{defaultBalancer()}
	a.Balancers[0].Check = []string{"true"}
	if got := Diff(a, b); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	restart := RestartOnly()
	for name, want := range map[string]bool{
		"node": true, "host": false, "state_dir": true, "run_dir": true, "store.kind": true, "store.nats.servers": true,
		"api.socket": true, "throttle.burst": false, "provision.command": false, "federation": true,
	} {
		if slices.Contains(restart, name) != want {
			t.Errorf("%s needs a restart: want %t", name, want)
		}
	}
}

func TestSet(t *testing.T) {
	c := Default()
	if err := c.Set("throttle.settle", "0", "a test"); err != nil || c.Throttle.Settle != 0 || c.Origin("throttle.settle") != "a test" {
		t.Errorf("%v, %v from %s", err, c.Throttle.Settle, c.Origin("throttle.settle"))
	}
	err := c.Set("throttle.settle", "soon", "a test")
	if want := `a test: throttle.settle: "soon" is not a duration (` + shape(durationType) + `)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if c.Throttle.Settle != 0 {
		t.Error("an error changed the setting")
	}
}

func TestDev(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	path := write(t, dir, "listener.toml", "node = 'other'\nstate_dir = 7\n[provision]\ncommand = ['./run']\ntimeout = '5s'\n[throttle]\nsettle = '1h'")
	write(t, dir, "conf.d/a.toml", "[provision]\ntimeout = '9s'")
	c, err := Dev(dir, tmp, Options{Environ: []string{"LISTENER_CFG_THROTTLE__BURST=5", "LISTENER_STORE=etcd://prod"}, Flags: map[string]string{"region": "r"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Host, want.Region = c.Host, "r"
	want.Manifests, want.Attributes = []string{dir + "/data_bags/service"}, []string{dir + "/attributes.toml"}
	want.StateDir, want.RunDir, want.Env.Dir, want.API.Socket = tmp+"/state", tmp+"/run", tmp+"/services.d", tmp+"/listener.sock"
	want.Throttle.Settle, want.Throttle.MinInterval, want.Throttle.Burst = 100*time.Millisecond, time.Second, 5
	want.Retry.Base = time.Second
	want.Provision.Command, want.Provision.Timeout = []string{dir + "/run"}, 5*time.Second
	if diff := Diff(c, want); diff != nil {
		t.Errorf("differs in %v", diff)
	}
	if c.Host == "" {
		t.Error("no host")
	}
	if c.Origin("state_dir") != "listener dev" || c.Origin("provision.timeout") != path+":5" {
		t.Errorf("origins %q, %q", c.Origin("state_dir"), c.Origin("provision.timeout"))
	}
	write(t, dir, "listener.toml", "[provison]\n")
	_, err = Dev(dir, tmp, Options{})
	if want := path + ":1:1: provison: unknown setting (the nearest known one is provision)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSuccessCodes(t *testing.T) {
	for preset, want := range map[string][]int{"": {0, 2, 9}, "chef": {0, 2, 9, 35, 37}, "puppet": {0, 2, 9}} {
		p := Provision{Preset: preset, SuccessExitCodes: []int{9, 0, 2}}
		if got := p.SuccessCodes(); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", preset, got, want)
		}
	}
}
