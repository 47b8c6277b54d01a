package listener

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store/storetest"
)

// other are the settings after an edit, for a reload.
func (n *node) other(edit func(*config.Config)) {
	next := *n.cfg
	next.Balancers = append([]config.Balancer(nil), n.cfg.Balancers...)
	edit(&next)
	n.reloadConfig = func() (*config.Config, error) { return &next, nil }
}

// A balancer whose settings change while it is updated is updated once more
// after that, never at the same time.
func TestABalancersNewSettingsWaitForItsUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		log := filepath.Join(n.dir, "log")
		n.balance("local", func(b *config.Balancer) {
			b.Reload = []string{"sh", "-c", "echo begin >>" + log + "; sleep 0.3; echo end >>" + log}
		})
		n.other(func(c *config.Config) { c.Balancers[0].Bind = "127.0.0.2" })
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		for {
			if data, _ := os.ReadFile(log); len(data) > 0 {
				break
			}
			if err := syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil); err != nil { // in wall time
				t.Log(err)
			}
		}
		if err := n.agent.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		data, err := os.ReadFile(log)
		if err != nil || string(data) != "begin\nend\nbegin\nend\n" {
			t.Errorf("reloads %q, %v", data, err)
		}
		if conf, _ := os.ReadFile(n.cfg.Balancers[0].Path); !strings.Contains(string(conf), "127.0.0.2:9000") {
			t.Errorf("file is not that of the new settings: %s", conf)
		}
		n.wantConditions()
	})
}

// A template's file is watched after a restart, too.
func TestATemplatesFileIsPutRightAfterARestart(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		template := filepath.Join(n.dir, "lb.tmpl")
		n.write(template, "{{range .Backends}}{{range .Servers}}server x {{.Host}}:{{.Port}}\n{{end}}{{end}}")
		n.balance("local", func(b *config.Balancer) { b.Engine, b.Check = template, nil })
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.stop()
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.write(n.cfg.Balancers[0].Path, "by hand")
		time.Sleep(2 * time.Minute)
		n.wantServers("10.0.0.7:80", 2)
	})
}

// Opening what is no file could block the loop for ever.
func TestATemplateThatIsNoFile(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		fifo := filepath.Join(n.dir, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		n.balance("local", func(b *config.Balancer) { b.Engine, b.Check = fifo, nil })
		n.manifest("app", requires("app", "", "K"))
		n.provider("default", "a", "http://a")
		n.up()
		n.wantEnv("http://a")
		n.wantConditions("balancer failing " + n.cfg.Balancers[0].Path)
	})
}

// A provider without a PORT of its own listens on its local_port.
func TestAProvidersOwnPortCollides(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.manifest("api", ownAPI(`"environment": {"PORT": 8080}, `, ""))
		n.up()
		n.wantEnv("http://10.0.0.1:9000")
		n.wantConditions("balancer collision K")
		n.wantServers("", 1)
	})
}

// The public balancer's port is taken, too.
func TestAPortOfThePublicBalancerCollides(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.balance("public", func(b *config.Balancer) { b.Bind, b.Port = "*", 9000 })
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantEnv("http://10.0.0.7:80/api")
		n.wantConditions("balancer collision K")
	})
}

// An agent that stops does not wait for a reload that hangs.
func TestAReloadThatHangsDoesNotKeepTheAgent(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		begun := filepath.Join(n.dir, "begun")
		n.balance("local", func(b *config.Balancer) {
			b.Reload = []string{"sh", "-c", "echo >" + begun + "; exec sleep 50"}
		})
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		for {
			if _, err := os.Stat(begun); err == nil {
				break
			}
			_ = syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil)
		}
		done := make(chan struct{})
		go func() { n.stop(); close(done) }()
		<-done
	})
}

// A fleet whose entries a reader does not know is one condition, not thousands.
func TestManyBadEntriesAreFewConditions(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.manifest("app", requires("app", "", "K"))
		for i := range 100 {
			n.provider("default", fmt.Sprintf("p%03d", i), "x").garble()
		}
		n.up()
		time.Sleep(time.Second)
		if c := n.conditions(); len(c) > 30 {
			t.Errorf("%d conditions", len(c))
		}
	})
}

// A file that is in place already may never have been checked.
func TestAFileInPlaceIsCheckedBeforeItIsRead(t *testing.T) {
	dir := t.TempDir()
	job := laneJob{
		cfg: config.Balancer{
			Engine: engineHAProxy, Path: filepath.Join(dir, "cfg"),
			Check: []string{"false"}, Reload: []string{"touch", filepath.Join(dir, "reloaded")},
		},
		text: []byte("text\n"),
	}
	if err := os.WriteFile(job.cfg.Path, job.text, laneMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(job.cfg.Path, laneMode); err != nil {
		t.Fatal(err)
	}
	res := job.run(t.Context())
	if _, err := os.Stat(filepath.Join(dir, "reloaded")); res.err == nil || res.written || err == nil {
		t.Errorf("result %+v, reloaded: %v", res, err == nil)
	}
}

// An operator's value concerns no balancer.
func TestAValueMakesNoPlan(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local", func(b *config.Balancer) { b.Check, b.Reload = nil, nil })
		n.manifest("app", requires("app", "", "K", "L"))
		a := n.server("a", "10.0.0.7:80")
		n.put("L", "one")
		n.up()
		time.Sleep(time.Second)
		now := func() (p *balancer.Plan) {
			if err := n.agent.do(t.Context(), func() { p = n.agent.lanes[0].plan }); err != nil {
				t.Fatal(err)
			}
			return p
		}
		plan := now()
		n.put("L", "two")
		time.Sleep(time.Second)
		if now() != plan {
			t.Error("a plan was made for an operator's value")
		}
		a.entry.Weight = 3
		a.says("up")
		time.Sleep(time.Second)
		if now() == plan {
			t.Error("no plan was made for a provider")
		}
	})
}

// What an update that an agent's end cut short has done to the balancer nobody
// knows: the next agent looks, also when it wants what was there before it.
func TestAnUpdateThatIsCutShortIsMadeSure(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local", func(b *config.Balancer) {
			b.Reload = []string{"sh", "-c", "echo reload >>" + n.dir + "/reloads; test ! -e " + n.dir + "/slow || sleep 30"}
		})
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.write(filepath.Join(n.dir, "slow"), "")
		n.server("a", "10.0.0.8:80")
		for n.reloads() < 2 {
			if err := syscall.Nanosleep(&syscall.Timespec{Nsec: 1e6}, nil); err != nil { // in wall time
				t.Log(err)
			}
		}
		n.stop()
		if err := os.Remove(filepath.Join(n.dir, "slow")); err != nil {
			t.Fatal(err)
		}
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 3)
	})
}
