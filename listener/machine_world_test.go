package listener

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// world plays a script and knows what must be true of the node.
type world struct {
	*node
	m        *storetest.Memory
	lag      *atomic.Int64 // nanoseconds until a Watch says its first word
	fail     atomic.Bool
	lose     atomic.Bool
	slow     atomic.Int64 // nanoseconds that each step takes
	boots    int
	setBack  func()
	edits    map[string]int // per service, a literal in its environment
	there    map[string]bool
	orphans  bool                  // state.json was lost, and with it whose files are whose
	seen     map[string]string     // per service, what its last successful step saw
	sessions map[int]store.Session // of the other nodes that provide Q
	garbled  map[int]bool          // those whose entry cannot be read
	problems []string
}

var (
	machineServices = []string{"s1", "s2", "s3", "s4", "s5"}
	machineSpace    = store.Space{Prefix: "/listener/v1", Federation: "default"}
)

func (w *world) writeManifest(id string) {
	lit := fmt.Sprintf(`"environment": {"LIT": "%d"}`, w.edits[id])
	text := map[string]string{
		"s1": requires("s1", lit, "A", "B"),
		"s2": requires("s2", strings.Replace(lit, "{", `{"PORT": 81, `, 1)+`, "command": "s2", "local_port": 7002, "provides": {"P": "http://{HOST}:{PORT}/{LIT}"}`, "C"),
		"s3": requires("s3", lit+`, "command": ["s3"]`, "P", "A"),
		"s4": requires("s4", lit+`, "command": false`, "B"),
		"s5": `{"id": "s5", "requires": {"ONE": "{Q}", "ALL": "{Q[]}"}, ` + lit + `, "command": ["s5"]}`,
	}[id]
	w.manifest(id, text)
}

// unblock takes away what block put in the place of files.
func (w *world) unblock() {
	for _, id := range machineServices {
		path := filepath.Join(w.cfg.Env.Dir, id+".conf")
		if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
			w.must(os.Remove(path))
		}
	}
}

// provide writes the entry of another node for Q, in the own region or,
// for every third one, in a foreign one.
func (w *world) provide(n int, s store.State) {
	host := fmt.Sprint("10.1.0.", n)
	p := store.Provider{Value: fmt.Sprintf("http://%s:80/q%d", host, n), Weight: 100, State: s, Host: host, Port: 80, LocalPort: 7001}
	w.say(n, p.Encode(), s)
}

// garble writes what no reader understands in place of the entry.
func (w *world) garble(n int) {
	if w.sessions[n] != nil {
		w.say(n, []byte(`{"state": "future"}`), store.Up)
		w.garbled[n] = w.sessions[n] != nil
	}
}

// place is where the provider n is: in the own region, the one to fall back to
// or one of no interest.
func place(n int) string {
	return machineSpace.Provider("Q", []string{"default", "far", "elsewhere"}[n%3], fmt.Sprint("p", n), "q")
}

func (w *world) say(n int, entry []byte, s store.State) {
	op := store.Put(place(n), entry)
	if s != store.Left {
		x, err := w.m.Session(w.t.Context(), 10*time.Second, "")
		if err != nil {
			return // cut
		}
		w.die(n)
		w.sessions[n], op.Session = x, x
	}
	delete(w.garbled, n)
	_, err := w.m.Commit(w.t.Context(), nil, op)
	w.ignore(err)
}

// die stops refreshing, so that the entry expires.
func (w *world) die(n int) {
	if x := w.sessions[n]; x != nil {
		x.Orphan()
		delete(w.sessions, n)
	}
}

// serving are those of Q that are up, of the best region in which somebody is.
func (w *world) serving() (best, all []int) {
	for _, region := range []int{0, 1} {
		before := len(all)
		for n := region; n < 6; n += 3 {
			kv, err := w.m.Get(w.t.Context(), place(n))
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			w.must(err)
			if p, err := store.DecodeProvider(kv.Value); err == nil && p.State == store.Up {
				all = append(all, n)
			}
		}
		if before == 0 {
			best = slices.Clone(all)
		}
	}
	return best, all
}

// ofProviders is what s5 may have at rest: any of those that are up in the best
// region, behind the local balancer, and the list of all of them; none when
// nobody is up.
func (w *world) ofProviders() (wants []string) {
	var all []string
	best, _ := w.serving()
	for _, n := range best {
		all = append(all, fmt.Sprint("http://127.0.0.1:7001/q", n))
	}
	for _, one := range all {
		wants = append(wants, fmt.Sprintf("export ALL='%s'\nexport LIT='%d'\nexport ONE='%s'\n", strings.Join(all, ","), w.edits["s5"], one))
	}
	return wants
}

// lanes checks at rest that the balancer has the servers that are up.
func (w *world) lanes() {
	var want []string
	_, all := w.serving()
	for _, n := range all {
		want = append(want, fmt.Sprintf("10.1.0.%d:80", n))
	}
	var got []string
	for s := range strings.FieldsSeq(w.servers()) {
		if strings.HasPrefix(s, "10.1.") {
			got = append(got, s)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	needed := w.there["s5"]
	if (needed && len(want) > 0) && !slices.Equal(got, want) || !needed && len(got) > 0 {
		w.problem("the balancer has the servers %v, want %v", got, want)
	}
}

// published checks at rest that the store has of P what s2 was last provisioned with.
func (w *world) published() {
	kv, err := w.m.Get(w.t.Context(), machineSpace.Provider("P", "default", "n1", "s2"))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.must(err)
		return
	}
	var p store.Provider
	if err == nil {
		p, err = store.DecodeProvider(kv.Value)
		w.must(err)
	}
	up := p.State == store.Up
	_, ready := w.want("s2")
	switch {
	case !w.there["s2"] && up && !w.orphans:
		w.problem("P is published without a manifest: %+v", p)
	case !w.there["s2"] || w.orphans && !ready:
	case ready && !up:
		w.problem("P is not published, s2 saw %q: %+v", w.seen["s2"], p)
	case up && p.Value != "http://10.0.0.1:81/"+w.lit("s2"):
		w.problem("P is published as %q, s2 was provisioned with %q", p.Value, w.lit("s2"))
	}
}

// lit is the literal that the last successful step of id saw.
func (w *world) lit(id string) string {
	_, text, _ := strings.Cut(w.seen[id], "export LIT='")
	text, _, _ = strings.Cut(text, "'")
	return text
}

// want is the environment that id must have, ok false when it is not ready.
func (w *world) want(id string) (string, bool) {
	if !w.there[id] {
		return "", false
	}
	if id == "s5" {
		wants := w.ofProviders()
		if i := slices.Index(wants, w.env(id)); i >= 0 {
			return wants[i], true
		}
		return fmt.Sprint(wants), len(wants) > 0
	}
	keys := map[string][]string{"s1": {"A", "B"}, "s2": {"C"}, "s3": {"P", "A"}, "s4": {"B"}}[id]
	vars := map[string]string{"LIT": fmt.Sprint(w.edits[id])}
	if id == "s2" {
		vars["PORT"] = "81"
	}
	for _, k := range keys {
		if k == "P" {
			kept := w.seen["s2"] != "" && !w.orphans // it succeeded once, and the agent remembers
			if _, ok := w.want("s2"); !w.there["s2"] || !ok && !kept {
				return "", false
			}
			vars["V_P"] = "http://127.0.0.1:7002/" + w.lit("s2")
			continue
		}
		kv, err := w.m.Get(w.t.Context(), machineSpace.Value("", k))
		if errors.Is(err, store.ErrNotFound) {
			return "", false
		}
		if err != nil {
			w.problem("get: %v", err)
		}
		vars["V_"+k] = string(kv.Value)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		fmt.Fprintf(&b, "export %s='%s'\n", name, vars[name])
	}
	return b.String(), true
}
