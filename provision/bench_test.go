package provision

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// signpost is a FIFO that a command opens as its first act.
type signpost struct{ path string }

func newSignpost(b *testing.B) signpost {
	s := signpost{filepath.Join(b.TempDir(), "fifo")}
	if err := syscall.Mkfifo(s.path, 0o600); err != nil {
		b.Fatal(err)
	}
	return s
}

// argv is the command; it does nothing else.
func (s signpost) argv() []string { return []string{"/bin/sh", "-c", `: >"$1"`, "sh", s.path} }

// measure returns the time from before start until the command's first act.
func (s signpost) measure(b *testing.B, start func()) time.Duration {
	begin := time.Now()
	reached := make(chan time.Time)
	go func() {
		fd, err := -1, error(syscall.EINTR)
		for errors.Is(err, syscall.EINTR) { // the runtime's own signals
			fd, err = syscall.Open(s.path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		}
		at := time.Now()
		if err != nil {
			b.Error(err)
		}
		_, _ = syscall.Read(fd, make([]byte, 1)) // until the command closed it: it must not answer the next
		_ = syscall.Close(fd)
		reached <- at
	}()
	start()
	return (<-reached).Sub(begin)
}

// BenchmarkRun measures from the call of Run to the first act of the command,
// beside a bare fork and exec of the same command: both alternate, and the
// medians are printed.
func BenchmarkRun(b *testing.B) {
	p := newProvisioner(b)
	s := newSignpost(b)
	var floors, runs []time.Duration
	p.Warm()
	for i := range b.N {
		floors = append(floors, s.measure(b, func() {
			pid, err := syscall.ForkExec("/bin/sh", s.argv(), &syscall.ProcAttr{Dir: "/", Env: []string{testPath}})
			if err != nil {
				b.Fatal(err)
			}
			go func() { _, _ = syscall.Wait4(pid, nil, 0, nil) }()
		}))
		job := Job{Run: fmt.Sprintf("b%d-%d", os.Getpid(), i), Step: "node", Argv: s.argv(), Env: []string{testPath}}
		done := make(chan Result, 1)
		runs = append(runs, s.measure(b, func() { go func() { done <- mustRun(b, p, job) }() }))
		if res := <-done; res.Outcome != Exited || res.Exit != 0 {
			b.Fatalf("%+v", res)
		}
		if err := p.Forget(Ref{job.Run, job.Step}); err != nil {
			b.Fatal(err)
		}
		waitStandby(b, p)
	}
	slices.Sort(floors)
	slices.Sort(runs)
	us := func(d []time.Duration, q float64) float64 {
		return float64(d[int(q*float64(len(d)-1))].Microseconds())
	}
	b.ReportMetric(us(floors, 0.5), "floor-µs")
	b.ReportMetric(us(runs, 0.5), "run-µs")
	b.ReportMetric(us(runs, 0.5)-us(floors, 0.5), "over-µs")
	b.ReportMetric(us(floors, 0.95), "floor-p95-µs")
	b.ReportMetric(us(runs, 0.95), "run-p95-µs")
	b.ReportMetric(0, "ns/op")
}

// waitStandby waits until a standby blocks in its read, which an idle agent's does.
func waitStandby(b *testing.B, p *Provisioner) {
	for range 2000 {
		p.mu.Lock()
		h := p.standby
		p.mu.Unlock()
		if h != nil {
			data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", h.proc.Pid))
			if len(data) > 2 && string(data[:2]) == "0 " { // read(2)
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	b.Fatal("no standby became ready")
}
