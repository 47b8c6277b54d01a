package supervisor

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testJob() Job {
	return Job{
		Run: "20261121-004235-3f9a", Step: "app-www", Argv: []string{"sh", "", "-c", "\xff\n'"},
		Env: []string{"A=", "B=\xfe"}, Dir: "/tmp", Timeout: time.Hour, KillAfter: time.Second,
	}
}

func TestJobFile(t *testing.T) {
	want := testJob()
	data, err := EncodeJob(want, "/state", "/run")
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeJob(data)
	if err != nil || !reflect.DeepEqual(got.Job, want) || got.StateDir != "/state" || got.RunDir != "/run" {
		t.Errorf("%+v %v", got, err)
	}
	for i := range data {
		if j, err := decodeJob(data[:i]); err == nil {
			t.Fatalf("cut off at byte %d it is taken for %+v", i, j)
		}
	}
}

func FuzzDecodeJob(f *testing.F) {
	data, err := EncodeJob(testJob(), "/state", "/run")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(strings.Replace(string(data), "\x004\x00", "\x005\x00", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := decodeJob(data)
		if err != nil {
			return
		}
		again, err := EncodeJob(j.Job, j.StateDir, j.RunDir)
		if err != nil {
			if j.Argv[0] == "" {
				return // never encoded; it is not found when it is started
			}
			t.Fatal(err)
		}
		same, err := decodeJob(again)
		if err != nil || !reflect.DeepEqual(j, same) {
			t.Errorf("%+v\n%+v %v", j, same, err)
		}
	})
}

func TestValidName(t *testing.T) {
	for _, s := range []string{"node", "app-www", "20261121-004235-3f9a", "a_B9"} {
		if !ValidName(s) {
			t.Errorf("%q refused", s)
		}
	}
	for _, s := range []string{"", "-a", ".", "..", "a.b", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", 101)} {
		if ValidName(s) {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestResultFile(t *testing.T) {
	dir := t.TempDir()
	want := Result{
		Run: "r", Step: "s", Outcome: NotStarted, Exit: 127, Error: strings.Repeat("é", 5000),
		Started: time.Unix(1, 0).UTC(), Ended: time.Unix(2, 0).UTC(),
	}
	reserveResult(dir, "r", "s")
	if _, err := ReadResult(dir, "r", "s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reserved room counts as a result: %v", err)
	}
	if err := WriteResult(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadResult(dir, "r", "s")
	if err != nil || !strings.HasPrefix(want.Error, strings.TrimSuffix(got.Error, "…")) {
		t.Errorf("%+v %v", got, err)
	}
	if got.Error, want.Error = "", ""; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if st, err := os.Stat(ResultPath(dir, "r", "s")); err != nil || st.Size() > maxResult {
		t.Errorf("%v %v: more than is reserved", st, err)
	}
	for _, garbage := range []string{"", "{}", "\x00\x00", `{"outcome":`} {
		if err := os.WriteFile(ResultPath(dir, "r", "s"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := ReadResult(dir, "r", "s"); err == nil {
			t.Errorf("%q is taken for %+v", garbage, r)
		}
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	held := func(want bool) {
		t.Helper()
		if got, err := Held(dir); err != nil || got != want {
			t.Errorf("held %v %v, want %v", got, err, want)
		}
	}
	held(false)
	l, err := TryAcquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	held(true)
	if _, err := TryAcquire(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("err %v", err)
	}
	l.Release()
	held(false)
	if _, err := TryAcquire(dir + "/missing"); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("err %v", err)
	}
}

func TestPIDsOfAnotherBoot(t *testing.T) {
	dir := t.TempDir()
	job := &wireJob{Job: testJob(), StateDir: dir, RunDir: dir}
	writePIDs(job, os.Getppid())
	if p := ReadPIDs(dir, job.Run, job.Step); p.Supervisor.PID != os.Getpid() || p.Main.PID != os.Getppid() {
		t.Errorf("%+v", p)
	}
	path := PIDPath(dir, job.Run, job.Step)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"another boot": strings.Replace(string(data), boot, "other", 1),
		"another start": strings.Replace(strings.Replace(string(data), `"start":`, `"start":9`, 1),
			`"main":{`, `"main":{"x":0,`, 1),
		"garbage": "{",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p := ReadPIDs(dir, job.Run, job.Step); p.Supervisor.PID != 0 {
			t.Errorf("%s: %+v", what, p)
		}
	}
}

func TestPIDsGivenAgain(t *testing.T) {
	dir := t.TempDir()
	job := &wireJob{Job: testJob(), StateDir: dir, RunDir: dir}
	writePIDs(job, os.Getpid())
	path := PIDPath(dir, job.Run, job.Step)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	self, err := ReadProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for noted, want := range map[uint64]int{self.Start: self.PID, self.Start + 500: self.PID, self.Start - 1: 0, 0: 0} {
		var p PIDs
		if err := json.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		p.Main.Start = noted
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if p := ReadPIDs(dir, job.Run, job.Step); p.Main.PID != want || want != 0 && p.Main.Start != self.Start {
			t.Errorf("a process that began at %d, noted at %d: %+v", self.Start, noted, p.Main)
		}
	}
}
