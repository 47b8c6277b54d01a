package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// `make bench` runs these. They print what they measured beside what it should
// be and fail for no figure: a busy machine is not a broken program.

// rounds × perRound changes of each, floor and agent in turn.
const (
	rounds   = 9
	perRound = 200
)

// BenchmarkChange: from the commit of a value to the first instruction of the
// command, beside the floor: a bare loop that waits on the same kind of store
// and then forks and execs the same command.
func BenchmarkChange(b *testing.B) {
	floor := startRole(b, "floor", newNode(b, 1, false))
	agent := startRole(b, "agent", newNode(b, 1, false))
	var f, a series
	warm := order{Changes: perRound / 4}
	floor.do(b, warm)
	agent.do(b, warm)
	for range rounds {
		f.add(floor.do(b, order{Changes: perRound}).Latency)
		a.add(agent.do(b, order{Changes: perRound}).Latency)
	}
	title("commit of a value → first instruction of the command, %d rounds of %d", rounds, perRound)
	spread := 100 * float64(slices.Max(f.medians)-slices.Min(f.medians)) / float64(median(f.medians))
	line("floor", "median %s  p95 %s  (round medians spread %.0f %%)", ms(f.median()), ms(f.p95()), spread)
	line("agent", "median %s  p95 %s", ms(a.median()), ms(a.p95()))
	if spread > 30 {
		line("", "TOO NOISY: these figures tell nothing, run it on a quiet machine")
	}
	target("median above the floor", ms(a.median()-f.median()), "3 ms, aim 1 ms", a.median() <= f.median()+3*time.Millisecond)
	most := f.p95()*3/2 + 10*time.Millisecond
	target("p95", ms(a.p95()), ms(most)+" (1.5 × floor + 10 ms)", a.p95() <= most)
	b.ReportMetric(float64(f.median().Microseconds()), "floor-µs")
	b.ReportMetric(float64(a.median().Microseconds()), "agent-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBurst: any number of changes during one run are exactly one more.
// That is no matter of speed, so it does fail.
func BenchmarkBurst(b *testing.B) {
	m := startRole(b, "agent", newNode(b, 1, true)).do(b, order{Changes: 1000, Burst: true})
	title("1,000 changes during one run")
	target("runs after it", strconv.Itoa(m.Runs), "1", m.Runs == 1)
	if m.Runs != 1 {
		b.Fail()
	}
	b.ReportMetric(float64(m.Runs), "runs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkManyStart: the start of a node with 1,000 services, and what it
// holds in memory then.
func BenchmarkManyStart(b *testing.B) {
	const services, starts = 1000, 5
	var bare, took, memory, later series
	for range starts {
		bare.add([]time.Duration{bareFiles(b, 2*services)})
		p := startAgent(b, newNode(b, services, false))
		took.add([]time.Duration{p.firstRun})
		p.untilIdle(b)
		memory.sizes = append(memory.sizes, p.rssAnon(b))
		p.put(b, benchKey(1, 1), "another")
		time.Sleep(5 * time.Second)
		later.sizes = append(later.sizes, p.rssAnon(b))
		p.stop(b)
	}
	title("%d services with %d keys each", services, keysEach)
	line("floor: that many env files and copies", "%s", ms(median(bare.medians)))
	target("start of the process → first run", ms(median(took.medians)), "1 s", median(took.medians) <= time.Second)
	line("RssAnon right after the first run", "%s (what it leaves behind goes back 2 s later)", mb(median(memory.sizes)))
	target("RssAnon after a change, 5 s later", mb(median(later.sizes)), "25 MB", median(later.sizes) <= 25e6)
	b.ReportMetric(float64(median(took.medians).Milliseconds()), "start-ms")
	b.ReportMetric(float64(median(later.sizes))/1e6, "rss-MB")
	b.ReportMetric(0, "ns/op")
}

// bareFiles makes n files as atomicfile does, which the first run of an agent
// cannot do without: an env file and the copy of a manifest for each service.
func bareFiles(b *testing.B, n int) time.Duration {
	dir := b.TempDir()
	begin := time.Now()
	for i := range n {
		temp := filepath.Join(dir, ".temp"+strconv.Itoa(i))
		if err := os.WriteFile(temp, make([]byte, 300), 0o600); err != nil {
			b.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, strconv.Itoa(i))); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

// BenchmarkManyChange: what one change costs a node with 1,000 services.
func BenchmarkManyChange(b *testing.B) {
	const services, changes = 1000, 50
	a := startRole(b, "agent", newNode(b, services, false))
	a.do(b, order{Changes: 5})
	m := a.do(b, order{Changes: changes})
	title("one change among %d services with %d keys each, median of %d", services, keysEach, changes)
	target("CPU, change → decision", ms(median(m.Decision)), "5 ms", median(m.Decision) <= 5*time.Millisecond)
	line("", "the process's, user and system, from before the commit to the last gate")
	line("CPU, change → run handed on", "%s (files compared, node.json, state.json)", ms(median(m.Begun)))
	line("CPU, change → run recorded", "%s", ms(median(m.Whole)))
	line("commit → first instruction", "median %s", ms(median(m.Latency)))
	b.ReportMetric(float64(median(m.Decision).Microseconds()), "decision-cpu-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle: a node with 100 keys on which nothing happens.
func BenchmarkIdle(b *testing.B) {
	p := startAgent(b, newNode(b, 100/keysEach, false))
	p.untilIdle(b)
	time.Sleep(5 * time.Second)
	before := processCPU(p.cmd.Process.Pid)
	time.Sleep(time.Minute)
	used := processCPU(p.cmd.Process.Pid) - before
	memory, standby := p.rssAnon(b), p.standby(b)
	p.stop(b)
	title("idle for a minute, 100 keys")
	target("RssAnon of the agent", mb(memory), "8 MB", memory <= 8e6)
	line("RssAnon of the standby supervisor", "%s", mb(standby))
	target("CPU", ms(used), "20 ms", used <= 20*time.Millisecond)
	b.ReportMetric(float64(memory)/1e6, "rss-MB")
	b.ReportMetric(float64(used.Microseconds()), "cpu-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBinary: its size.
func BenchmarkBinary(b *testing.B) {
	info, err := os.Stat(benchBinary(b))
	if err != nil {
		b.Fatal(err)
	}
	title("the binary, static and stripped")
	target("size", mb(info.Size()), "20 MB", info.Size() <= 20e6)
	b.ReportMetric(float64(info.Size())/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}

// process is the real binary as `listener agent`.
type process struct {
	stamps   stamps
	dir      string
	cmd      *exec.Cmd
	firstRun time.Duration // from the start of the process to the command's first instruction
}

func startAgent(b *testing.B, dir string) *process {
	s, err := openStamps(filepath.Join(dir, "stamps"))
	if err != nil {
		b.Fatal(err)
	}
	p := &process{dir: dir, stamps: s, cmd: exec.Command(filepath.Join(dir, "listener"), "agent", "--config", filepath.Join(dir, "listener.toml"))}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	begin := monotonic()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	first, err := s.next()
	if err != nil {
		data, _ := os.ReadFile(log.Name())
		b.Fatalf("no first run: %v\n%s", err, data)
	}
	p.firstRun = first - begin
	return p
}

// untilIdle waits until the first run is recorded.
func (p *process) untilIdle(b *testing.B) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if data, _ := os.ReadFile(filepath.Join(p.dir, "log")); strings.Contains(string(data), `event="run ended"`) {
			return
		}
	}
	b.Fatal("the first run did not end")
}

func (p *process) put(b *testing.B, key, value string) {
	out, err := exec.Command(filepath.Join(p.dir, "listener"), "put", key, value, "--socket", filepath.Join(p.dir, "sock")).CombinedOutput()
	if err != nil {
		b.Fatalf("put: %v\n%s", err, out)
	}
}

func (p *process) stop(b *testing.B) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		b.Errorf("agent: %v", err)
	}
	_ = p.stamps.f.Close() // not before: the command of a later run would wait for a reader for ever
}

func (p *process) rssAnon(b *testing.B) int64 { return rssAnon(b, p.cmd.Process.Pid) }

// standby is the memory of the agent's child, the supervisor that waits.
func (p *process) standby(b *testing.B) int64 {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	data, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	children := strings.Fields(string(data))
	for _, task := range glob(b, filepath.Join("/proc", pid, "task/*/children")) {
		data, _ := os.ReadFile(task)
		children = append(children, strings.Fields(string(data))...)
	}
	if err != nil || len(children) == 0 {
		b.Log("no standby supervisor: ", err)
		return 0
	}
	child, err := strconv.Atoi(children[0])
	if err != nil {
		b.Fatal(err)
	}
	return rssAnon(b, child)
}

func glob(b *testing.B, pattern string) []string {
	names, err := filepath.Glob(pattern)
	if err != nil {
		b.Fatal(err)
	}
	return names
}

// rssAnon is the memory that is the process's own, see proc(5).
func rssAnon(b *testing.B, pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssAnon:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb << 10
}

// series are the samples of several rounds.
type series struct {
	all, medians []time.Duration
	sizes        []int64
}

func (s *series) add(round []time.Duration) {
	s.all = append(s.all, round...)
	s.medians = append(s.medians, median(round))
}

// median is that of the rounds' medians.
func (s *series) median() time.Duration { return median(s.medians) }
func (s *series) p95() time.Duration    { return quantile(s.all, 0.95) }

func median[T time.Duration | int64](list []T) T { return quantile(list, 0.5) }

func quantile[T time.Duration | int64](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
func mb(n int64) string         { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func title(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

func line(name, format string, args ...any) {
	fmt.Printf("  %-36s %s\n", name, fmt.Sprintf(format, args...))
}

// target prints a figure beside what it should be at most.
func target(name, figure, most string, met bool) {
	verdict := "ok"
	if !met {
		verdict = "MISSED"
	}
	line(name, "%s, target %s: %s", figure, most, verdict)
}
