// Package config reads a node's settings: defaults, the settings file, its
// conf.d, the environment and flags, each above the one before, with the
// origin of every setting.
package config

import (
	"cmp"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultPath is the settings file when neither an option nor LISTENER_CONFIG
// names one.
const DefaultPath = "/etc/listener/listener.toml"

// Options says where Load reads. The zero value reads DefaultPath only.
type Options struct {
	// Path of the settings file. Empty: LISTENER_CONFIG of Environ, else
	// DefaultPath. A missing default file is fine, a missing named one is not.
	Path string
	// Environ is the environment as os.Environ gives it. nil: none.
	Environ []string
	// Flags are settings by name, as text ("store.kind": "etcd"). Two names
	// are those of flags: "store" is a URL for ParseStoreURL, "socket" is
	// api.socket.
	Flags map[string]string

	// SkipHost leaves Host empty when it is not set: for commands that do not
	// need it and must not wait for a name server.
	SkipHost bool

	// defaultPath replaces DefaultPath in tests.
	defaultPath string
}

// Load reads all layers. The error is Errors, with every problem found.
//
// From lowest to highest: defaults; the settings file; conf.d/*.toml beside
// it, by name; LISTENER_CFG_* variables (LISTENER_CFG_STORE__KIND is
// store.kind); LISTENER_STORE, a store URL; flags. A list replaces that of the
// layer below, but for balancers in files, which add up. Relative paths are
// relative to the directory of the settings file, those of conf.d too; in
// variables and flags they are relative to the working directory.
//
// Load does not block on the network, but for at most a second when the
// store's endpoints are host names and host has to be found.
func Load(o Options) (*Config, error) {
	l := &loader{cfg: Default(), skipHost: o.SkipHost}
	l.files(o)
	l.environ(o.Environ)
	l.flags(o.Flags)
	return l.finish()
}

// Default is the settings without any file. Host is empty: Load fills it.
func Default() *Config {
	return &Config{
		Node:        defaultNode(),
		Region:      "default",
		RegionOrder: []string{},
		Manifests:   []string{"/etc/listener/data_bags/service"},
		Attributes:  []string{"/etc/listener/attributes.toml"},
		StateDir:    "/var/lib/listener",
		RunDir:      "/run/listener",
		Store: Store{
			Kind: "local", Prefix: "/listener/v1", BootWait: 10 * time.Second, Replica: "needed",
			Etcd: Etcd{Endpoints: []string{"http://127.0.0.1:2379"}},
			NATS: NATS{Servers: []string{"nats://127.0.0.1:4222"}, Bucket: "listener", Replicas: 1},
		},
		Provision: Provision{
			Command: []string{}, Timeout: time.Hour, KillAfter: 30 * time.Second,
			SuccessExitCodes: []int{0}, Runner: "auto", Locks: []string{},
		},
		Env: Env{Dir: "/etc/services.d", Formats: []string{"shell"}, Mode: 0o640},
		Throttle: Throttle{
			Settle: time.Second, SettleMax: 10 * time.Second, MinInterval: 10 * time.Second,
			Burst: 6, Window: 10 * time.Minute,
		},
		Retry:   Retry{Base: 10 * time.Second, Max: 10 * time.Minute},
		History: History{Keep: 100, MaxSize: 100e6},
		Publish: Publish{
			TTL: 30 * time.Second, AntiEntropy: time.Minute, DrainWait: 10 * time.Second,
			WithdrawOnStop: "shutdown",
		},
		Check: Check{Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		Protect: Protect{
			HoldPercent: 15, HoldMin: 3, HoldMax: 15 * time.Minute, FailbackDelay: 5 * time.Minute,
		},
		Balancers: []Balancer{},
		API:       API{Socket: "/run/listener/listener.sock", Mode: 0o660},
	}
}

// defaultBalancer is a [[balancer]] without settings.
func defaultBalancer() Balancer {
	return Balancer{
		Kind: "local", Engine: engineHAProxy, Bind: "127.0.0.1", Port: 80, Path: "/etc/haproxy/haproxy.cfg",
		Check:  []string{"haproxy", "-c", "-f", "{path}"},
		Reload: []string{"systemctl", "reload", "haproxy"},
		Keys:   "needed", MinInterval: time.Second,
	}
}

const engineHAProxy = "haproxy"

// origin is where a setting was set; the zero value is the default.
type origin struct {
	file         string // as in Error.File
	line, column int
}

func (o origin) String() string {
	switch {
	case o.file == "":
		return "default"
	case o.line == 0:
		return oneLine(o.file)
	default:
		return oneLine(o.file) + ":" + strconv.Itoa(o.line)
	}
}

// Origin says where a setting such as store.kind or balancer[0].path got its
// value: "default", "FILE:LINE", "environment NAME" or "flag --NAME".
func (c *Config) Origin(name string) string { return c.origins[name].String() }

// Set changes one setting after Load and says so in its origin. value is as a
// flag would give it. An error leaves the setting as it was; relations to
// other settings are not checked.
func (c *Config) Set(name, value, from string) error {
	l := &loader{cfg: c}
	l.text(name, value, origin{file: from})
	return l.errs.err()
}

// StoreFile is the file of the local store.
func (c *Config) StoreFile() string {
	return filepath.Join(cmp.Or(c.Store.Path, c.StateDir), "store.db")
}

// StoreURL is the store as ParseStoreURL reads it, for messages.
func (c *Config) StoreURL() string {
	s := c.Store
	s.Path = filepath.Dir(c.StoreFile())
	return s.String()
}

// SuccessCodes is success_exit_codes with those of the preset, sorted.
func (p Provision) SuccessCodes() []int {
	codes := slices.Clone(p.SuccessExitCodes)
	switch p.Preset {
	case "chef": // chef RFC 062: reboot scheduled, reboot needed
		codes = append(codes, 35, 37)
	case "puppet": // --detailed-exitcodes: changes were made
		codes = append(codes, 2)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// RestartOnly names the settings that a running agent cannot take over on
// reload.
func RestartOnly() []string {
	var names []string
	for _, f := range settings().fields {
		table, _, _ := strings.Cut(f.name, ".")
		switch {
		case slices.Contains([]string{"node", "federation", "region", "state_dir", "run_dir", "store", "api"}, table), f.name == "provision.runner":
			names = append(names, f.name)
		}
	}
	return names
}

// Diff names the settings in which a and b differ, in the order of the
// documentation; balancers count as one, "balancer". nil: none.
func Diff(a, b *Config) []string {
	var names []string
	av, bv := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for _, f := range settings().fields {
		if !same(av.FieldByIndex(f.index), bv.FieldByIndex(f.index)) {
			names = append(names, f.name)
		}
	}
	return names
}

// same is equality in which an absent list is an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() != reflect.Slice {
		return reflect.DeepEqual(a.Interface(), b.Interface())
	}
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		x, y := a.Index(i), b.Index(i)
		if x.Kind() != reflect.Struct {
			if !x.Equal(y) {
				return false
			}
			continue
		}
		for j := range x.NumField() {
			if !same(x.Field(j), y.Field(j)) {
				return false
			}
		}
	}
	return true
}

// Equal says whether the settings are the same, wherever they come from.
func (c *Config) Equal(other *Config) bool { return Diff(c, other) == nil }
