package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// probe checks once; ctx bounds it.
func probe(ctx context.Context, c Check) error {
	switch c.kind() {
	case "http":
		return probeHTTP(ctx, c.HTTP)
	case "tcp":
		return probeTCP(ctx, c.TCP)
	}
	return probeExec(ctx, c)
}

// An answer has passed or failed with its status. Its body is read so far, and
// thrown away, to let the server end in peace.
const (
	maxBody  = 64 << 10
	bodyWait = 100 * time.Millisecond
)

// probeHTTP opens a connection for each check, as a new client would.
func probeHTTP(ctx context.Context, target string) error {
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxBody}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return short(err)
	}
	req.Header.Set("User-Agent", "listener-check")
	resp, err := client.Do(req)
	if err != nil {
		return short(err)
	}
	defer resp.Body.Close()
	defer time.AfterFunc(bodyWait, cancel).Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody) // whatever it is
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("answer %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}

func probeTCP(ctx context.Context, target string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	return conn.Close()
}

// short leaves the URL out of an error: it is in the status already, and may
// have a password here.
func short(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// outputWait is how long the output of a check that ended stays open for what
// it left behind.
const outputWait = 500 * time.Millisecond

// probeExec runs the command in a process group of its own, which is killed
// when ctx ends. The last line of its output is the reason of its failure.
func probeExec(ctx context.Context, c Check) error {
	if len(c.Exec) == 0 {
		return errors.New("no command given")
	}
	cmd := exec.CommandContext(ctx, c.Exec[0], c.Exec[1:]...)
	var out tail
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &out, &out
	cmd.Env = c.Env
	if !slices.ContainsFunc(c.Env, func(s string) bool { return strings.HasPrefix(s, "PATH=") }) {
		cmd.Env = append(slices.Clone(c.Env), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential(c.UID, c.GID)}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputWait
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it passed; something that it started holds its output
	}
	if line := out.last(); err != nil && line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	return err
}

// credential is nil for the agent's own user and group.
func credential(uid, gid int) *syscall.Credential {
	u, g := os.Geteuid(), os.Getegid()
	if (uid < 0 || uid == u) && (gid < 0 || gid == g) {
		return nil
	}
	if uid >= 0 {
		u = uid
	}
	if gid >= 0 {
		g = gid
	}
	return &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-tailSize):]...)
	if len(t.b) > tailSize {
		t.b = slices.Clone(t.b[len(t.b)-tailSize:])
	}
	return len(p), nil
}

// last returns the last line that is not empty.
func (t *tail) last() string {
	text := strings.TrimSpace(string(t.b))
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
