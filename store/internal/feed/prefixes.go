package feed

import (
	"slices"
	"strings"
)

// Prefixes is a set of prefixes as store.Watch takes them: one that ends in
// "/" is that subtree, any other is exactly that key. The zero value holds
// nothing.
type Prefixes struct {
	set    map[string]struct{}
	sorted []string
}

// NewPrefixes makes a set. A prefix inside another one is left out.
func NewPrefixes(prefixes []string) Prefixes {
	p := Prefixes{set: make(map[string]struct{}, len(prefixes))}
	for _, s := range prefixes {
		p.set[s] = struct{}{}
	}
	for s := range p.set {
		if !p.covered(s) {
			p.sorted = append(p.sorted, s)
		}
	}
	slices.Sort(p.sorted)
	clear(p.set)
	for _, s := range p.sorted {
		p.set[s] = struct{}{}
	}
	return p
}

// Sorted returns the prefixes. No two overlap, so what is read under one
// after the other is sorted by key and has no key twice.
func (p Prefixes) Sorted() []string { return p.sorted }

// Match says whether a well-formed key is under one of the prefixes. Its cost
// depends on the depth of the key, not on the number of prefixes.
func (p Prefixes) Match(key string) bool {
	_, exact := p.set[key]
	return exact || p.covered(key)
}

// covered says whether s is inside a subtree of the set other than s itself.
func (p Prefixes) covered(s string) bool {
	for i := range len(s) - 1 {
		if s[i] != '/' {
			continue
		}
		if _, ok := p.set[s[:i+1]]; ok {
			return true
		}
	}
	return false
}

// Under says whether key is under one prefix.
func Under(prefix, key string) bool {
	if strings.HasSuffix(prefix, "/") {
		return len(key) > len(prefix) && strings.HasPrefix(key, prefix)
	}
	return key == prefix
}
