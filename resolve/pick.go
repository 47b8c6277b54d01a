package resolve

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/listener-agent/listener/manifest"
)

// ProviderState is what a provider means to who looks for one.
type ProviderState uint8

// The states of a provider.
const (
	// Gone: withdrawn, or not the last one: as if it had never been.
	Gone ProviderState = iota
	// Up: it can be used.
	Up
	// Held: it expired together with many others; lists keep it for a while, a
	// single choice moves on if it can.
	Held
	// Away: down, draining, or the last one and expired: it cannot be used, but
	// nobody withdrew it, so that its absence is not proven.
	Away
)

// Provider is one entry of a key.
type Provider struct {
	Region, Node, Service string
	Text                  string
	Rev                   uint64 // 0: this node's own, not yet published
	State                 ProviderState
	Priority, Weight      int
	// UpSince is since when this agent sees it up; zero: it is not, or it is
	// its own and not published.
	UpSince time.Time
}

// ID names the provider within its key.
func (p Provider) ID() string { return p.Region + "/" + p.Node + "/" + p.Service }

// Choice names what a placeholder chooses from: all placeholders of a node
// with the same one get the same provider.
func Choice(p manifest.Part) string {
	c := p.Key
	if p.Service != "" {
		c = p.Service + "/" + c
	}
	if p.List {
		c += "[]"
	}
	return c
}

// Chosen is what is to be remembered of a Use, so that it stays in use: the
// choice and who or which region; ok is false when no provider was chosen.
func (u Use) Chosen() (choice, chosen string, ok bool) {
	if a := u.Answer; a.Rank != OwnRegion && a.Rank != NextRegion || a.LastGood {
		return "", "", false
	}
	if i := strings.IndexByte(u.ID, '['); i >= 0 {
		return u.ID[:i] + "[]", u.Answer.Region, true
	}
	return u.ID, u.Answer.Region + "/" + u.Answer.Provider, true
}

// regions are those that this node takes providers from, the own one first.
func (r *resolver) regions() []string {
	out := []string{r.n.Region}
	for _, name := range r.n.RegionOrder {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Memo remembers what providers answer, by placeholder, for as long as the
// picture is the same: many services of a node ask for the same of thousands.
type Memo map[string]memo

type memo struct {
	use      Use
	unproven bool
}

// fromProviders tries ranks 3 and 4.
func (r *resolver) fromProviders(p manifest.Part, u *Use) (unproven bool) {
	known := r.pic.Memo()
	m, ok := known[u.ID]
	if !ok {
		m.use = *u
		m.unproven = r.choose(p, &m.use)
		if known != nil {
			known[u.ID] = m
		}
	}
	*u = m.use
	return m.unproven
}

func (r *resolver) choose(p manifest.Part, u *Use) (unproven bool) {
	regions := r.regions()
	by := make([][]Provider, len(regions)) // what can be used of each
	for _, q := range r.pic.Providers(p.Key) {
		i := slices.Index(regions, q.Region)
		if i < 0 || p.Service != "" && q.Service != p.Service || q.State == Gone {
			continue
		}
		if q.State == Up || q.State == Held && p.List {
			by[i] = append(by[i], q)
		} else {
			unproven = true
		}
	}
	best := slices.IndexFunc(by, func(l []Provider) bool { return len(l) > 0 })
	if best < 0 {
		return unproven
	}
	chosen := r.pic.Chosen(Choice(p))
	if p.List {
		i := r.region(by, regions, chosen, best, u)
		u.Answer = r.list(p.Key, by[i], rankOf(i), p.Sep)
		return false
	}
	q := r.single(p.Key, by, chosen, best, u)
	u.Answer = Answer{
		Rank: rankOf(slices.Index(regions, q.Region)), Text: r.pic.Here(p.Key, q), Rev: q.Rev,
		Region: q.Region, Provider: q.Node + "/" + q.Service,
	}
	return false
}

func rankOf(region int) Rank {
	if region == 0 {
		return OwnRegion
	}
	return NextRegion
}

// region says from which region a list comes: the one in use, until a better
// one has had a provider for long enough.
func (r *resolver) region(by [][]Provider, regions []string, chosen string, best int, u *Use) int {
	in := slices.Index(regions, chosen)
	if in <= best || len(by[in]) == 0 {
		u.Why = fmt.Sprintf("%d providers of region %s", len(by[best]), regions[best])
		return best
	}
	for i := best; i < in; i++ {
		if slices.ContainsFunc(by[i], func(q Provider) bool { return q.State == Up && r.pic.Settled(q) }) {
			u.Why = fmt.Sprintf("%d providers of region %s, which is preferred again", len(by[i]), regions[i])
			return i
		}
	}
	u.Better = true
	u.Why = fmt.Sprintf("%d providers of region %s, in use; region %s is not back for long enough", len(by[in]), regions[in], regions[best])
	return in
}

// single picks one: the one in use while it is up, until a better one (of a
// better region, or of lower priority) has been up for long enough.
func (r *resolver) single(key string, by [][]Provider, chosen string, best int, u *Use) Provider {
	for i, l := range by {
		at := slices.IndexFunc(l, func(q Provider) bool { return q.ID() == chosen })
		if at < 0 {
			continue
		}
		var settled, better []Provider
		for j := range i + 1 {
			for _, q := range by[j] {
				if j < i || q.Priority < l[at].Priority {
					better = append(better, q)
					if r.pic.Settled(q) {
						settled = append(settled, q)
					}
				}
			}
			if len(settled) > 0 { // the regions after it are no better
				u.Why = "preferred over the one that was in use"
				return pick(r.n.Name, key, settled)
			}
		}
		u.Why = "in use and up"
		if len(better) > 0 {
			u.Better = true
			u.Why += "; a better one is not back for long enough"
		}
		return l[at]
	}
	q := pick(r.n.Name, key, by[best])
	switch n := len(by[best]); {
	case n == 1:
		u.Why = "the only one up in region " + q.Region
	case slices.ContainsFunc(by[best], func(o Provider) bool { return o.Priority != q.Priority }):
		u.Why = fmt.Sprintf("lowest priority, then weighted hash of this node's name, of %d in region %s", n, q.Region)
	default:
		u.Why = fmt.Sprintf("weighted hash of this node's name, of %d in region %s", n, q.Region)
	}
	return q
}

// list joins the values of all providers, sorted and without repetition.
func (r *resolver) list(key string, up []Provider, rank Rank, sep string) Answer {
	a := Answer{Rank: rank, Region: up[0].Region}
	var texts, ids []string
	for _, q := range up {
		texts = append(texts, r.pic.Here(key, q))
		ids = append(ids, q.Node+"/"+q.Service)
		a.Rev = max(a.Rev, q.Rev)
	}
	slices.Sort(texts)
	slices.Sort(ids)
	a.Text = strings.Join(slices.Compact(texts), sep)
	a.Provider = strings.Join(ids, ",")
	return a
}

// pick chooses one of up, which is not empty: the lowest priority, and among
// equals the highest score of weighted rendezvous hashing over (node, key,
// provider), so that one joining among n moves 1/n of the nodes.
func pick(node, key string, up []Provider) Provider {
	best := up[0]
	score := math.Inf(-1)
	for i, p := range up {
		if i > 0 && p.Priority > best.Priority {
			continue
		}
		s := rendezvous(node, key, p)
		if p.Priority < best.Priority || s > score || s == score && p.ID() < best.ID() {
			best, score = p, s
		}
	}
	return best
}

// rendezvous is the logarithmic method: -weight / ln(hash in (0,1)).
func rendezvous(node, key string, p Provider) float64 {
	h := fnv.New64a()
	for _, s := range [...]string{node, key, p.ID()} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	x := h.Sum64()
	// FNV's high bits mix badly over short inputs; a finalizer mends it.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	u := (float64(x>>11) + 0.5) / (1 << 53)
	return -float64(p.Weight) / math.Log(u)
}
