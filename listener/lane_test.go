package listener

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/provision"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// balance gives the node a balancer whose commands are scripts of the test:
// "reloads" gets a line per reload, and the files "refuse" and "broken" make
// the check and the reload fail.
func (n *node) balance(kind string, edit ...func(*config.Balancer)) {
	b := config.Balancer{
		Kind: kind, Engine: "haproxy", Bind: "127.0.0.1", Port: 8000, Path: filepath.Join(n.dir, kind+".cfg"),
		Check:  []string{"sh", "-c", "test ! -e " + n.dir + "/refuse && grep -q ^defaults $0", "{path}"},
		Reload: []string{"sh", "-c", "test ! -e " + n.dir + "/broken && echo reload >>" + n.dir + "/reloads"},
		Keys:   "needed", MinInterval: time.Second,
	}
	for _, f := range edit {
		f(&b)
	}
	n.cfg.Balancers = append(n.cfg.Balancers, b)
}

func (n *node) reloads() int {
	data, _ := os.ReadFile(filepath.Join(n.dir, "reloads"))
	return strings.Count(string(data), "\n")
}

// servers are the addresses of the servers in the file of the balancer.
func (n *node) servers() string {
	n.t.Helper()
	data, err := os.ReadFile(n.cfg.Balancers[0].Path)
	if err != nil {
		return err.Error()
	}
	var out []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "server" {
			out = append(out, f[2])
		}
	}
	return strings.Join(out, " ")
}

func (n *node) wantServers(want string, reloads int) {
	n.t.Helper()
	time.Sleep(3 * time.Second)
	if got := n.servers(); got != want {
		n.t.Errorf("servers %q, want %q", got, want)
	}
	if got := n.reloads(); got != reloads {
		n.t.Errorf("%d reloads, want %d", got, reloads)
	}
}

// server is a provider of K behind local port 9000.
func (n *node) server(name, address string) *provider {
	n.t.Helper()
	p := n.unpublished("default", name, "http://"+address+"/api")
	host, port, _ := strings.Cut(address, ":")
	p.entry.Host, p.entry.LocalPort = host, 9000
	_, _ = fmt.Sscan(port, &p.entry.Port)
	return p.says(store.Up)
}

func TestALocalBalancerMovesProvidersWithoutARun(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.up()
		n.wantServers("", 1)
		a := n.server("a", "10.0.0.7:80")
		n.wantEnv("http://127.0.0.1:9000/api")
		n.wantSteps("node")
		n.wantServers("10.0.0.7:80", 2) // the empty one, and this one
		b := n.server("b", "10.0.0.8:81")
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 3)
		a.says(store.Left)
		n.wantServers("10.0.0.8:81", 4)
		b.dies() // it may be the last one: HAProxy itself sees whether it answers
		time.Sleep(time.Hour)
		n.wantServers("10.0.0.8:81", 4)
		n.wantSteps("node")
		n.stop()
		n.up()
		n.wantServers("10.0.0.8:81", 4)
		n.wantSteps("node")
		if s := n.status().Balancers; len(s) != 1 || s[0].State != "ok" || s[0].Frontends != 1 || s[0].Servers != 1 {
			n.t.Errorf("status %+v", s)
		}
	})
}

// Who asks just when a provider came is told of it as the balancer will have it.
func TestWhoAsksAtOnceIsToldTheBalancersAddress(t *testing.T) {
	for range 20 { // the loop takes the provider or the question first
		bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
			n.balance("local")
			n.manifest("app", requires("app", "", "K"))
			n.up()
			time.Sleep(time.Minute)
			busy, told := make(chan struct{}), make(chan string, 1)
			go func() { _ = n.agent.do(t.Context(), func() { <-busy }) }()
			n.server("a", "10.0.0.7:80")
			go func() {
				env, err := n.agent.Environment(t.Context(), "app")
				told <- fmt.Sprint(env.Vars["V_K"], err)
			}()
			time.Sleep(time.Second)
			close(busy)
			if got := <-told; got != "<nil>" && got != "http://127.0.0.1:9000/api<nil>" {
				t.Errorf("told %s", got)
			}
		})
	}
}

func TestAProvisionDelaysNoBalancer(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.runner.use(func(provision.Job) provision.Result {
			time.Sleep(5 * time.Minute)
			return provision.Result{Outcome: "exited"}
		})
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.server("b", "10.0.0.8:81")
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 2)
		if n.status().Running == nil {
			n.t.Error("the provision is over")
		}
		time.Sleep(time.Hour)
	})
}

func TestAHundredProvidersAreFewReloads(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.server("first", "10.0.0.1:80")
		n.up()
		time.Sleep(time.Minute)
		for i := range 99 {
			n.server(fmt.Sprintf("p%02d", i), fmt.Sprintf("10.0.1.%d:80", i))
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if got := len(strings.Fields(n.servers())); got != 100 {
			n.t.Errorf("%d servers", got)
		}
		if got := n.reloads() - 1; got > 2 {
			n.t.Errorf("%d reloads for 99 that join within half a second", got)
		}
		n.wantSteps("node")
	})
}

func TestABalancerThatFailsIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		a := n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.write(filepath.Join(n.dir, "refuse"), "")
		a.entry.Weight = 7
		a.says(store.Up)
		n.wantServers("10.0.0.7:80", 1)
		n.wantConditions("balancer failing " + n.cfg.Balancers[0].Path)
		if data, _ := os.ReadFile(n.cfg.Balancers[0].Path); strings.Contains(string(data), "weight 7") {
			t.Error("a candidate that was refused is in force")
		}
		if err := os.Rename(filepath.Join(n.dir, "refuse"), filepath.Join(n.dir, "broken")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Minute)
		n.wantConditions("balancer failing " + n.cfg.Balancers[0].Path)
		if err := os.Remove(filepath.Join(n.dir, "broken")); err != nil {
			t.Fatal(err)
		}
		if _, err := n.agent.Provision(t.Context(), api.ProvisionRequest{Who: "test"}); err != nil {
			t.Fatal(err)
		}
		n.wantServers("10.0.0.7:80", 2) // at once, after the provision
		n.wantConditions()
	})
}

func TestOffFreezesTheBalancers(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		if err := n.agent.Off(t.Context(), api.OffRequest{Who: "test", Lane: "balancer"}); err != nil {
			t.Fatal(err)
		}
		n.server("b", "10.0.0.8:81")
		time.Sleep(time.Hour)
		n.wantServers("10.0.0.7:80", 1)
		n.put("OTHER", "1")
		if s := n.status().Balancers[0]; s.State != "off" {
			t.Errorf("status %+v", s)
		}
		if _, err := n.agent.On(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 2)
	})
}

func TestABalancersFileIsPutRight(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		for i := range 3 {
			n.write(n.cfg.Balancers[0].Path, "by hand")
			time.Sleep(2 * time.Minute)
			n.wantServers("10.0.0.7:80", 2+i)
		}
		n.write(n.cfg.Balancers[0].Path, "by hand")
		time.Sleep(2 * time.Minute)
		n.wantServers("", 4)
		n.wantConditions("drift " + n.cfg.Balancers[0].Path)
	})
}

func TestAllKeysOfTheFederation(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, _ *storetest.Memory) {
		n.balance("internal", func(b *config.Balancer) { b.Keys = "all" })
		n.up()
		n.wantServers("", 1)
		n.server("a", "10.0.0.7:80")
		n.wantServers("10.0.0.7:80", 2)
		n.wantConditions()
		n.stop()
		n.up()
		n.wantServers("10.0.0.7:80", 2)
	})
}

func TestAnOutageChangesNoBalancer(t *testing.T) {
	bubble(t, func(_ *testing.T, n *node, m *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.server("b", "10.0.0.8:81")
		n.up()
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 1)
		m.Cut()
		time.Sleep(time.Hour)
		n.stop()
		n.up()
		time.Sleep(time.Hour)
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 1)
		m.Heal()
		time.Sleep(time.Hour)
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 1)
		m.Wipe()
		time.Sleep(time.Hour)
		n.wantServers("10.0.0.7:80 10.0.0.8:81", 1)
		n.wantSteps("node")
	})
}

func TestCollidingPortsAreToldAndTheRestWorks(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		n.balance("local")
		n.manifest("app", requires("app", `"environment": {"PORT": 9000}`, "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		time.Sleep(3 * time.Second)
		if got := n.env("app"); !strings.Contains(got, "http://10.0.0.7:80/api") {
			t.Errorf("environment %q: the key does not resolve directly", got)
		}
		n.wantConditions("balancer collision K")
		n.wantServers("", 1)
	})
}

func TestATemplateAsEngine(t *testing.T) {
	bubble(t, func(t *testing.T, n *node, _ *storetest.Memory) {
		template := filepath.Join(n.dir, "lb.tmpl")
		text := `{{range .Backends}}{{range .Servers}}server x {{.Host}}:{{.Port}}
{{end}}{{end}}`
		n.write(template, text)
		n.balance("local", func(b *config.Balancer) { b.Engine, b.Check = template, nil })
		n.manifest("app", requires("app", "", "K"))
		n.server("a", "10.0.0.7:80")
		n.up()
		n.wantServers("10.0.0.7:80", 1)
		n.write(template, "{{.Nothing}}")
		time.Sleep(3 * time.Minute)
		n.wantConditions("balancer failing " + n.cfg.Balancers[0].Path)
		n.wantServers("10.0.0.7:80", 1)
		if c := n.condition("balancer failing"); !strings.Contains(c.Text, "lb.tmpl:1") {
			t.Errorf("condition %q does not say where", c.Text)
		}
		n.write(template, text+"# another\n")
		time.Sleep(3 * time.Minute)
		n.wantConditions()
		n.wantServers("10.0.0.7:80", 2)
	})
}

func (n *node) condition(name string) status.Condition {
	n.t.Helper()
	for _, c := range n.status().Conditions {
		if c.Name == name {
			return c
		}
	}
	n.t.Errorf("no condition %q", name)
	return status.Condition{}
}
