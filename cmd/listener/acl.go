package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/nats"
	"github.com/spf13/cobra"
)

func (a *app) aclCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "acl",
		Short: "print the access rights that nodes need in etcd or NATS",
		Long: `Print the access rights that the nodes of this federation need in the store. Changes
nothing and asks no server: an administrator of the store applies what it prints.`,
		Example: "  listener acl etcd\n  listener acl nats --set federation=shop",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.aclEtcdCmd(), a.aclNATSCmd())
	return c
}

const perNodeHelp = `With --per-node NODE, those of one node: it reads the federation and writes only its
own entry, its own providers of the keys that its manifests name, and tickets. The
manifests, the region and the federation are those of the settings: give the node's,
with --config or --set.`

func (a *app) aclEtcdCmd() *cobra.Command {
	var node string
	c := &cobra.Command{
		Use:   "etcd",
		Short: "print the etcdctl commands that make the role of a credential",
		Long: `Print the etcdctl commands that make the role for the nodes of this federation.

` + perNodeHelp,
		Example: "  listener acl etcd\n  listener acl etcd --per-node web1 --config web1/listener.toml\n  listener acl etcd --set federation=shop -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			acc, _, err := a.access(c, node)
			if err != nil {
				return err
			}
			grants := etcdGrants(acc)
			return a.print(struct {
				access
				Grants []etcdGrant `json:"grants"`
			}{acc, grants}, func(w io.Writer) error { return etcdText(w, acc, grants) })
		},
	}
	perNode(c, &node)
	return c
}

func (a *app) aclNATSCmd() *cobra.Command {
	var node, domain string
	c := &cobra.Command{
		Use:   "nats",
		Short: "print the permissions of a user for the server's configuration",
		Long: `Print the permissions of a user for the nodes of this federation, as the servers'
configuration has them. They narrow what is written. What is read they cannot narrow:
who may read the bucket reads all of it, so give each federation an account, or at
least a bucket, of its own. The bucket has to be there: a user who may make it runs
"listener list" once.

With --domain, those of a user of a leaf node whose account maps JetStream to that
domain, the hub's.

` + perNodeHelp,
		Example: "  listener acl nats\n  listener acl nats --per-node web1 --config web1/listener.toml\n  listener acl nats --set federation=shop -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			acc, bucket, err := a.access(c, node)
			if err != nil {
				return err
			}
			grants, err := nats.GrantsFor(bucket, acc.Node, acc.write...)
			if err != nil {
				return err
			}
			if domain != "" {
				grants = grants.Through(domain)
			}
			return a.print(struct {
				access
				Bucket string `json:"bucket"`
				nats.Grants
			}{acc, bucket, grants}, func(w io.Writer) error { return natsText(w, acc, bucket, grants) })
		},
	}
	perNode(c, &node)
	c.Flags().StringVar(&domain, "domain", "", "JetStream is behind the domain `NAME`")
	return c
}

func perNode(c *cobra.Command, node *string) {
	c.Flags().StringVar(node, "per-node", "", "only what the node `NODE` needs")
}

// access is what the settings ask for, and the bucket that they name. node ""
// is all nodes.
func (a *app) access(c *cobra.Command, node string) (acc access, bucket string, err error) {
	if c.Flags().Changed("per-node") && node == "" {
		return access{}, "", failed(exitUsage, "name the node as `listener status` on it does", "--per-node without a node")
	}
	cfg, err := a.config()
	if err != nil {
		return access{}, "", err
	}
	space := store.Space{Prefix: cfg.Store.Prefix, Federation: federation(cfg)}
	if node == "" {
		return planAccess(space, "", "", nil), cfg.Store.NATS.Bucket, nil
	}
	manifests, err := nodeManifests(cfg, space.Federation)
	if err != nil {
		return access{}, "", err
	}
	return planAccess(space, node, cfg.Region, manifests), cfg.Store.NATS.Bucket, nil
}

// natsText is the part of a user in the servers' configuration.
func natsText(w io.Writer, a access, bucket string, g nats.Grants) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, bucket %s\n", a.title(), bucket)
	b.WriteString("permissions: {\n")
	for _, part := range []struct {
		name     string
		subjects []string
	}{{"publish", g.Publish}, {"subscribe", g.Subscribe}} {
		fmt.Fprintf(&b, "  %s: { allow: [\n", part.name)
		for _, s := range part.subjects {
			fmt.Fprintf(&b, "    %q\n", s)
		}
		b.WriteString("  ] }\n")
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
