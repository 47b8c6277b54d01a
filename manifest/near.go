package manifest

import "strings"

// nearMember is the known member that name probably means, or "". It is strict
// about short names: data bags carry members of their own (`_id`, `comment`)
// which must pass.
func nearMember(name string) string {
	if strings.HasPrefix(name, "_") {
		return ""
	}
	plain := squeeze(name)
	if plain == "env" {
		return "environment"
	}
	for _, f := range fields {
		known := squeeze(f.name)
		if known == plain || len(known) >= 4 && distance(known, plain) <= max(1, len(known)/4) {
			return f.name
		}
	}
	return ""
}

// squeeze makes localPort, local-port and LOCAL_PORT one.
func squeeze(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// nearest is the one of names that word probably means, or "".
func nearest(word string, names []string) string {
	for _, n := range names {
		if strings.EqualFold(n, word) {
			return n
		}
	}
	for _, n := range names {
		if distance(strings.ToLower(n), strings.ToLower(word)) <= len(n)/4 {
			return n
		}
	}
	return ""
}

// distance counts insertions, deletions, replacements and swaps of neighbours
// (optimal string alignment) between two short names, in bytes.
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
