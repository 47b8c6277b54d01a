package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/listener-agent/listener/api"
	"github.com/listener-agent/listener/config"
	"github.com/listener-agent/listener/manifest"
	"github.com/listener-agent/listener/resolve"
	"github.com/listener-agent/listener/status"
	"github.com/listener-agent/listener/store"
	"github.com/listener-agent/listener/store/storetest"
)

// Without an agent, exec follows the store itself: values and providers, the
// one in use while it is up; what is gone leaves the command as it is.
func TestFollowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMemory()
		space := store.Space{Prefix: "/p", Federation: "f"}
		put := func(key, value string) {
			t.Helper()
			if _, err := mem.Commit(t.Context(), nil, store.Put(key, []byte(value))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		up := func(value string) string {
			return string(store.Provider{Value: value, State: store.Up, Weight: 1}.Encode())
		}
		m, err := manifest.Parse("app.json", []byte(`{"id": "app", "requires": {"D": "{DB:-none}", "A": "{API}"}}`))
		if err != nil {
			t.Fatal(err)
		}
		put(space.Provider("API", "eu", "n1", "api"), up("first"))
		v := api.Values{Store: mem, Space: space}
		cfg := config.Default()
		cfg.Store.Kind = "etcd"
		o := &offline{
			node: resolve.Node{Name: "web1", Region: "eu"}, manifests: []*manifest.Manifest{m},
			values: map[string]map[string]resolve.Entry{}, providers: map[string][]resolve.Provider{}, chosen: map[string]string{},
		}
		if err := o.loadProviders(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		a := &app{stdio: stdio{err: &bytes.Buffer{}}}
		s := &storeSource{a: a, cfg: cfg, o: o, service: "app", open: func() (api.Values, store.Store, error) { return v, mem, nil }}
		env, err := s.now(t.Context())
		if err != nil || env.Vars["A"] != "first" || env.Vars["D"] != "none" {
			t.Fatalf("%+v, %v", env, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		var got []string
		go func() {
			defer close(done)
			s.follow(ctx, func(env status.Environment) { got = append(got, env.Vars["A"]+" "+env.Vars["D"]) })
		}()
		synctest.Wait()
		put(space.Value("", "DB"), "db1")
		for _, n := range []string{"n0", "n2", "n3", "n4"} {
			put(space.Provider("API", "eu", n, "api"), up("other"))
		}
		put(space.Value("eu", "DB"), "db2")
		put(space.Provider("API", "eu", "n1", "api"), `{"value": "first", "state": "down"}`)
		for _, n := range []string{"n0", "n2", "n3", "n4"} {
			put(space.Provider("API", "eu", n, "api"), `{"value": "other", "state": "down"}`)
		}
		cancel()
		<-done
		want := map[string]bool{"first none": true, "first db1": true, "first db2": true, "other db2": true}
		seen := map[string]bool{}
		for _, g := range got {
			if seen[g] = true; !want[g] {
				t.Errorf("told %q", g)
			}
		}
		if len(seen) != len(want) || got[len(got)-1] != "other db2" {
			t.Errorf("told %q", got)
		}
	})
}

func TestSignalNumber(t *testing.T) {
	for text, want := range map[string]int{"HUP": 1, "sigusr1": 10, "SIGTERM": 15, "2": 2, "0": 0, "65": 0, "": 0, "NONE": 0} {
		got, err := signalNumber(text)
		if int(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
}

// Settling and the least interval make many changes one, and one that flaps
// back none.
func TestParentDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := func(v string) status.Environment { return status.Environment{Vars: map[string]string{"X": v}} }
		p := &parent{throttle: config.Throttle{Settle: time.Second, SettleMax: 5 * time.Second, MinInterval: 10 * time.Second}, env: env("a"), started: time.Now()}
		p.onEnvironment(env("b"))
		if d := p.due(time.Now()); d != 10*time.Second {
			t.Errorf("just started: due in %s", d)
		}
		time.Sleep(time.Minute)
		if d := p.due(time.Now()); d != 0 {
			t.Errorf("long after: due in %s", d)
		}
		p.next = nil
		for range 20 {
			p.onEnvironment(env(time.Now().String()))
			time.Sleep(time.Second / 2)
		}
		if d := p.due(time.Now()); d != 0 {
			t.Errorf("after settle_max: due in %s", d)
		}
		p.onEnvironment(env("a"))
		if p.next != nil {
			t.Error("what flapped back is still to be told")
		}
		p.onEnvironment(env("c"))
		if d := p.due(time.Now()); d != time.Second {
			t.Errorf("after a change: due in %s", d)
		}
	})
}

// A PATH of the service's own is where its command is looked for.
func TestCommandPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own-tool"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")) // put back afterwards
	a := &app{environ: []string{"PATH=/bin", "B=caller", "A=caller"}}
	path, environ, err := a.command(execOptions{argv: []string{"own-tool"}}, status.Environment{Vars: map[string]string{"PATH": dir, "B": "service"}})
	if err != nil || path != filepath.Join(dir, "own-tool") {
		t.Errorf("%s, %v", path, err)
	}
	if len(environ) != 3 || environ[0] != "A=caller" || environ[1] != "B=service" || environ[2] != "PATH="+dir {
		t.Errorf("environment %q", environ)
	}
}
