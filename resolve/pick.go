package resolve

import (
	"hash/fnv"
	"math"
)

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
		if p.Priority < best.Priority || s > score {
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
