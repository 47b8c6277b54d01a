package config

import (
	"io/fs"
	"time"
)

// Config is every setting of a node, one struct per table. The
// comment of a field is its documentation: `go test ./config -update` makes
// docs/settings.md and docs.txt from it.
//
// Tags: `toml` is the name; `path` says that relative paths are resolved
// ("text", "list", "argv": only a first word with a slash, "engine": unless
// it is haproxy); `default` is what the documentation says where the default
// depends on the machine.
type Config struct {
	// The name of this node in the store, at most 253 bytes; no two nodes of a federation share one. The default is
	// the host name as the kernel has it, domain included; where that is empty or localhost, "node-" and eight digits made from the machine id.
	Node string `toml:"node" default:"the host name"`
	// The address or name under which other nodes reach this one: what {HOST} becomes. The default is the source
	// address of the route to the store, else of the default route; where there is none, services that use {HOST} wait until there is one.
	Host string `toml:"host" default:"the address of the route to the store"`
	// The segregated world of services that this node belongs to, at most 253 bytes. Empty: the one kept in
	// state_dir, else the one that the manifests name, else "default".
	Federation string `toml:"federation"`
	// Where this node is, at most 253 bytes, never empty. Providers of the own region are used first.
	Region string `toml:"region"`
	// The regions to fall back to, in this order, when the own region has no provider. Empty: none.
	RegionOrder []string `toml:"region_order"`
	// Directories that hold one manifest per service, ID.json. Empty: no services.
	Manifests []string `toml:"manifests" path:"list"`
	// Files with static fallback values; of two that name a key the later one counts. Empty: none. A file that does not exist counts as empty.
	Attributes []string `toml:"attributes" path:"list"`
	// Directory for what must survive a boot: run history, throttle, digests, the local store. Never empty.
	StateDir string `toml:"state_dir" path:"text"`
	// Directory for what must not survive a boot: jobs and results of steps, node.json. Never empty.
	RunDir string `toml:"run_dir" path:"text"`

	// The configuration store that this node follows.
	Store Store `toml:"store"`
	// The command that provisions this node.
	Provision Provision `toml:"provision"`
	// The environment files that are written for each service.
	Env Env `toml:"env"`
	// How runs are spaced over time. Throttling counts runs, never calls.
	Throttle Throttle `toml:"throttle"`
	// When a failed step is tried again: after a random time that grows from base to max.
	Retry Retry `toml:"retry"`
	// How many run records and logs are kept.
	History History `toml:"history"`
	// How this node tells others what its services provide.
	Publish Publish `toml:"publish"`
	// How services are checked when their manifest asks for it.
	Check Check `toml:"check"`
	// What keeps an outage from emptying lists, and a returning provider from moving clients at once.
	Protect Protect `toml:"protect"`
	// Load balancers that run on this node: one [[balancer]] table each. Those of later files are added to those of
	// earlier ones; `balancer = []` drops what came before; environment and flags replace all. Default: none.
	Balancers []Balancer `toml:"balancer"`
	// The agent's local API.
	API API `toml:"api"`

	origins map[string]origin
}

// Store says which store this node follows and how.
type Store struct {
	// Which store: local (one machine, an embedded file), etcd or nats.
	Kind string `toml:"kind"`
	// What all keys begin with, as /part/part with parts of A-Z a-z 0-9 _ . - and no slash at the end.
	Prefix string `toml:"prefix"`
	// How long a start waits for the store before it goes on with the replica on disk. 0: does not wait.
	BootWait time.Duration `toml:"boot_wait"`
	// What this node keeps of the store: needed (the keys that its services name) or all (every value and provider of its federation, so
	// that also services yet to come, and the command get, have them while the store is away).
	Replica string `toml:"replica"`
	// Directory of the local store, which is its file store.db. Empty: state_dir.
	Path string `toml:"path" path:"text"`
	// The etcd cluster, for kind = "etcd"; see docs/stores.md.
	Etcd Etcd `toml:"etcd"`
	// The NATS JetStream servers, for kind = "nats"; see docs/stores.md.
	NATS NATS `toml:"nats"`
}

// Etcd is the table [store.etcd].
type Etcd struct {
	// Members as http://host:port or https://host:port. Without a scheme it is https when ca_file or cert_file is
	// set, else http; without a port 2379. User names and passwords do not belong here.
	Endpoints []string `toml:"endpoints"`
	// PEM file of the authority that signed the servers' certificates. Empty: the system's.
	CAFile string `toml:"ca_file" path:"text"`
	// PEM file of the client certificate. Empty: none. Goes with key_file.
	CertFile string `toml:"cert_file" path:"text"`
	// PEM file of the client certificate's key. Empty: none. Goes with cert_file.
	KeyFile string `toml:"key_file" path:"text"`
	// The name that the servers' certificates must have. Empty: the host of the endpoint.
	ServerName string `toml:"server_name"`
	// User name for etcd's own access control. Empty: none. Goes with password_file.
	Username string `toml:"username"`
	// File whose content is the password; one newline at its end is dropped. Empty: none. Goes with username.
	PasswordFile string `toml:"password_file" path:"text"`
}

// NATS is the table [store.nats].
type NATS struct {
	// Servers as nats://host:port or tls://host:port. Without a scheme it is nats, without a port 4222. User names
	// and passwords do not belong here.
	Servers []string `toml:"servers"`
	// The key-value bucket: A-Z a-z 0-9 _ -, never empty.
	Bucket string `toml:"bucket"`
	// Copies of the bucket that the cluster keeps when this node creates it: 1 … 5.
	Replicas int `toml:"replicas"`
	// Credentials file of a NATS user (JWT and key). Empty: none. Not together with nkey_file.
	CredsFile string `toml:"creds_file" path:"text"`
	// File with an nkey seed. Empty: none. Not together with creds_file.
	NkeyFile string `toml:"nkey_file" path:"text"`
	// PEM file of the authority that signed the servers' certificates. Empty: the system's.
	CAFile string `toml:"ca_file" path:"text"`
	// PEM file of the client certificate. Empty: none. Goes with key_file.
	CertFile string `toml:"cert_file" path:"text"`
	// PEM file of the client certificate's key. Empty: none. Goes with cert_file.
	KeyFile string `toml:"key_file" path:"text"`
}

// Provision is the table [provision].
type Provision struct {
	// The node's command and its arguments; no shell. {NODE_JSON} is the path of node.json. A first word that has a
	// slash and is relative is relative to the settings file. Empty: only environment files are written.
	Command []string `toml:"command" path:"argv"`
	// How long one step may take before it is ended. 0: as long as it likes.
	Timeout time.Duration `toml:"timeout"`
	// How long a step that is being ended has between TERM and KILL. 0: KILL at once.
	KillAfter time.Duration `toml:"kill_after"`
	// Exit codes, 0 … 255, that mean success; never empty. A preset adds to them.
	SuccessExitCodes []int `toml:"success_exit_codes"`
	// What the command is: chef (35 and 37, a reboot that chef asked for, are success too; chef's lock file is
	// respected), puppet (2, changes were made, is success too; puppet's lock file is respected) or empty.
	Preset string `toml:"preset"`
	// What runs the steps: systemd (a transient unit), direct (a child process) or auto (systemd when the agent is
	// root and /run/systemd/system exists, else direct). A step for which systemd does not start a unit is a child
	// process, and a condition says so.
	Runner string `toml:"runner"`
	// Lock files of others that mean "a provisioner is running": a run waits while one is held. Empty: only those of the preset.
	Locks []string `toml:"locks" path:"list"`
}

// Env is the table [env].
type Env struct {
	// Directory of the environment files. Never empty.
	Dir string `toml:"dir" path:"text"`
	// Which files are written: shell (export K='v' in ID.conf), systemd (K="v" in ID.env), json (ID.json). Empty: none.
	Formats []string `toml:"formats"`
	// Mode of the files, octal; never writable for all.
	Mode fs.FileMode `toml:"mode"`
}

// Throttle is the table [throttle].
type Throttle struct {
	// How long it must be quiet after a change before a run starts. 0: a run starts at once.
	Settle time.Duration `toml:"settle"`
	// How long changes that keep coming can put off a run; at least settle.
	SettleMax time.Duration `toml:"settle_max"`
	// Least time between the starts of two runs. 0: none.
	MinInterval time.Duration `toml:"min_interval"`
	// How many runs may start within window. 0: any number.
	Burst int `toml:"burst"`
	// The time in which burst runs may start; one comes back each window/burst. 0: any number of runs may start.
	Window time.Duration `toml:"window"`
	// Each run waits a random time up to this, so that many nodes do not start at once. 0: no wait.
	Splay time.Duration `toml:"splay"`
}

// Retry is the table [retry].
type Retry struct {
	// Least wait after a failed step; at least 1ms.
	Base time.Duration `toml:"base"`
	// Longest wait after a failed step; at least base.
	Max time.Duration `toml:"max"`
}

// History is the table [history].
type History struct {
	// How many runs are remembered, with their logs; at least 1.
	Keep int `toml:"keep"`
	// Bytes that records and logs may take together: a number with B, kB, MB, GB (powers of 1000) or KiB, MiB, GiB. 0: no limit.
	MaxSize int64 `toml:"max_size"`
}

// Publish is the table [publish].
type Publish struct {
	// How long the entries of a node that died stay in the store; at least 1s. A new one counts from the node's next
	// session on: after a boot, or when the store ended the present one.
	TTL time.Duration `toml:"ttl"`
	// How often a node compares what it published with the store; at least 1s.
	AntiEntropy time.Duration `toml:"anti_entropy"`
	// How long entries are marked as draining before they are withdrawn. 0: withdrawn at once.
	DrainWait time.Duration `toml:"drain_wait"`
	// When a stopping agent withdraws its entries: always, never, or shutdown (only when the machine goes down).
	WithdrawOnStop string `toml:"withdraw_on_stop"`
}

// Check is the table [check].
type Check struct {
	// Time between two checks of a service; at least 1ms.
	Interval time.Duration `toml:"interval"`
	// How long one check may take; at least 1ms.
	Timeout time.Duration `toml:"timeout"`
	// Checks that must pass in a row before a service is up; at least 1.
	Rise int `toml:"rise"`
	// Checks that must fail in a row before a service is down; at least 1.
	Fall int `toml:"fall"`
}

// Protect is the table [protect].
type Protect struct {
	// Removals are held when more than this percentage of all provider entries expire within a minute: 0 … 100. 100: never.
	HoldPercent int `toml:"hold_percent"`
	// Removals are held only when more than this many entries expire; at least 0.
	HoldMin int `toml:"hold_min"`
	// Longest time that removals are held. 0: they are not.
	HoldMax time.Duration `toml:"hold_max"`
	// How long a better provider must have been back before it is used again. 0: at once.
	FailbackDelay time.Duration `toml:"failback_delay"`
}

// Balancer is one table [[balancer]].
type Balancer struct {
	// Whom it serves: local (the services of this node), internal (other nodes) or public (the world, by HTTP host).
	Kind string `toml:"kind"`
	// What it is: haproxy, or the path of a template file for another one.
	Engine string `toml:"engine" path:"engine"`
	// Address that its frontends listen on; * is all of IPv4.
	Bind string `toml:"bind"`
	// Port of its one frontend, 1 … 65535; kind public only. The others listen on each service's local_port.
	Port int `toml:"port"`
	// The file that is written for it. No two balancers write one file. With a template as engine it has no default.
	Path string `toml:"path" path:"text"`
	// Command that checks a candidate of the file, {path}. Empty: no check, which is the default with a template as engine.
	Check []string `toml:"check" path:"argv"`
	// Command that makes it read the file again. Empty: none, which is the default with a template as engine.
	Reload []string `toml:"reload" path:"argv"`
	// HAProxy's runtime socket, for changes without a reload. Empty: every change is a reload.
	Socket string `toml:"socket" path:"text"`
	// Which keys it is for, kind public too: needed (those that this node's services name) or all.
	Keys string `toml:"keys"`
	// Least time between two updates. 0: none.
	MinInterval time.Duration `toml:"min_interval"`
}

// API is the table [api].
type API struct {
	// Path of the unix socket, at most 107 bytes. Never empty.
	Socket string `toml:"socket" path:"text"`
	// Mode of the socket, octal: who may write to it may do anything that the agent can be told to do.
	Mode fs.FileMode `toml:"mode"`
	// Group of the socket, by name or number. Empty: the agent's.
	Group string `toml:"group"`
}
