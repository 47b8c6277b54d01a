package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/spf13/cobra"
)

// initFlags are the answers that init needs.
type initFlags struct {
	dir, node, region, store string
	service, command         string
	requires                 []string // VARIABLE=KEY
}

// made is one file that init writes.
type made struct {
	path string
	data []byte
}

func (a *app) initCmd() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init",
		Short: "write settings and a first manifest to start from",
		Long: `Write DIR/listener.toml, DIR/attributes.toml and DIR/data_bags/service/ID.json. On a
terminal it asks for what no flag says. A file that is there is never overwritten:
then nothing is written. Outside /etc/listener everything that the agent writes
stays below DIR too, so that it runs without root.`,
		Example: `  listener init --dir try --service app-www --require DATABASE_URL=PRIMARY_DATABASE_URL
  listener init --dir /etc/listener --command /usr/local/bin/provision`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.ask(&f); err != nil {
				return err
			}
			files, err := f.files()
			if err != nil {
				return err
			}
			if err := write(files); err != nil {
				return err
			}
			return a.initDone(f, files)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.dir, "dir", filepath.Dir(config.DefaultPath), "`DIR` to write to")
	fl.StringVar(&f.node, "node", "", "`NAME` of this node; none: the host name")
	fl.StringVar(&f.region, "region", "", "`REGION` of this node; none: default")
	fl.StringVar(&f.service, "service", "", "`ID` of the first service (app)")
	fl.StringVar(&f.command, "command", "", "shell `COMMAND` that provisions the node; none: environment files only")
	fl.StringArrayVar(&f.requires, "require", nil, "`VARIABLE=KEY` of the first service (DATABASE_URL=PRIMARY_DATABASE_URL)")
	return c
}

// ask fills in what was not told, on a terminal; else the defaults count.
func (a *app) ask(f *initFlags) error {
	f.store = a.storeFlag
	type question struct {
		text, byDefault string
		target          *string
	}
	qs := []question{
		{"id of the first service", "app", &f.service},
		{"command that provisions this node (empty: environment files only)", "", &f.command},
	}
	in := bufio.NewScanner(a.in)
	for _, q := range qs {
		if *q.target != "" {
			continue
		}
		*q.target = q.byDefault
		if !terminal(a.in) {
			continue
		}
		if _, err := fmt.Fprintf(a.err, "%s [%s]: ", q.text, q.byDefault); err != nil {
			return err
		}
		if in.Scan() {
			if text := strings.TrimSpace(in.Text()); text != "" {
				*q.target = text
			}
		}
	}
	if len(f.requires) == 0 {
		f.requires = []string{"DATABASE_URL=PRIMARY_DATABASE_URL"}
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
	b.WriteString("# Settings of listener. `listener config` shows all of them with their defaults.\n")
	set := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s = %s\n", name, quote(value))
		}
	}
	set("node", f.node)
	set("region", f.region)
	b.WriteString("manifests = [\"data_bags/service\"]\nattributes = [\"attributes.toml\"]\n")
	if filepath.Clean(f.dir) != filepath.Dir(config.DefaultPath) {
		b.WriteString("state_dir = \"state\"\nrun_dir = \"run\"\n\n[env]\ndir = \"services.d\"\n\n[api]\nsocket = \"run/listener.sock\"\n")
	}
	b.WriteString("\n[provision]\n")
	if f.command == "" {
		b.WriteString("# command = [\"chef-solo\", \"-j\", \"{NODE_JSON}\"]\n")
	} else {
		fmt.Fprintf(&b, "command = [\"/bin/sh\", \"-c\", %s]\n", quote(f.command))
	}
	b.WriteString(f.storeText())
	return []byte(b.String())
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
	data, _ := json.Marshal(list)
	return string(data)
}

// write creates all files or, when one is there, none.
func write(files []made) error {
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil {
			return hinted(fmt.Errorf("%s is there already", f.path), "nothing was written; remove it, or choose another --dir")
		}
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already", f.path)
		}
		if err != nil {
			return err
		}
		_, err = file.Write(f.data)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) initDone(f initFlags, files []made) error {
	paths := make([]string, len(files))
	for i, m := range files {
		paths[i] = m.path
	}
	return a.print(map[string][]string{"written": paths}, func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, "wrote %s\n", strings.Join(paths, "\nwrote ")); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "next: listener agent --config %s\n", filepath.Join(f.dir, "listener.toml"))
		return err
	})
}
