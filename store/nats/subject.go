package nats

import (
	"strings"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/internal/feed"
)

// names are the subjects of one bucket. A key's parts are tokens of its
// subject. Tokens that begin with "=" and are no escape, which no key has, are
// the store's own:
//
//	=meta      what made the bucket
//	=s.ID      the session ID, which may begin with NODE.
//	=guard     carries conditions on keys that a commit does not write
type names struct {
	stream  string
	prefix  string // of subjects, with the final dot
	meta    string
	guard   string
	session string // with the final dot
}

func namesOf(bucket string) names {
	p := "$KV." + bucket + "."
	return names{stream: "KV_" + bucket, prefix: p, meta: p + "=meta", guard: p + "=guard", session: p + "=s."}
}

// all is every subject of the bucket.
func (n names) all() string { return n.prefix + ">" }

// subject returns where a key is.
func (n names) subject(key string) string {
	return n.prefix + strings.ReplaceAll(key[1:], "/", ".")
}

// key is the inverse of subject. Not ok: the store's own, or what somebody
// else put into the bucket and is no key of ours.
func (n names) key(subject string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(subject, n.prefix)
	if !ok || strings.Contains(rest, "/") {
		return "", false
	}
	key = "/" + strings.ReplaceAll(rest, ".", "/")
	return key, store.CheckKey(key) == nil
}

// filter is the subject that matches exactly what is under a prefix.
func (n names) filter(prefix string) string {
	if strings.HasSuffix(prefix, "/") {
		return n.prefix + strings.ReplaceAll(prefix[1:], "/", ".") + ">"
	}
	return n.subject(prefix)
}

// filters are those of several prefixes; no two overlap.
func (n names) filters(p feed.Prefixes) []string {
	all := make([]string, 0, len(p.Sorted()))
	for _, prefix := range p.Sorted() {
		all = append(all, n.filter(prefix))
	}
	return all
}

// maxFilters is how many filters a consumer or a read may have. The server
// compares each with each: 6,000 take it nine seconds, for one client.
const maxFilters = 128

// widen returns prefixes that cover all of these, at most maxFilters: where many lie in one folder, the folder takes their place. The watches
// themselves leave out what they did not ask for.
func widen(prefixes []string) feed.Prefixes {
	p := feed.NewPrefixes(prefixes)
	for len(p.Sorted()) > maxFilters {
		folders := make(map[string]int)
		for _, s := range p.Sorted() {
			folders[folder(s)]++
		}
		largest := ""
		for f, n := range folders {
			if largest == "" || n > folders[largest] || n == folders[largest] && (len(f) > len(largest) || len(f) == len(largest) && f < largest) {
				largest = f
			}
		}
		p = feed.NewPrefixes(append(p.Sorted(), largest))
	}
	return p
}

// folder is the subtree that a prefix lies in, "/" for those at the top.
func folder(prefix string) string {
	s := strings.TrimSuffix(prefix, "/")
	return s[:strings.LastIndexByte(s, '/')+1]
}
