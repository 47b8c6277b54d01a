package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var longName = strings.Repeat("r", maxName+1)

// fileErrors gives the exact text for each mistake in a settings file, without
// the file's name.
var fileErrors = []struct{ name, file, want string }{
	{"unknown", "stat_dir = '/x'", `1:1: stat_dir: unknown setting (the nearest known one is state_dir)`},
	{"unknown in a table", "[store]\n  knd = 'etcd'", `2:3: store.knd: unknown setting (the nearest known one is store.kind)`},
	{"unknown deep", "[store.etcd]\nendpoint = []", `2:1: store.etcd.endpoint: unknown setting (the nearest known one is store.etcd.endpoints)`},
	{"in the wrong table", "success_exit_codes = [0]", `1:1: success_exit_codes: unknown setting (the nearest known one is provision.success_exit_codes)`},
	{"unknown table", "[stroe]\nkind = 'etcd'", `1:1: stroe: unknown setting (the nearest known one is store)`},
	{"dashes and capitals", "State-Dir = '/x'", `1:1: State-Dir: unknown setting (the nearest known one is state_dir)`},
	{"quoted with a dot", "'store.kind' = 'etcd'", `1:1: store.kind: unknown setting (the nearest known one is store.kind)`},
	{"table is a text", "store = 'etcd'", `1:1: store: this is a text, not a table (write [store] on a line of its own and its settings below it)`},
	{"text is a table", "[node]", `1:1: node: this is a table, not a text (write a text in quotes)`},
	{"text is a number", "node = 7", `1:1: node: this is a number, not a text (write a text in quotes)`},
	{"list is a text", "manifests = '/x'", `1:1: manifests: this is a text, not a list of texts (write a list of texts, such as ["a", "b"])`},
	{"list of numbers", "manifests = ['/x', 1]", `1:1: manifests: element 2: this is a number, not a text (write a text in quotes)`},
	{"number is a text", "throttle.burst = '6'", `1:1: throttle.burst: this is a text, not a number (write a whole number, such as 6)`},
	{"number with a fraction", "throttle.burst = 1.5", `1:1: throttle.burst: this is a number with a fraction, not a number (write a whole number, such as 6)`},
	{"numbers are texts", "provision.success_exit_codes = ['0']", `1:1: provision.success_exit_codes: element 1: this is a text, not a number (write a whole number, such as 6)`},
	{"duration is a number", "[throttle]\nsettle = 5", `2:1: throttle.settle: this is a number, not a duration (write a duration with its unit, such as "500ms", "10s", "5m" or "1h30m")`},
	{"duration is true", "throttle.settle = true", `1:1: throttle.settle: this is true or false, not a duration (write a duration with its unit, such as "500ms", "10s", "5m" or "1h30m")`},
	{"duration without unit", "throttle.settle = '5'", `1:1: throttle.settle: "5" is not a duration (write a duration with its unit, such as "500ms", "10s", "5m" or "1h30m")`},
	{"duration in days", "provision.timeout = '2d'", `1:1: provision.timeout: "2d" is not a duration (write "48h")`},
	{"duration negative", "throttle.settle = '-1s'", `1:1: throttle.settle: "-1s" is negative (write 0 or more)`},
	{"duration too long", "throttle.settle = '99999999h'", `1:1: throttle.settle: "99999999h" is not a duration (write a duration with its unit, such as "500ms", "10s", "5m" or "1h30m")`},
	{"size", "history.max_size = '5 parsecs'", `1:1: history.max_size: "5 parsecs" is not a size (write a size with its unit, such as "100MB" or "64MiB")`},
	{"size negative", "history.max_size = -1", `1:1: history.max_size: "-1" is negative (write 0 or more)`},
	{"size too large", "history.max_size = '99999999999TB'", `1:1: history.max_size: "99999999999TB" is too large (write a size with its unit, such as "100MB" or "64MiB")`},
	{"mode is a number", "env.mode = 0o640", `1:1: env.mode: this is a number, not a mode (write an octal mode in quotes, such as "0640")`},
	{"mode", "env.mode = '0698'", `1:1: env.mode: "0698" is not a file mode from 0 to 0777 (write an octal mode in quotes, such as "0640")`},
	{"mode with setuid", "api.mode = '4660'", `1:1: api.mode: "4660" is not a file mode from 0 to 0777 (write an octal mode in quotes, such as "0640")`},
	{"mode for all", "env.mode = '0666'", `1:1: env.mode: with "0666" anyone could write what services run with (write "0640")`},
	{"mode for none", "api.mode = '0060'", `1:1: api.mode: with "0060" the agent's own user could not use the socket (write "0660")`},
	{"NUL", `run_dir = "/x\u0000"`, `1:1: run_dir: a NUL byte cannot be part of a setting`},
	{"node empty", "node = ''", `1:1: node: the name of the node is empty (write a name that no other node has)`},
	{"node localhost", "node = 'localhost.localdomain'", `1:1: node: "localhost.localdomain" is every machine's name for itself (write a name that no other node has)`},
	{"node long", "node = '" + longName + "'", `1:1: node: a name of 254 bytes is longer than 253 (write a shorter name)`},
	{"region empty", "region = ''", `1:1: region: a name is empty (write a name, such as "default")`},
	{"federation control", `federation = "a\tb"`, `1:1: federation: "a\tb" has a control character (write it without)`},
	{"region_order twice", "region_order = ['a', 'a']", `1:1: region_order: "a" stands there twice (write each region once)`},
	{"region_order empty", "region_order = ['']", `1:1: region_order: a name is empty (write a name, such as "default")`},
	{"host port", "host = 'web1:80'", `1:1: host: "web1:80" has a port (write an address or a name alone, such as "10.0.0.5" or "web1.example.com")`},
	{"host url", "host = 'http://web1'", `1:1: host: "http://web1" looks like a URL (write an address or a name alone, such as "10.0.0.5" or "web1.example.com")`},
	{"host brackets", "host = '[::1]'", `1:1: host: "[::1]" has brackets, which are added where they are needed (write an address or a name alone, such as "10.0.0.5" or "web1.example.com")`},
	{"path empty", "state_dir = ''", `1:1: state_dir: "" is not a path (write a path, such as "/etc/listener")`},
	{"path in list empty", "manifests = ['a', '']", `1:1: manifests: "" is not a path (write a path, such as "/etc/listener")`},
	{"store.kind", "[store]\nkind = 'consul'", `2:1: store.kind: "consul" is not known here (write "local", "etcd" or "nats")`},
	{"store.prefix", "store.prefix = 'x'", `1:1: store.prefix: "x" does not begin with a slash (write it as in "/listener/v1")`},
	{"store.prefix end", "store.prefix = '/x/'", `1:1: store.prefix: "/x/" ends in a slash (write it as in "/listener/v1")`},
	{"store.prefix part", "store.prefix = '/x//y'", `1:1: store.prefix: "/x//y" has an empty part (write it as in "/listener/v1")`},
	{"store.prefix letters", "store.prefix = '/x/ü'", `1:1: store.prefix: "/x/ü" has a part with other characters than A-Z a-z 0-9 _ . - (write it as in "/listener/v1")`},
	{"store.replica", "store.replica = 'some'", `1:1: store.replica: "some" is not known here (write "needed" or "all")`},
	{"store.boot_wait", "store.boot_wait = '-10s'", `1:1: store.boot_wait: "-10s" is negative (write 0 or more)`},
	{"etcd none", "store.kind = 'etcd'\nstore.etcd.endpoints = []", `2:1: store.etcd.endpoints: there is no server to talk to (write at least one)`},
	{"etcd scheme", "store.etcd.endpoints = ['ftp://h']", `1:1: store.etcd.endpoints: "ftp://h" has the scheme ftp (write https://10.0.0.1:2379)`},
	{"etcd password", "store.etcd.endpoints = ['http://u:secret@h']", `1:1: store.etcd.endpoints: a user name or password does not belong here (write username and password_file, or creds_file, in the settings file)`},
	{"nats port", "store.nats.servers = ['h:99999']", `1:1: store.nats.servers: "h:99999" is not the address of a server (write nats://10.0.0.1:4222)`},
	{"nats bucket", "store.nats.bucket = 'a.b'", `1:1: store.nats.bucket: "a.b" is not the name of a bucket (write letters, digits, _ and -)`},
	{"nats replicas", "store.nats.replicas = 6", `1:1: store.nats.replicas: 6 is out of range (write a number from 1 to 5)`},
	{"nats both", "[store.nats]\ncreds_file = 'a'\nnkey_file = 'b'", `3:1: store.nats.nkey_file: creds_file is set too (drop one of them)`},
	{"half a pair", "[store.etcd]\ncert_file = 'a'", `2:1: store.etcd.cert_file: store.etcd.key_file is not set (set both or none)`},
	{"other half", "[store.etcd]\npassword_file = 'a'", `2:1: store.etcd.password_file: store.etcd.username is not set (set both or none)`},
	{"command", "provision.command = ['', 'x']", `1:1: provision.command: the first word is empty (write the program first, such as ["/usr/bin/chef-solo", "-j", "{NODE_JSON}"])`},
	{"no success", "provision.success_exit_codes = []", `1:1: provision.success_exit_codes: no exit code would be success (write [0])`},
	{"exit code", "provision.success_exit_codes = [256]", `1:1: provision.success_exit_codes: 256 is not an exit code (write numbers from 0 to 255)`},
	{"preset", "provision.preset = 'salt'", `1:1: provision.preset: "salt" is not known here (write "chef", "puppet" or "")`},
	{"runner", "provision.runner = 'docker'", `1:1: provision.runner: "docker" is not known here (write "auto", "systemd" or "direct")`},
	{"formats", "env.formats = ['yaml']", `1:1: env.formats: "yaml" is not known here (write "shell", "systemd" or "json")`},
	{"formats twice", "env.formats = ['json', 'json']", `1:1: env.formats: "json" stands there twice (write each format once)`},
	{"settle", "[throttle]\nsettle = '1m'", `2:1: throttle.settle: throttle.settle_max ("10s") is less than throttle.settle ("1m") (raise throttle.settle_max or lower throttle.settle)`},
	{"settle_max", "[throttle]\nsettle_max = '0'", `2:1: throttle.settle_max: throttle.settle_max ("0s") is less than throttle.settle ("1s") (raise throttle.settle_max or lower throttle.settle)`},
	{"burst", "throttle.burst = -1", `1:1: throttle.burst: -1 is out of range (write a number from 0 to 1000000)`},
	{"retry.base", "retry.base = 0", `1:1: retry.base: "0s" is too short (write "1ms" or more)`},
	{"retry.max", "retry.max = '1s'", `1:1: retry.max: retry.max ("1s") is less than retry.base ("10s") (raise retry.max or lower retry.base)`},
	{"history.keep", "history.keep = 0", `1:1: history.keep: 0 is out of range (write a number from 1 to 1000000)`},
	{"ttl", "publish.ttl = '999ms'", `1:1: publish.ttl: "999ms" is too short (write "1s" or more)`},
	{"withdraw_on_stop", "publish.withdraw_on_stop = 'yes'", `1:1: publish.withdraw_on_stop: "yes" is not known here (write "always", "never" or "shutdown")`},
	{"check.rise", "check.rise = 0", `1:1: check.rise: 0 is out of range (write a number from 1 to 1000000)`},
	{"hold_percent", "protect.hold_percent = 101", `1:1: protect.hold_percent: 101 is out of range (write a number from 0 to 100)`},
	{"socket empty", "api.socket = ''", `1:1: api.socket: "" is not a path (write a path, such as "/etc/listener")`},
	{"socket long", "api.socket = '/" + longName + "'", `1:1: api.socket: a socket's path may have 107 bytes, this one has 255 (write a shorter path)`},
	{"group", "api.group = 'a:b'", `1:1: api.group: "a:b" is not a group (write the name or number of a group)`},
	{"balancer is one table", "[balancer]\nkind = 'local'", `1:1: balancer: this is a table, not a list of tables (write one [[balancer]] table for each)`},
	{"balancer is a list", "balancer = ['local']", `1:1: balancer: this is a list, not a list of tables (write one [[balancer]] table for each)`},
	{"balancer unknown", "[[balancer]]\nengin = 'haproxy'", `2:1: balancer[0].engin: unknown setting (the nearest known one is balancer.engine)`},
	{"balancer kind", "[[balancer]]\nkind = 'x'", `2:1: balancer[0].kind: "x" is not known here (write "local", "internal" or "public")`},
	{"balancer type", "[[balancer]]\ncheck = 'x'", `2:1: balancer[0].check: this is a text, not a list of texts (write a list of texts, such as ["a", "b"])`},
	{"balancer bind", "[[balancer]]\nbind = 'lo'", `2:1: balancer[0].bind: "lo" is not an address (write an address, such as "127.0.0.1", or "*")`},
	{"balancer path", "[[balancer]]\nengine = 'x.tmpl'", `1:1: balancer[0].path: with a template as engine it has no default (write the file that the balancer reads)`},
	{"balancer same path", "[[balancer]]\n[[balancer]]\npath = '/etc/haproxy/haproxy.cfg'", `3:1: balancer[1].path: balancer[0] writes /etc/haproxy/haproxy.cfg too (give each balancer a file of its own)`},
	{"balancer same socket", "[[balancer]]\nsocket = '/run/a'\n[[balancer]]\npath = '/etc/b'\nsocket = '/run/a'", `5:1: balancer[1].socket: balancer[0] has /run/a too (give each HAProxy a socket of its own)`},
	{"balancer same default", "[[balancer]]\n\n[[balancer]]", `3:1: balancer[1].path: balancer[0] writes /etc/haproxy/haproxy.cfg too (give each balancer a file of its own)`},
	{"broken", "node = 'a'\nhost = oops\n", `2:8: broken TOML: expected value but found "oops" instead: host = oops`},
	{"twice", "node = 'a'\nnode = 'b'", `2:12: broken TOML: key 'node' has already been defined: node = 'b'`},
	{"open string", "node = \"a\n", `1:10: broken TOML: strings cannot contain newlines: node = "a`},
	{"control character", "node = 'a\x01'", `1:9: broken TOML: TOML files cannot contain control characters: '0x01': node = 'a '`},
	{"UTF-16", "n\x00o\x00d\x00e\x00", `1:1: broken TOML: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8: n o d e`},
}

func TestFileErrors(t *testing.T) {
	for _, c := range fileErrors {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, t.TempDir(), "l.toml", c.file)
			_, err := Load(Options{Path: path})
			if err == nil {
				t.Fatalf("no error, want\n%s", c.want)
			}
			if got, want := err.Error(), path+":"+c.want; got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			var e *Error
			if !errors.As(err, &e) || e.Line == 0 {
				t.Errorf("%#v is no *Error with a line", err)
			}
		})
	}
}

func TestVariableAndFlagErrors(t *testing.T) {
	for _, c := range []struct{ env, flag, want string }{
		{"LISTENER_CFG_STORE__KND=etcd", "", `environment LISTENER_CFG_STORE__KND: store.knd: unknown setting (the nearest known one is LISTENER_CFG_STORE__KIND)`},
		{"LISTENER_CFG_STORE_KIND=etcd", "", `environment LISTENER_CFG_STORE_KIND: store_kind: unknown setting (the nearest known one is LISTENER_CFG_STORE__KIND)`},
		{"LISTENER_CFG_store__kind=etcd", "", `environment LISTENER_CFG_store__kind: store.kind: unknown setting (the nearest known one is LISTENER_CFG_STORE__KIND)`},
		{"LISTENER_CFG_STORE=etcd", "", `environment LISTENER_CFG_STORE: store: this is a table, not a setting (name one of its settings, such as LISTENER_CFG_STORE__KIND)`},
		{"LISTENER_CFG_=x", "", `environment LISTENER_CFG_: unknown setting (the nearest known one is LISTENER_CFG_NODE)`},
		{"LISTENER_CFG_NODE=\xff", "", `environment LISTENER_CFG_NODE: node: this is not UTF-8`},
		{"LISTENER_CFG_THROTTLE__BURST=six", "", `environment LISTENER_CFG_THROTTLE__BURST: throttle.burst: "six" is not a whole number (write it in digits, such as 6)`},
		{"LISTENER_CFG_PROVISION__SUCCESS_EXIT_CODES=0,x", "", `environment LISTENER_CFG_PROVISION__SUCCESS_EXIT_CODES: provision.success_exit_codes: "x" is not a whole number (write numbers with commas between them, such as 0,2)`},
		{"LISTENER_CFG_MANIFESTS=[1", "", `environment LISTENER_CFG_MANIFESTS: manifests: this is not a list in TOML or JSON (write a,b or ["a", "b"])`},
		{"LISTENER_CFG_BALANCER=local", "", `environment LISTENER_CFG_BALANCER: balancer: this is not a list of tables (write it as in TOML: [{kind = "local", path = "/etc/haproxy/haproxy.cfg"}])`},
		{`LISTENER_CFG_BALANCER=[{kind = "x"}]`, "", `environment LISTENER_CFG_BALANCER: balancer[0].kind: "x" is not known here (write "local", "internal" or "public")`},
		{"LISTENER_STORE=consul://h", "", `environment LISTENER_STORE: store: "consul://h" is not a store (write local:DIR, etcd://h1:2379,h2:2379 or nats://h:4222)`},
		{"", "store=etcd:h", `flag --store: store: "etcd:h" names no server (write local:DIR, etcd://h1:2379,h2:2379 or nats://h:4222)`},
		{"", "store.kind=zk", `flag --store.kind: store.kind: "zk" is not known here (write "local", "etcd" or "nats")`},
		{"", "kind=zk", `flag --kind: kind: unknown setting (the nearest known one is store.kind)`},
		{"", "socket=", `flag --socket: api.socket: "" is not a path (write a path, such as "/etc/listener")`},
	} {
		o := Options{Path: os.DevNull, Environ: []string{c.env}}
		if name, value, ok := strings.Cut(c.flag, "="); ok {
			o.Flags = map[string]string{name: value}
		}
		if _, err := Load(o); err == nil || err.Error() != c.want {
			t.Errorf("%s%s: got\n%v\nwant\n%s", c.env, c.flag, err, c.want)
		}
	}
}

// TestAllProblemsAreTold: over all layers, in the order of reading.
func TestAllProblemsAreTold(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "l.toml", "knd = 1\nregion = ''\n[throttle]\nburst = 'x'\nsetle = 1\n")
	broken := write(t, dir, "conf.d/a.toml", "=")
	write(t, dir, "conf.d/b.toml", "node = 'fine'")
	_, err := Load(Options{Path: path, Environ: []string{"LISTENER_CFG_X=1"}, Flags: map[string]string{"region.order": "a"}})
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("%v is no Errors", err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.File+" "+e.Name)
	}
	want := []string{
		path + " knd", path + " throttle.setle", path + " throttle.burst", broken + " ",
		"environment LISTENER_CFG_X x", "flag --region.order region.order", path + " region",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	open := write(t, dir, "open.toml", "")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe.toml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	big := write(t, dir, "big.toml", strings.Repeat("#\n", maxFile/2+1))
	for path, want := range map[string]string{
		dir:                  ": this is a directory, not a file (name the file in it)",
		dir + "/none.toml":   ": no such file or directory",
		open + "/below.toml": ": not a directory",
		pipe:                 ": this is not a regular file",
		open:                 ": anyone may write to this file, so it is not used (chmod o-w " + open + ")",
		big:                  ": the file has more than 4 MiB (is it the right one?)",
	} {
		if _, err := Load(Options{Path: path}); err == nil || err.Error() != path+want {
			t.Errorf("got %v, want %s%s", err, path, want)
		}
	}
	if _, err := Load(Options{Path: open}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v is not fs.ErrPermission", err)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "l.toml", "")
	if os.Geteuid() == 0 { // root reads everything, but must not use the files of others
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Options{Path: path})
		want := path + ": this file belongs to user 65534, who could choose the commands that run, so it is not used (chown 0 " + path + ")"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := readFile(path, true); err != nil {
			t.Errorf("with any owner: %v", err)
		}
		return
	}
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := Load(Options{Path: path})
	if want := path + ": permission denied (run as root or as the owner of the file)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestConfDThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "l.toml", "")
	conf := write(t, dir, "conf.d", "a file")
	if _, err := Load(Options{Path: path}); err == nil || err.Error() != conf+": not a directory" {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(conf+"/x.toml", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Options{Path: path}); err == nil || err.Error() != conf+"/x.toml: this is a directory, not a file (name the file in it)" {
		t.Errorf("got %v", err)
	}
}

// TestErrorIsOneLine: a file's name cannot break the output.
func TestErrorIsOneLine(t *testing.T) {
	e := &Error{File: "a\nb", Line: 1, Name: "x\x1b", Text: "t"}
	if want := `"a\nb":1: "x\x1b": t`; e.Error() != want {
		t.Errorf("got %s, want %s", e.Error(), want)
	}
}
