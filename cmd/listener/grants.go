package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/store"
)

// access is what one credential may do, in keys of the store: a prefix that
// ends in "/" is that subtree, any other is one key.
type access struct {
	Federation string `json:"federation"`
	Node       string `json:"node,omitempty"` // "": all nodes of the federation
	Role       string `json:"role"`
	read       string
	write      []string
}

// planAccess is the access of all nodes of a federation, or, with a node's
// name, of that one: it reads the federation, and writes its own entry, its
// own providers of the keys that its manifests name, and tickets.
func planAccess(space store.Space, node, region string, manifests []*manifest.Manifest) access {
	a := access{Federation: space.Federation, Node: node, Role: "listener." + store.Escape(space.Federation), read: space.Key() + "/"}
	if node == "" {
		a.write = []string{a.read}
		return a
	}
	a.Role += "." + store.Escape(node)
	var keys []string
	for _, m := range manifests {
		for key := range m.Provides {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		a.write = append(a.write, space.Key("provides", key, region, node)+"/")
	}
	a.write = append(a.write, space.Key("nodes", node), space.Key("locks")+"/", space.Key("permits")+"/")
	return a
}

// nodeManifests are the manifests of the settings. One that is broken, or of
// another federation, is an error: a role that lacks its keys would be wrong.
func nodeManifests(cfg *config.Config, federation string) ([]*manifest.Manifest, error) {
	files, bad := manifest.ReadDirs(cfg.Manifests)
	for _, d := range bad {
		return nil, failed(exitSettings, "name the node's settings with --config, or --set manifests=DIR", "%w", d)
	}
	all := make([]*manifest.Manifest, 0, len(files))
	for _, f := range files {
		if f.Err != nil {
			return nil, f.Err
		}
		if m := f.Manifest; m.Federation != "" && m.Federation != federation {
			return nil, failed(exitSettings, "a node runs services of its own federation only; --set federation=NAME says which",
				"%s is of the federation %q, and this node of %q", f.Path, m.Federation, federation)
		}
		all = append(all, f.Manifest)
	}
	return all, nil
}

// title is the comment above the grants.
func (a access) title() string {
	if a.Node == "" {
		return "federation " + a.Federation + ": one credential for all its nodes"
	}
	return "federation " + a.Federation + ": node " + a.Node
}

// etcdGrant is one permission of a role.
type etcdGrant struct {
	Access string `json:"access"` // read, write or readwrite
	Key    string `json:"key"`
	// Prefix: all keys that begin with Key, not just that one.
	Prefix bool `json:"prefix"`
}

func etcdGrants(a access) []etcdGrant {
	if slices.Equal(a.write, []string{a.read}) {
		return []etcdGrant{{Access: "readwrite", Key: a.read, Prefix: true}}
	}
	grants := []etcdGrant{{Access: "read", Key: a.read, Prefix: true}}
	for _, w := range a.write {
		grants = append(grants, etcdGrant{Access: "write", Key: w, Prefix: strings.HasSuffix(w, "/")})
	}
	return grants
}

// etcdText are the commands that make the role. Neither escaped parts nor the
// prefix of the settings have anything that a shell would take for its own.
func etcdText(w io.Writer, a access, grants []etcdGrant) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", a.title())
	fmt.Fprintf(&b, "etcdctl role add %s\n", a.Role)
	for _, g := range grants {
		prefix := ""
		if g.Prefix {
			prefix = "--prefix=true "
		}
		fmt.Fprintf(&b, "etcdctl role grant-permission %s %s%s %s\n", a.Role, prefix, g.Access, g.Key)
	}
	b.WriteString("# Then its user, USER or the common name of its certificate (--no-password):\n")
	fmt.Fprintf(&b, "#   etcdctl user add USER; etcdctl user grant-role USER %s\n", a.Role)
	_, err := io.WriteString(w, b.String())
	return err
}
