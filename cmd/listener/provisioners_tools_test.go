package main_test

import (
	"fmt"
	"os"
	"path/filepath"
)

// tool is what a test has to know of a provisioner beside its example.
type tool struct {
	name, dir string
	programs  []string          // without which it is left out
	places    map[string]string // further texts of the example → what stands there in the test
	lock      string            // that a run by hand holds, below the node's directory
	preset    bool              // on a real node it is where the preset looks
	changed   []int             // exit codes of a run that changed something
	file      string            // of the example …
	broken    string            // … to which this is added to make runs fail …
	failed    []int             // … with one of these exit codes

	prepare func(*example)          // before the agent starts; nil: nothing
	byHand  func(*example) []string // argv of a run that goes on until the pipe's end
	more    func(*example)          // nil: nothing
}

var script = tool{
	name: "script", dir: "script", programs: []string{"flock"}, lock: "lock/provision",
	changed: []int{0}, file: "provision.sh", broken: "exit 3\n", failed: []int{3},
	byHand: func(x *example) []string { return []string{"flock", "-o", x.lock, "cat", x.pipe} },
}

var ansible = tool{
	name: "ansible", dir: "ansible", programs: []string{"flock", "ansible-playbook"}, lock: "lock/ansible-playbook",
	changed: []int{0}, file: "playbook.yml", failed: []int{2},
	broken: "    - name: The mirror is away\n      ansible.builtin.fail:\n",
	byHand: func(x *example) []string {
		x.write(x.path("hand.yml"), "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: cat "+x.pipe+"\n")
		return []string{"flock", "-o", x.lock, "ansible-playbook", "-c", "local", "-i", "localhost,", x.path("hand.yml")}
	},
}

// Puppet has its directories below the node's, and there it is disabled, which
// puppet apply does not care for.
var puppet = tool{
	name: "puppet", dir: "puppet", programs: []string{"flock", "puppet"},
	lock: "puppet/state/agent_catalog_run.lock", preset: true,
	places:  map[string]string{`"puppet", "apply"`: `"puppet", "apply", "--vardir", "$D/puppet", "--confdir", "$D/puppet"`},
	changed: []int{2}, file: "site.pp", broken: "exec { '/bin/false': }\n", failed: []int{4, 6},
	byHand: func(x *example) []string {
		// What puppet agent --enable does; the agent does care.
		if err := os.Remove(x.path("puppet", "state", "agent_disabled.lock")); err != nil {
			x.t.Fatal(err)
		}
		return []string{filepath.Join("testdata", "provisioners", "puppet"), x.path("puppet"), x.pipe}
	},
	prepare: func(x *example) {
		if err := os.MkdirAll(x.path("puppet", "state"), 0o755); err != nil {
			x.t.Fatal(err)
		}
		x.write(x.path("puppet", "state", "agent_disabled.lock"), `{"disabled_message":"a look at the node"}`)
	},
}

// Debian has no chef: a stand-in has its command line, its lock and its exit
// codes, and itamae runs the recipe.
var chef = tool{
	name: "chef, by a stand-in", dir: "chef", programs: []string{"itamae"},
	lock: "chef/cache/chef-client-running.pid", preset: true,
	places:  map[string]string{`"chef-solo"`: `"$D/chef-solo"`},
	changed: []int{0}, file: "cookbooks/shop/recipes/default.rb", broken: "raise 'the mirror is away'\n", failed: []int{1},
	prepare: func(x *example) {
		x.copyTree(filepath.Join("testdata", "provisioners", "chef-solo"), x.path("chef-solo"))
		if err := os.MkdirAll(x.path("cookbooks", "hand", "recipes"), 0o755); err != nil {
			x.t.Fatal(err)
		}
		x.write(x.path("cookbooks", "hand", "recipes", "default.rb"), "execute 'cat "+x.pipe+"'\n")
		x.write(x.path("hand.json"), "{}")
	},
	byHand: func(x *example) []string {
		return []string{x.path("chef-solo"), "-c", x.path("solo.rb"), "-j", x.path("hand.json"), "-o", "hand::default"}
	},
	more: chefExits,
}

// chefExits: a reboot that chef scheduled or asks for is success; a chef that
// has upgraded itself has not done its work and is run again.
func chefExits(x *example) {
	wish := x.path("chef", "cache", "exit")
	for _, code := range []string{"35", "37"} {
		x.write(wish, code)
		x.value(code)
		run := x.onDisk(code)
		if x.exit(run, "ok", 35, 37); fmt.Sprint(run.Steps[0].Exit) != code {
			x.t.Errorf("exit code %d, not %s", run.Steps[0].Exit, code)
		}
	}
	x.write(wish, "213")
	x.value("213")
	x.exit(x.onDisk("213"), "ok", 0)
	runs := x.history()
	x.exit(runs[1], "failed", 213)
	if runs[0].Kind != "retry" {
		x.t.Errorf("after 213 the run is of kind %s", runs[0].Kind)
	}
}
