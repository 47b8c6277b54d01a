package listener

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// promise plays a store that fails in every way and knows what each file of the
// node has to hold all the time: the last value that somebody put and the node
// could know of. No outage, loss of data or restored backup changes that.
type promise struct {
	*node
	m       *storetest.Memory
	slow    *lagging
	setBack func()
	extra   bool
	lagged  time.Duration // the most that an update took

	has map[string]string // what the files hold, by key
	// blind: the agent does not see the store now; has is what it saw before.
	// Puts since are in unseen, unless the store lost its data since.
	blind, lost bool
	unseen      map[string]string
	// unsure: the agent was restarted meanwhile, too. It has only revisions to
	// compare, and a store that was set back may have come further since.
	unsure bool
}

var promisedKeys = []string{"K0", "K1", "K2"}

func promiseScript() *rapid.Generator[[]act] {
	one := rapid.Custom(func(t *rapid.T) act {
		return act{
			Op: rapid.SampledFrom([]string{
				"put", "put", "put", "put", "delete", "wipe", "set back", "snapshot", "cut", "heal", "restart store",
				"crash", "watch anew", "watch anew", "accept", "lag",
			}).Draw(t, "op"),
			Key:  rapid.SampledFrom(promisedKeys).Draw(t, "key"),
			N:    rapid.IntRange(0, 4).Draw(t, "n"),
			Wait: rapid.SampledFrom([]time.Duration{0, 0, 100 * time.Millisecond, 700 * time.Millisecond, 20 * time.Second}).Draw(t, "wait"),
		}
	})
	return rapid.SliceOfN(one, 1, 40)
}

func (p *promise) play(a act) {
	ctx := p.t.Context()
	space := store.Space{Prefix: p.cfg.Store.Prefix, Federation: "default"}
	operator := p.m.Dial() // whose link always holds
	defer operator.Close()
	switch a.Op {
	case "put":
		value := fmt.Sprint(a.N)
		if _, err := operator.Commit(ctx, nil, store.Put(space.Value("", a.Key), []byte(value))); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(p.lagged)
		switch {
		case !p.blind:
			p.has[a.Key] = value
		case !p.lost:
			p.unseen[a.Key] = value
		}
	case "delete": // the service keeps its last good value
		if _, err := operator.Commit(ctx, nil, store.Delete(space.Value("", a.Key))); err != nil {
			p.t.Fatal(err)
		}
		delete(p.unseen, a.Key)
	case "wipe":
		p.m.Wipe()
		p.loses()
		time.Sleep(2 * p.lagged)
	case "snapshot":
		p.setBack = p.m.Snapshot()
	case "set back":
		if p.setBack != nil {
			p.setBack()
			p.loses()
			time.Sleep(2 * p.lagged)
		}
	case "cut":
		p.m.Cut()
		p.blind = true
	case "heal":
		p.m.Heal()
		time.Sleep(2 * p.lagged)
		p.sees()
	case "restart store":
		p.m.Restart()
		time.Sleep(2 * p.lagged)
	case "crash":
		p.stop()
		p.up()
		p.unsure = p.lost
		if !p.blind { // until the store has answered
			p.blind = true
			time.Sleep(10 * time.Second)
			p.sees()
		}
	case "watch anew":
		path := filepath.Join(p.cfg.Manifests[0], "extra.json")
		if p.extra = !p.extra; p.extra {
			p.manifest("extra", requires("extra", `"command": false`, "EXTRA"))
		} else if err := os.Remove(path); err != nil {
			p.t.Fatal(err)
		}
		p.reload()
	case "lag": // of Watches to come
		lag := time.Duration(a.N) * 200 * time.Millisecond
		p.slow.lag.Store(int64(lag))
		p.lagged = max(p.lagged, lag)
	case "accept":
		if p.blind {
			return
		}
		if _, err := p.agent.Accept(ctx, ""); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		for _, k := range promisedKeys {
			if kv, err := operator.Get(ctx, space.Value("", k)); err == nil {
				p.has[k] = string(kv.Value)
			}
		}
	}
	time.Sleep(a.Wait)
	synctest.Wait()
}

// loses: what the agent did not see is never seen.
func (p *promise) loses() {
	if p.blind {
		p.lost = true
		clear(p.unseen)
	}
}

// sees: the agent is up, and its link to the store holds.
func (p *promise) sees() {
	maps.Copy(p.has, p.unseen)
	clear(p.unseen)
	synctest.Wait()
	for _, k := range promisedKeys {
		if _, value, ok := strings.Cut(p.env(strings.ToLower(k)), "="); ok && p.unsure {
			p.has[k] = strings.Trim(value, "'\n")
		}
	}
	p.blind, p.lost, p.unsure = false, false, false
}

// wrong names the first file that is not as it has to be.
func (p *promise) wrong() string {
	for _, k := range promisedKeys {
		want := ""
		if v, ok := p.has[k]; ok {
			want = "export V_" + k + "='" + v + "'\n"
		}
		if got := p.env(strings.ToLower(k)); got != want {
			return fmt.Sprintf("%s: the file is %q, want %q", k, got, want)
		}
	}
	return ""
}

// TestPromise: whatever becomes of the store, and however watches overlap, the
// files hold at each moment what they should.
func TestPromise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		acts := promiseScript().Draw(rt, "acts")
		replica := rapid.SampledFrom([]string{"needed", "all"}).Draw(rt, "replica")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			slow := &lagging{Store: storetest.NewMemory()}
			p := &promise{slow: slow, m: slow.Store.(*storetest.Memory), has: map[string]string{}, unseen: map[string]string{}}
			p.node = newNode(t, slow, func(c *config.Config) { c.Store.Replica = replica })
			for _, k := range promisedKeys {
				p.manifest(strings.ToLower(k), requires(strings.ToLower(k), `"command": false`, k))
			}
			p.up()
			synctest.Wait()
			var played []string
			for _, a := range acts {
				p.play(a)
				played = append(played, a.String())
				if problem = p.wrong(); problem != "" {
					problem += " after " + strings.Join(played, " ")
					return
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}
