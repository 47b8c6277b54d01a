package balancer_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/listener-agent/listener/balancer"
	"github.com/listener-agent/listener/store"
)

// nginx renders the template of examples/ for a directory of the test's own.
func nginx(t *testing.T, dir string, p *balancer.Plan) []byte {
	t.Helper()
	path := filepath.Join("..", "examples", "nginx", "nginx.conf.tmpl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := balancer.NewTemplate(path, string(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := tmpl.Render(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	// Debian's directories for temporary files are root's.
	var own strings.Builder
	own.WriteString("http {\n")
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&own, "    %s_temp_path %s;\n", what, dir)
	}
	return bytes.Replace(b, []byte("http {\n"), []byte(own.String()), 1)
}

// check asks nginx whether it takes a configuration.
func check(t *testing.T, config []byte, dir string) {
	t.Helper()
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program(t, "nginx", "nginx-light"), "-t", "-q", "-c", path, "-g", globals(dir)).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("[warn]")) && os.Getuid() == 0 {
		t.Errorf("nginx -t: %v\n%s\n%s", err, out, config)
	}
}

func globals(dir string) string { return "daemon off; pid " + dir + "/pid; error_log stderr;" }

func TestNginx(t *testing.T) {
	t.Parallel()
	inputs := goldens()
	inputs["empty backend"] = local(key("API_URL", up("a", is(store.Left))))
	inputs["hash with backups"] = local(key("API_URL", up("a", balance(store.Hash)), up("b", in("eu"), balance(store.Hash))))
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			got := nginx(t, dir, plan(t, in))
			got = bytes.ReplaceAll(got, []byte("db.example.com"), []byte("localhost"))
			if bytes.Contains(got, []byte("\nstream {")) && !stream(t) {
				t.Skip("nginx has no module for TCP (apt-get install libnginx-mod-stream): left out")
			}
			check(t, got, dir)
		})
	}
}

// stream reports whether nginx knows TCP here.
func stream(t *testing.T) bool {
	t.Helper()
	mods, _ := filepath.Glob("/etc/nginx/modules-enabled/*stream.conf")
	if len(mods) == 0 && os.Getenv("CI") == "true" {
		t.Fatal("libnginx-mod-stream is not installed")
	}
	return len(mods) > 0
}

// TestNginxReload: requests that a client may send again do not fail.
func TestNginxReload(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := serve(t, "a"), serve(t, "b")
	one := plan(t, local(key("API_URL", up("a", on(a, port)))))
	both := plan(t, local(key("API_URL", up("a", on(a, port)), up("b", on(b, port)))))
	cmd, dir := startNginx(t, one)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	l := traffic(t, url)
	for range 3 {
		check(t, nginx(t, dir, both), dir)
		signal(t, cmd)
		before := b.hits.Load()
		eventually(t, "b in use", func() bool { return b.hits.Load() > before })
		l.more(t, 300)
		check(t, nginx(t, dir, one), dir)
		signal(t, cmd)
		l.more(t, 300)
	}
	l.stop()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, such as %s", len(l.failed), l.sent.Load(), l.failed[0])
	}
}

// startNginx runs nginx with a plan, in a directory, until the test ends.
func startNginx(t *testing.T, p *balancer.Plan) (cmd *exec.Cmd, dir string) {
	t.Helper()
	dir = t.TempDir()
	check(t, nginx(t, dir, p), dir)
	cmd = exec.Command(program(t, "nginx", "nginx-light"), "-c", filepath.Join(dir, "nginx.conf"), "-g", globals(dir))
	out := &logged{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("nginx:\n%s", out)
		}
	})
	// Written when it listens already.
	eventually(t, "serving", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		return err == nil && len(bytes.TrimSpace(b)) > 0
	})
	return cmd, dir
}

func signal(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}
