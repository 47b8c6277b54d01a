package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// ProblemKind says what a Problem is about, for programs.
type ProblemKind string

const (
	// DuplicateID: two files have one id.
	DuplicateID ProblemKind = "duplicate-id"
	// TwoFederations: two files name different federations.
	TwoFederations ProblemKind = "two-federations"
)

// Problem is what is wrong between two manifests that are each good. Both
// files get one, for neither is known to be the right one.
type Problem struct {
	Kind        ProblemKind
	File, Other string
	Service     string // of File
	Text, Hint  string
}

// Error is "file: text (hint)".
func (p Problem) Error() string { return fmt.Sprintf("%s: %s (%s)", p.File, p.Text, p.Hint) }

// CheckSet finds what is wrong among one node's manifests, sorted by file.
// Services that require each other are fine: what is not there yet is held
// back by the binding, not by the order.
func CheckSet(ms []*Manifest) []Problem {
	sorted := slices.Clone(ms)
	slices.SortStableFunc(sorted, func(a, b *Manifest) int { return strings.Compare(a.File, b.File) })
	ids := map[string][]*Manifest{}
	var named []*Manifest
	for _, m := range sorted {
		ids[m.ID] = append(ids[m.ID], m)
		if m.Federation != "" {
			named = append(named, m)
		}
	}
	var problems []Problem
	for _, m := range sorted {
		if o := other(ids[m.ID], m, func(o *Manifest) bool { return o != m }); o != nil {
			problems = append(problems, Problem{
				Kind: DuplicateID, File: m.File, Other: o.File, Service: m.ID,
				Text: fmt.Sprintf("the service %s is in %s too", m.ID, o.File),
				Hint: "remove one of the two files",
			})
		}
		if m.Federation == "" {
			continue
		}
		if o := other(named, m, func(o *Manifest) bool { return o.Federation != m.Federation }); o != nil {
			problems = append(problems, Problem{
				Kind: TwoFederations, File: m.File, Other: o.File, Service: m.ID,
				Text: fmt.Sprintf("federation %q, but %q in %s", m.Federation, o.Federation, o.File),
				Hint: "a node belongs to one federation; name the same one in both, or in neither",
			})
		}
	}
	return problems
}

func other(ms []*Manifest, m *Manifest, is func(*Manifest) bool) *Manifest {
	for _, o := range ms {
		if o != m && is(o) {
			return o
		}
	}
	return nil
}
