package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/internal/benchenv"
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
	var f, a benchenv.Series
	warm := order{Changes: perRound / 4}
	floor.do(b, warm)
	agent.do(b, warm)
	for range rounds {
		f.Add(floor.do(b, order{Changes: perRound}).Latency)
		a.Add(agent.do(b, order{Changes: perRound}).Latency)
	}
	benchenv.Title("commit of a value → first instruction of the command, %d rounds of %d", rounds, perRound)
	spread := 100 * float64(slices.Max(f.Medians)-slices.Min(f.Medians)) / float64(benchenv.Median(f.Medians))
	benchenv.Line("floor", "median %s  p95 %s  (round medians spread %.0f %%)", benchenv.Millis(f.Median()), benchenv.Millis(f.P95()), spread)
	benchenv.Line("agent", "median %s  p95 %s", benchenv.Millis(a.Median()), benchenv.Millis(a.P95()))
	if spread > 30 {
		benchenv.Line("", "TOO NOISY: these figures tell nothing, run it on a quiet machine")
	}
	benchenv.Target("median above the floor", benchenv.Millis(a.Median()-f.Median()), "3 ms, aim 1 ms", a.Median() <= f.Median()+3*time.Millisecond)
	most := f.P95()*3/2 + 10*time.Millisecond
	benchenv.Target("p95", benchenv.Millis(a.P95()), benchenv.Millis(most)+" (1.5 × floor + 10 ms)", a.P95() <= most)
	b.ReportMetric(float64(f.Median().Microseconds()), "floor-µs")
	b.ReportMetric(float64(a.Median().Microseconds()), "agent-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBurst: any number of changes during one run are exactly one more.
// That is no matter of speed, so it does fail.
func BenchmarkBurst(b *testing.B) {
	m := startRole(b, "agent", newNode(b, 1, true)).do(b, order{Changes: 1000, Burst: true})
	benchenv.Title("1,000 changes during one run")
	benchenv.Target("runs after it", strconv.Itoa(m.Runs), "1", m.Runs == 1)
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
	var bare, took, memory, later benchenv.Series
	for range starts {
		bare.Add([]time.Duration{bareFiles(b, 2*services)})
		p := startAgent(b, newNode(b, services, false))
		took.Add([]time.Duration{p.firstRun})
		p.untilIdle(b)
		memory.Sizes = append(memory.Sizes, p.rssAnon(b))
		p.put(b, benchKey(1, 1), "another")
		time.Sleep(5 * time.Second)
		later.Sizes = append(later.Sizes, p.rssAnon(b))
		p.stop(b)
	}
	benchenv.Title("%d services with %d keys each", services, keysEach)
	benchenv.Line("floor: that many env files and copies", "%s", benchenv.Millis(benchenv.Median(bare.Medians)))
	benchenv.Target("start of the process → first run", benchenv.Millis(benchenv.Median(took.Medians)), "1 s", benchenv.Median(took.Medians) <= time.Second)
	benchenv.Line("RssAnon right after the first run", "%s (what it leaves behind goes back 4 s later)", benchenv.Megas(benchenv.Median(memory.Sizes)))
	benchenv.Target("RssAnon after a change, 5 s later", benchenv.Megas(benchenv.Median(later.Sizes)), "25 MB", benchenv.Median(later.Sizes) <= 25e6)
	b.ReportMetric(float64(benchenv.Median(took.Medians).Milliseconds()), "start-ms")
	b.ReportMetric(float64(benchenv.Median(later.Sizes))/1e6, "rss-MB")
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
	benchenv.Title("one change among %d services with %d keys each, median of %d", services, keysEach, changes)
	benchenv.Target("CPU, change → decision", benchenv.Millis(benchenv.Median(m.Decision)), "5 ms", benchenv.Median(m.Decision) <= 5*time.Millisecond)
	benchenv.Line("", "the process's, user and system, from before the commit to the last gate")
	benchenv.Line("CPU, change → run handed on", "%s (files compared, node.json, state.json)", benchenv.Millis(benchenv.Median(m.Begun)))
	benchenv.Line("CPU, change → run recorded", "%s", benchenv.Millis(benchenv.Median(m.Whole)))
	benchenv.Line("commit → first instruction", "median %s", benchenv.Millis(benchenv.Median(m.Latency)))
	b.ReportMetric(float64(benchenv.Median(m.Decision).Microseconds()), "decision-cpu-µs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkIdle: a node with 100 keys on which nothing happens.
func BenchmarkIdle(b *testing.B) {
	p := startAgent(b, newNode(b, 100/keysEach, false))
	p.untilIdle(b)
	time.Sleep(5 * time.Second)
	before := benchenv.ProcessCPU(p.cmd.Process.Pid)
	time.Sleep(time.Minute)
	used := benchenv.ProcessCPU(p.cmd.Process.Pid) - before
	memory, standby := p.rssAnon(b), p.standby(b)
	p.stop(b)
	benchenv.Title("idle for a minute, 100 keys")
	benchenv.Target("RssAnon of the agent", benchenv.Megas(memory), "8 MB", memory <= 8e6)
	benchenv.Line("RssAnon of the standby supervisor", "%s", benchenv.Megas(standby))
	benchenv.Target("CPU", benchenv.Millis(used), "20 ms", used <= 20*time.Millisecond)
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
	benchenv.Title("the binary, static and stripped")
	benchenv.Target("size", benchenv.Megas(info.Size()), "20 MB", info.Size() <= 20e6)
	b.ReportMetric(float64(info.Size())/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}

// process is the real binary as `listener agent`.
type process struct {
	stamps   benchenv.Stamps
	dir      string
	cmd      *exec.Cmd
	firstRun time.Duration // from the start of the process to the command's first instruction
}

func startAgent(b *testing.B, dir string) *process {
	s, err := benchenv.OpenStamps(filepath.Join(dir, "stamps"))
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
	begin := benchenv.Monotonic()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	first, err := s.Next()
	if err != nil {
		data, _ := os.ReadFile(log.Name())
		b.Fatalf("no first run: %v\n%s", err, data)
	}
	p.firstRun = first - begin
	return p
}

// untilIdle waits until the first run is recorded.
func (p *process) untilIdle(b *testing.B) {
	for end := time.Now().Add(benchenv.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
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
	_ = p.stamps.Close() // not before: the command of a later run would wait for a reader for ever
}

func (p *process) rssAnon(b *testing.B) int64 { return benchenv.RSSAnon(b, p.cmd.Process.Pid) }

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
	return benchenv.RSSAnon(b, child)
}

func glob(b *testing.B, pattern string) []string {
	names, err := filepath.Glob(pattern)
	if err != nil {
		b.Fatal(err)
	}
	return names
}
