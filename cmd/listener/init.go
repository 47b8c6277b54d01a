package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/spf13/cobra"
)

// initFlags are the answers that init needs.
type initFlags struct {
	dir, node, region, host, store string
	preset, command, service       string
	requires                       []string // VARIABLE=KEY

	yes, force bool
}

// preset is what init writes for a provisioner.
type preset struct {
	name    string
	command []string
	setting string   // provision.preset
	locks   []string // who runs it by hand takes these, too
}

// presets are the provisioners that init knows, with the settings of
// examples/provisioners.
func presets() []preset {
	const ansible, puppet = "/run/lock/ansible-playbook", "/run/lock/puppet-apply"
	return []preset{
		{name: "none"},
		{name: "chef", setting: "chef", command: []string{"chef-solo", "-c", "/etc/listener/solo.rb", "-j", "{NODE_JSON}"}},
		{name: "cinc", setting: "chef", command: []string{"cinc-solo", "-c", "/etc/listener/solo.rb", "-j", "{NODE_JSON}"}},
		{name: "puppet", setting: "puppet", locks: []string{puppet}, command: []string{
			"flock", "-o", puppet, "puppet", "apply", "--detailed-exitcodes",
			"--modulepath", "/etc/listener/modules", "/etc/listener/site.pp",
		}},
		{name: "ansible", locks: []string{ansible}, command: []string{
			"flock", "-o", ansible, "ansible-playbook", "-c", "local", "-i", "localhost,", "/etc/listener/playbook.yml",
		}},
	}
}

func presetNames() string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

func (a *app) initCmd() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init",
		Short: "write settings and a first manifest to start from",
		Long: `Write DIR/listener.toml, DIR/attributes.toml and DIR/data_bags/service/ID.json, and
look whether the store can be reached. On a terminal it asks for what no flag
says; elsewhere flags have to say it, or --yes takes the defaults of the rest.
A file that is there is kept, and then nothing is written, but for one that has
only comments, or with --force. Outside /etc/listener everything that the agent
writes stays below DIR too, so that it runs without root.`,
		Example: `  listener init
  listener init --yes --region eu --store etcd://10.0.0.1:2379 --preset chef
  listener init --yes --dir try --service app-www --require DB_URL=PRIMARY_DATABASE_URL`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.ask(c, &f); err != nil {
				return err
			}
			files, err := f.files()
			if err != nil {
				return err
			}
			if err := write(files, f.force); err != nil {
				return err
			}
			return a.initDone(c.Context(), f, files)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.dir, "dir", filepath.Dir(config.DefaultPath), "`DIR` to write to")
	fl.StringVar(&f.node, "node", "", "`NAME` of this node; none: the host name")
	fl.StringVar(&f.region, "region", "", "`REGION` of this node; none: default")
	fl.StringVar(&f.host, "host", "", "`ADDRESS` under which others reach this node; none: found by itself")
	fl.StringVar(&f.preset, "preset", "", "`PROVISIONER` of this node: "+presetNames())
	fl.StringVar(&f.command, "command", "", "shell `COMMAND` that provisions the node, instead of the preset's")
	fl.StringVar(&f.service, "service", "", "`ID` of the first service (app)")
	fl.StringArrayVar(&f.requires, "require", nil, "`VARIABLE=KEY` of the first service (DATABASE_URL=PRIMARY_DATABASE_URL)")
	fl.BoolVar(&f.yes, "yes", false, "do not ask; the defaults for what no flag says")
	fl.BoolVar(&f.force, "force", false, "overwrite files that are there")
	return c
}

// question is what a flag can answer too.
type question struct {
	flag, text, byDefault string
	target                *string
}

// ask fills in what was not told: from a terminal, or with defaults if --yes.
func (a *app) ask(c *cobra.Command, f *initFlags) error {
	f.store = cmp.Or(a.storeFlag, a.env("LISTENER_STORE"))
	qs := []question{
		{"node", "name of this node (empty: the host name)", "", &f.node},
		{"region", "region", "default", &f.region},
		{"host", "address under which others reach it (empty: found by itself)", "", &f.host},
		{"store", "store: local, local:DIR, etcd://HOST:2379 or nats://HOST:4222", "local", &f.store},
		{"preset", "what provisions this node: " + presetNames(), "none", &f.preset},
		{"service", "id of the first service", "app", &f.service},
	}
	qs = slices.DeleteFunc(qs, func(q question) bool {
		return *q.target != "" || c.Flags().Changed(q.flag) || q.flag == "preset" && f.command != ""
	})
	if len(qs) > 0 && !f.yes && !terminal(a.in) {
		var missing []string
		for _, q := range qs {
			missing = append(missing, "--"+q.flag)
		}
		return failed(exitUsage, "add --yes for the defaults of what no flag says, or run it on a terminal, where it asks",
			"standard input is no terminal, and nothing says %s", strings.Join(missing, ", "))
	}
	if err := a.answers(qs, !f.yes); err != nil {
		return err
	}
	if f.store == "local" {
		f.store = ""
	}
	f.service = cmp.Or(f.service, "app")
	f.preset = cmp.Or(f.preset, "none")
	if len(f.requires) == 0 {
		f.requires = []string{"DATABASE_URL=PRIMARY_DATABASE_URL"}
	}
	return nil
}

// answers reads one line for each question; an empty one, or the end of the
// input, is the default.
func (a *app) answers(qs []question, asks bool) error {
	in := bufio.NewScanner(a.in)
	for _, q := range qs {
		*q.target = q.byDefault
		if !asks {
			continue
		}
		if _, err := fmt.Fprintf(a.err, "%s [%s]: ", q.text, q.byDefault); err != nil {
			return err
		}
		if in.Scan() {
			*q.target = cmp.Or(strings.TrimSpace(in.Text()), q.byDefault)
		}
	}
	return in.Err()
}

// files makes the content and checks it as the agent would.
func (f initFlags) files() ([]made, error) {
	service, err := f.manifest()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, "data_bags", "service", f.service+".json")
	if _, err := manifest.Parse(path, service); err != nil {
		return nil, usage(nil, err)
	}
	if f.store != "" {
		if _, err := config.ParseStoreURL(f.store); err != nil {
			return nil, usage(nil, err)
		}
	}
	if !slices.ContainsFunc(presets(), func(p preset) bool { return p.name == f.preset }) {
		return nil, failed(exitUsage, "write --preset with one of "+presetNames(), "there is no preset %q", f.preset)
	}
	return []made{
		{filepath.Join(f.dir, "listener.toml"), f.settings()},
		{filepath.Join(f.dir, "attributes.toml"), []byte(attributesText)},
		{path, service},
	}, nil
}

func (f initFlags) manifest() ([]byte, error) {
	requires := map[string]string{}
	for _, r := range f.requires {
		name, key, ok := strings.Cut(r, "=")
		if !ok {
			return nil, failed(exitUsage, "write --require DATABASE_URL=PRIMARY_DATABASE_URL", "--require %s is not VARIABLE=KEY", r)
		}
		requires[name] = "{" + key + "}"
	}
	data, err := json.MarshalIndent(struct {
		ID       string            `json:"id"`
		Requires map[string]string `json:"requires"`
	}{f.service, requires}, "", "  ")
	return append(data, '\n'), err
}

const attributesText = `# Values that count when the store has none: KEY = "value", or per region below
# [regions.NAME].
`

func (f initFlags) settings() []byte {
	var b strings.Builder
	b.WriteString("# Settings of this node. `listener config` shows all of them with their defaults.\n")
	set := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", name, quote(value))
		}
	}
	set("node", f.node)
	set("region", f.region)
	set("host", f.host)
	b.WriteString("manifests = [\"data_bags/service\"]\nattributes = [\"attributes.toml\"]\n")
	if !f.system() {
		b.WriteString("state_dir = \"state\"\nrun_dir = \"run\"\n\n[env]\ndir = \"services.d\"\n\n[api]\nsocket = \"run/listener.sock\"\n")
	}
	b.WriteString("\n[provision]\n")
	i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == f.preset })
	p := presets()[max(i, 0)]
	if f.command != "" {
		p.command, p.locks = []string{"/bin/sh", "-c", f.command}, nil
	}
	if p.command == nil {
		b.WriteString("# command = [\"chef-solo\", \"-j\", \"{NODE_JSON}\"]\n")
	} else {
		fmt.Fprintf(&b, "command = %s\n", quoteList(p.command))
	}
	set("preset", p.setting)
	if len(p.locks) > 0 {
		fmt.Fprintf(&b, "locks = %s\n", quoteList(p.locks))
	}
	b.WriteString(f.storeText())
	return []byte(b.String())
}

// system says whether the files are those of this machine's agent.
func (f initFlags) system() bool {
	return filepath.Clean(f.dir) == filepath.Dir(config.DefaultPath)
}

func (f initFlags) storeText() string {
	s, err := config.ParseStoreURL(f.store)
	if f.store == "" || err != nil {
		return ""
	}
	text := "\n[store]\nkind = " + quote(s.Kind) + "\n"
	switch s.Kind {
	case "local":
		return text + "path = " + quote(s.Path) + "\n"
	case "etcd":
		return text + "\n[store.etcd]\nendpoints = " + quoteList(s.Etcd.EndpointURLs()) + "\n"
	}
	return text + "\n[store.nats]\nservers = " + quoteList(s.NATS.ServerURLs()) + "\n"
}

// quote writes a TOML basic string; JSON's escapes are a subset of TOML's.
func quote(s string) string {
	data, _ := json.Marshal(s) // a string always has JSON
	return string(data)
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
