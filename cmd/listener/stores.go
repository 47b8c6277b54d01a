package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/etcd"
	"github.com/listener-agent/listener/store/local"
	"github.com/listener-agent/listener/store/nats"
)

// openStore opens the store of the settings. This is the only place that
// knows which stores exist. moved says where a damaged local file went.
func openStore(cfg *config.Config, repair bool) (s store.Store, moved string, err error) {
	switch cfg.Store.Kind {
	case "local":
		path := cfg.StoreFile()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		if repair {
			s, moved, err := local.OpenOrReset(local.Options{Path: path})
			return nilStore(s), moved, err
		}
		l, err := local.Open(local.Options{Path: path})
		return nilStore(l), "", err
	case "etcd":
		e, err := etcd.Open(etcdOptions(cfg.Store.Etcd))
		if errors.Is(err, store.ErrInvalid) {
			return nil, "", &config.Error{Name: "store.etcd", Text: err.Error()}
		}
		if err != nil {
			return nil, "", err
		}
		return e, "", nil
	case "nats":
		return nats.Open(natsOptions(cfg)), "", nil
	default:
		return nil, "", &config.Error{
			Name: "store.kind", Text: "this build has no store of the kind " + cfg.Store.Kind,
			Hint: "write local, etcd or nats",
		}
	}
}

func etcdOptions(c config.Etcd) etcd.Options {
	return etcd.Options{
		Endpoints: c.EndpointURLs(), ServerName: c.ServerName,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Username: c.Username, PasswordFile: c.PasswordFile,
	}
}

func natsOptions(cfg *config.Config) nats.Options {
	c := cfg.Store.NATS
	return nats.Options{
		Servers: c.ServerURLs(), Bucket: c.Bucket, Replicas: c.Replicas, Node: cfg.Node,
		CredsFile: c.CredsFile, NKeyFile: c.NkeyFile,
		CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
	}
}

// nilStore keeps a nil *local.Store from becoming a store that is not nil.
func nilStore(s *local.Store) store.Store {
	if s == nil {
		return nil
	}
	return s
}

// federation is the one that an agent with these settings belongs to: that of
// the settings, else the one kept, else the one the manifests name.
func federation(cfg *config.Config) string {
	if cfg.Federation != "" {
		return cfg.Federation
	}
	var kept struct {
		Federation string `json:"federation"`
	}
	data, err := os.ReadFile(filepath.Join(cfg.StateDir, "state.json"))
	if err == nil && json.Unmarshal(data, &kept) == nil && kept.Federation != "" {
		return kept.Federation
	}
	files, _ := manifest.ReadDirs(cfg.Manifests)
	named := ""
	for _, f := range files {
		switch {
		case f.Manifest == nil || f.Manifest.Federation == "" || f.Manifest.Federation == named:
		case named != "":
			return "default" // two are named: neither counts
		default:
			named = f.Manifest.Federation
		}
	}
	if named == "" {
		return "default"
	}
	return named
}

// direct opens the store of cfg for the value commands.
func direct(cfg *config.Config, write bool) (api.Values, store.Store, error) {
	if path := cfg.StoreFile(); cfg.Store.Kind == "local" && !write {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return api.Values{}, nil, failed(exitUnreachable, "start an agent, name the socket of one with --socket, or begin with `listener put`",
				"there is no agent, and no store at %s", path)
		}
	}
	s, _, err := openStore(cfg, false)
	if errors.Is(err, local.ErrLocked) {
		return api.Values{}, nil, hinted(fmt.Errorf("%s: %w", cfg.StoreFile(), local.ErrLocked),
			"an agent has it open: name its socket with --socket or LISTENER_SOCKET, and leave --store away")
	}
	if err != nil {
		return api.Values{}, nil, err
	}
	return api.Values{Store: s, Space: store.Space{Prefix: cfg.Store.Prefix, Federation: federation(cfg)}}, s, nil
}

// noAgent says whether err means that no agent runs, rather than that it may
// not be asked.
func noAgent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
