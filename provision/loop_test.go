package provision

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// loopJob takes an exclusive directory, and has a descendant in a session of
// its own that shows in the ledger that it lives.
func loopJob(dir string) Job {
	job := sh(`cd "$1" || exit 9
		mkdir exclusive || echo "overlap $LISTENER_RUN_ID" >>ledger
		echo "start $LISTENER_RUN_ID" >>ledger
		setsid sh -c 'for i in 1 2 3 4; do echo "beat $LISTENER_RUN_ID" >>ledger; sleep 0.005; done' >/dev/null 2>&1 &
		for i in 1 2 3; do echo "beat $LISTENER_RUN_ID" >>ledger; sleep 0.005; done
		wait
		rmdir exclusive
		echo "end $LISTENER_RUN_ID" >>ledger
		exit 3`, dir)
	job.Run += fmt.Sprintf("-%08x", rand.Uint32())
	job.KillAfter = 50 * time.Millisecond
	return job
}

// TestKillLoop kills agent, supervisor or both at random instants.
func TestKillLoop(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var strays []supervisor.Proc
	for range rounds {
		a := startAgent(t, dir, "loop")
		for range 1 + r.IntN(3) {
			pause(time.Duration(r.IntN(60)) * time.Millisecond)
			what := r.IntN(3)
			supervisors := a.supervisors()
			if what > 0 {
				for _, s := range supervisors {
					_ = s.Signal(syscall.SIGKILL)
				}
			}
			if what != 1 {
				a.kill()
				strays = append(strays, supervisors...)
				break
			}
		}
		a.kill()
	}
	// The last agent takes what is left and runs on for one job.
	before := strings.Count(ledger(t, dir), "\nend ")
	a := startAgent(t, dir, "loop")
	eventually(t, "a run after the last kill", func() bool { return strings.Count(ledger(t, dir), "\nend ") > before })
	a.kill()
	p := openProvisioner(t, Options{StateDir: dir + "/state", RunDir: dir + "/run"})
	left, err := p.Left()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range left {
		conclude(p, dir, mustAdopt(t, p, ref))
	}
	checkLedger(t, ledger(t, dir))
	for _, s := range strays {
		eventually(t, "the end of a supervisor whose agent died", func() bool { return !s.Alive() })
	}
}

// pause is part of the randomness, not a wait for anything.
func pause(d time.Duration) { <-time.After(d) }

func ledger(t *testing.T, dir string) string {
	data, err := os.ReadFile(dir + "/ledger")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return "\n" + string(data)
}

func checkLedger(t *testing.T, text string) {
	t.Helper()
	starts, results, outcomes := map[string]int{}, map[string]string{}, map[string]int{}
	running := ""
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			continue
		}
		switch word, run := f[0], f[1]; word {
		case "overlap":
			t.Errorf("run %s began while another held the exclusive directory", run)
		case "start":
			starts[run]++
			running = run
		case "beat", "end":
			if results[run] != "" {
				t.Errorf("run %s acts after its result %s", run, results[run])
			}
			if running != run {
				t.Errorf("run %s acts within run %s", run, running)
			}
		case "result":
			// An agent that dies between noting and Forget notes again, the same.
			now := strings.Join(f[2:], " ")
			if results[run] != "" && results[run] != now {
				t.Errorf("run %s has two results: %s and %s", run, results[run], now)
			}
			results[run] = now
			outcomes[f[2]]++
		}
	}
	for run, n := range starts {
		if n != 1 {
			t.Errorf("run %s started %d times", run, n)
		}
		if results[run] == "" {
			t.Errorf("run %s has no result", run)
		}
	}
	t.Logf("%d runs started, results %v", len(starts), outcomes)
	if t.Failed() {
		t.Log(text)
	}
}
