package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The kinds of problems.
const (
	// BadEntry: a provider is left out because of what is in its entry.
	BadEntry = "bad entry"
	// Collision: two want one port or one route, and neither has it.
	Collision = "collision"
	// Mixed: providers of one key differ in what they must agree on.
	Mixed = "mixed"
	// AllDown: no provider of a key is up; those that are down are used.
	AllDown = "all down"
	// Elsewhere: a provider has a local_port, but its value is not its own host
	// and port, so it is used directly. This can be as it was meant.
	Elsewhere = "elsewhere"
)

// Problem is something that is not in the plan, or not as it was asked for.
type Problem struct {
	Kind string
	Key  string // quoted, where it is not a key
	// Provider is region/node/service; "" when it is not about a single one.
	Provider string
	// Text is for people: a sentence without key and provider. It never holds a value.
	Text string
}

// String is the problem as one line.
func (p Problem) String() string {
	if p.Provider == "" {
		return p.Key + ": " + p.Text
	}
	return p.Key + " of " + p.Provider + ": " + p.Text
}

func compareProblems(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Text, b.Text))
}

// problem notes one about e, which may be nil.
func (m *maker) problem(kind, key string, e *Entry, format string, args ...any) {
	p := Problem{Kind: kind, Key: key, Text: fmt.Sprintf(format, args...)}
	if e != nil {
		p.Provider = plainText(e.Region) + "/" + plainText(e.Node) + "/" + plainText(e.Service)
	}
	m.plan.Problems = append(m.plan.Problems, p)
}

// plainText is s as it is when it is a short word, else quoted and cut.
func plainText(s string) string {
	const most = 100
	long := len(s) > most
	if long {
		s = strings.ToValidUTF8(s[:most], "")
	}
	odd := strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= utf8.RuneSelf || strings.ContainsRune("\"'`\\$;|&<>(){}", r)
	})
	switch {
	case long:
		return fmt.Sprintf("%q…", s)
	case odd || s == "":
		return fmt.Sprintf("%q", s)
	}
	return s
}

// listed is how many names a list has at most.
const listed = 20

// list is "a, b and c" of sorted, distinct names, of many the first.
func list(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	if more := len(names) - listed; more > 0 {
		names = append(names[:listed], fmt.Sprintf("%d more", more))
	}
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
