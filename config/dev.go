package config

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// originDev is the origin of what `listener dev` chooses.
var originDev = origin{file: "listener dev"}

// Dev is the settings of `listener dev dir`: manifests and attributes of dir,
// [provision] of its listener.toml if there is one, a local store and all that
// is written under tmp, short times, and 127.0.0.1 as host where there is no
// other. Of o only Flags and the LISTENER_CFG_* variables of Environ count;
// they are above all that. LISTENER_STORE does not: in the shell of someone who
// uses it to look at a real store, dev would follow that one.
func Dev(dir, tmp string, o Options) (*Config, error) {
	l := &loader{cfg: Default(), anyOwner: true}
	l.only = func(name string) bool { return strings.HasPrefix(name, "provision.") }
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, Errors{{File: dir, Text: "find the working directory: " + err.Error(), Err: err}}
	}
	l.base = abs
	l.dev(abs, tmp)
	path := filepath.Join(dir, "listener.toml")
	data, ferr := readFile(path, true)
	switch {
	case ferr == nil:
		l.file(path, data)
	case !errors.Is(ferr, fs.ErrNotExist):
		l.errs = append(l.errs, ferr)
	}
	l.environ(slices.DeleteFunc(slices.Clone(o.Environ), func(kv string) bool {
		return strings.HasPrefix(kv, StoreVariable+"=")
	}))
	l.flags(o.Flags)
	c, err := l.finish()
	if err == nil {
		c.Host = cmp.Or(c.Host, "127.0.0.1")
	}
	return c, err
}

// dev puts the choices of `listener dev` onto the defaults.
func (l *loader) dev(dir, tmp string) {
	c := l.cfg
	c.Manifests = []string{filepath.Join(dir, "data_bags", "service")}
	c.Attributes = []string{filepath.Join(dir, "attributes.toml")}
	c.StateDir = filepath.Join(tmp, "state")
	c.RunDir = filepath.Join(tmp, "run")
	c.Env.Dir = filepath.Join(tmp, "services.d")
	c.API.Socket = filepath.Join(tmp, "listener.sock")
	c.Throttle.Settle, c.Throttle.MinInterval, c.Throttle.Burst = 100*time.Millisecond, time.Second, 60
	c.Retry.Base = time.Second
	for _, name := range []string{
		"manifests", "attributes", "state_dir", "run_dir", "env.dir", "api.socket",
		"throttle.settle", "throttle.min_interval", "throttle.burst", "retry.base",
	} {
		l.note(name, originDev)
	}
}
