package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidPath is where a service keeps its process id.
func pidPath(dir string) string { return filepath.Join(dir, "service.pid") }

// startService is the command of the services: it starts the server anew and
// waits until it answers.
func startService() error {
	dir := os.Getenv("DIR")
	endProcess(pidPath(dir), filepath.Base(os.Args[0]))
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "serve")
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := server.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(pidPath(dir), []byte(strconv.Itoa(server.Process.Pid)), 0o600); err != nil {
		return err
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get("http://127.0.0.1:" + os.Getenv("PORT") + "/health")
		if err == nil {
			return answer.Body.Close()
		}
		if time.Now().After(until) {
			return fmt.Errorf("the service does not answer: %w", err)
		}
	}
}

// serve is a service: api says its name, www says its own and what API_URL says.
func serve() error {
	name, upstream := filepath.Base(os.Getenv("DIR")), os.Getenv("API_URL")
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if upstream == "" {
			_, _ = io.WriteString(w, name)
			return
		}
		text, err := fetch(r.Context(), upstream, "")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, name+" with "+text)
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// client keeps connections, as clients of balancers do.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

// fetch is the text at url; anything but 200 is an error.
func fetch(ctx context.Context, url, host string) (string, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	ask.Host = host
	answer, err := client.Do(ask)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return string(text), err
}

func (n *node) killService() { endProcess(pidPath(n.dir), "") }

// endProcess kills the process whose id is in a file that we wrote, and waits
// until it is gone; program, if given, has to be what it runs.
func endProcess(path, program string) {
	data, err := os.ReadFile(path)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid < 2 {
		return
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || program != "" && !strings.HasPrefix(filepath.Base(exe), program) {
		return
	}
	_ = syscall.Kill(pid, map[bool]syscall.Signal{true: syscall.SIGTERM, false: syscall.SIGKILL}[program == "haproxy"])
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			break
		}
	}
	_ = os.Remove(path)
}
