package nats

import (
	"slices"
	"strings"

	"github.com/listener-agent/listener/store"
)

// Grants are the subjects that a user of the server has to be allowed.
type Grants struct {
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
}

// GrantsFor returns what a Store over the bucket sends and receives when it
// writes only what is under the given prefixes; an invalid one is an error. Of
// sessions it has those of node, or, with "", all.
// What may be read cannot be narrowed: the filters of a read and of a watch
// are in the body of a request, where the server does not look. The bucket has
// to be there.
func GrantsFor(bucket, node string, write ...string) (Grants, error) {
	n := namesOf(bucket)
	sessions := n.session + ">"
	if node != "" {
		sessions = n.session + store.Escape(node) + ".*"
	}
	g := Grants{
		Publish: []string{
			"$JS.API.STREAM.INFO." + n.stream,
			"$JS.API.STREAM.MSG.GET." + n.stream,
			"$JS.API.DIRECT.GET." + n.stream,
			"$JS.API.DIRECT.GET." + n.stream + "." + n.all(),
			"$JS.API.CONSUMER.CREATE." + n.stream + ".*",
			// Flow control, without and with the domain and account.
			"$JS.FC." + n.stream + ".>",
			"$JS.FC.*.*." + n.stream + ".>",
			n.meta,
			n.guard,
			sessions,
		},
		Subscribe: []string{"_INBOX.>"},
	}
	for _, prefix := range write {
		if err := store.CheckPrefix(prefix); err != nil {
			return Grants{}, err
		}
		if subject := n.filter(prefix); !slices.Contains(g.Publish, subject) {
			g.Publish = append(g.Publish, subject)
		}
	}
	return g, nil
}

// Through returns the grants for users of a server whose account maps
// JetStream to that of a domain, as a leaf node does. Such a server looks at
// what a subject was mapped to.
func (g Grants) Through(domain string) Grants {
	to := make([]string, 0, len(g.Publish))
	for _, subject := range g.Publish {
		if rest, ok := strings.CutPrefix(subject, "$JS.API."); ok {
			subject = "$JS." + domain + ".API." + rest
		} else if strings.HasPrefix(subject, "$KV.") {
			subject = "$JS." + domain + ".API." + subject
		}
		to = append(to, subject)
	}
	return Grants{Publish: to, Subscribe: g.Subscribe}
}

// unmapped is what was mapped to subject.
func unmapped(subject string) string {
	rest, ok := strings.CutPrefix(subject, "$JS.")
	if !ok {
		return subject
	}
	_, rest, ok = strings.Cut(rest, ".API.")
	switch {
	case !ok || strings.HasPrefix(subject, "$JS.API."):
		return subject
	case strings.HasPrefix(rest, "$KV."):
		return rest
	default:
		return "$JS.API." + rest
	}
}
