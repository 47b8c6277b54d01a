package nats

import (
	"slices"

	"github.com/listener-agent/listener/store"
)

// Grants are the subjects that a user of the server has to be allowed.
type Grants struct {
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
}

// GrantsFor returns what a Store over the bucket sends and receives when it
// writes only what is under the given prefixes; an invalid one is an error.
// What may be read cannot be narrowed: the filters of a read and of a watch
// are in the body of a request, where the server does not look. The bucket has
// to be there.
func GrantsFor(bucket string, write ...string) (Grants, error) {
	n := namesOf(bucket)
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
			n.session + "*",
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
