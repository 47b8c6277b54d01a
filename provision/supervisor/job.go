package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Job is one step to run.
type Job struct {
	// Run and Step name it; see ValidName.
	Run, Step string
	// Argv of the command, at least one; Argv[0] without a slash is looked up
	// in the PATH of Env. Env is the whole environment, NAME=value. Neither may
	// hold NUL; any other byte arrives as it is.
	Argv, Env []string
	// Dir is the working directory; "" is "/".
	Dir string
	// Timeout of the main process; 0: none.
	Timeout time.Duration
	// KillAfter is the time between TERM and KILL; 0: KILL follows at once.
	KillAfter time.Duration
}

// Outcomes of a step.
const (
	Exited     = "exited"      // by itself, with Exit or Signal
	Timeout    = "timeout"     // ended by us after Job.Timeout
	Cancelled  = "cancelled"   // ended by us on request
	Lost       = "lost"        // the supervisor died or never began; what was left was ended
	NotStarted = "not-started" // the command could not be started
)

// Result is how a step ended.
type Result struct {
	Run     string `json:"run"`
	Step    string `json:"step"`
	Outcome string `json:"outcome"`
	// Exit is the exit code; 128+n after signal n, 127 or 126 when the command
	// was not found or not executable (both as in a shell), -1 when unknown.
	// It says success only together with Outcome "exited".
	Exit int `json:"exit"`
	// Signal is the name of the signal that ended the main process, such as "SIGKILL".
	Signal string `json:"signal,omitempty"`
	// Error is a text for people: why the command was not started, and the like.
	Error   string    `json:"error,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Unit is the systemd unit that it ran in, "" for none.
	Unit string `json:"unit,omitempty"`
	// Unrecorded says why the result file could not be written; "" normally.
	Unrecorded string `json:"unrecorded,omitempty"`
}

// wireJob is what a job file holds.
type wireJob struct {
	Job
	StateDir, RunDir string
}

// jobFormat begins a job file, jobEnd ends it. Between them are fields that end
// in NUL, which none of them can hold: the numbers of arguments and of
// environment variables, the other fields of wireJob, the arguments, the
// environment. (JSON would spoil what is not UTF-8, and cost ten times as much
// on the path between an event and the command.)
const (
	jobFormat = "listener job 1"
	jobEnd    = "end"
)

// ValidName reports whether s can name a run or a step: letters, digits, "-"
// and "_", at most 100 of them, so that it is safe in a file name.
func ValidName(s string) bool {
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return s != "" && len(s) <= 100 && s[0] != '-' && strings.IndexFunc(s, bad) < 0
}

// JobPath is where a job file lies, mode 0600.
func JobPath(runDir, run, step string) string {
	return path.Join(runDir, run+"."+step+".job")
}

// ResultPath is where a result file lies.
func ResultPath(runDir, run, step string) string {
	return path.Join(runDir, run+"."+step+".result")
}

// PIDPath is where the supervisor notes the processes of a running step.
func PIDPath(runDir, run, step string) string {
	return path.Join(runDir, run+"."+step+".pid")
}

// LogPath is where the output of a run lies; see Log.
func LogPath(stateDir, run string) string {
	return path.Join(stateDir, "runs", run+".log")
}

// resultTemp becomes the result file by rename. One fixed name per step: only
// the holder of the lock writes it.
func resultTemp(runDir, run, step string) string {
	return ResultPath(runDir, run, step) + ".tmp"
}

// EncodeJob returns the content of a job file. It refuses what cannot be run:
// bad names, an empty argv, NUL bytes.
func EncodeJob(j Job, stateDir, runDir string) ([]byte, error) {
	if !ValidName(j.Run) || !ValidName(j.Step) {
		return nil, fmt.Errorf("run %q step %q: not a valid name", j.Run, j.Step)
	}
	if len(j.Argv) == 0 || j.Argv[0] == "" {
		return nil, errors.New("the command is empty")
	}
	fields := []string{
		jobFormat, strconv.Itoa(len(j.Argv)), strconv.Itoa(len(j.Env)), j.Run, j.Step, j.Dir,
		strconv.FormatInt(int64(j.Timeout), 10), strconv.FormatInt(int64(j.KillAfter), 10), stateDir, runDir,
	}
	for i, s := range fields {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("field %d of the job holds a NUL byte", i)
		}
	}
	for i, s := range j.Argv {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("argument %d of the command holds a NUL byte", i)
		}
	}
	for _, s := range j.Env {
		if strings.IndexByte(s, 0) >= 0 { // named, never shown: it may be a secret
			name, _, _ := strings.Cut(s, "=")
			return nil, fmt.Errorf("environment variable %q holds a NUL byte", name)
		}
	}
	fields = slices.Concat(fields, j.Argv, j.Env, []string{jobEnd})
	return []byte(strings.Join(fields, "\x00")), nil
}

func decodeJob(data []byte) (*wireJob, error) {
	f := strings.Split(string(data), "\x00")
	const fixed = 10
	if len(f) < fixed || f[0] != jobFormat || f[len(f)-1] != jobEnd {
		return nil, errors.New("not a whole job file of this version")
	}
	argc, err1 := strconv.ParseUint(f[1], 10, 31)
	envc, err2 := strconv.ParseUint(f[2], 10, 31)
	timeout, err3 := strconv.ParseInt(f[6], 10, 64)
	killAfter, err4 := strconv.ParseInt(f[7], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	if argc == 0 || uint64(len(f)) != fixed+argc+envc+1 || !ValidName(f[3]) || !ValidName(f[4]) {
		return nil, errors.New("not a valid job file")
	}
	rest := f[fixed:]
	return &wireJob{
		Job: Job{
			Run: f[3], Step: f[4], Dir: f[5], Argv: rest[:argc:argc], Env: rest[argc : argc+envc],
			Timeout: time.Duration(timeout), KillAfter: time.Duration(killAfter),
		},
		StateDir: f[8], RunDir: f[9],
	}, nil
}

func readJob(path string) (*wireJob, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the job: %w", err)
	}
	j, err := decodeJob(data)
	if err != nil {
		return nil, fmt.Errorf("read the job %s: %w", path, err)
	}
	return j, nil
}

// maxResult bounds a result file; longer error texts are cut.
const maxResult = 4096

func encodeResult(r Result) []byte {
	const maxError = 1024
	if len(r.Error) > maxError {
		r.Error = strings.ToValidUTF8(r.Error[:maxError], "") + "…"
	}
	if len(r.Unrecorded) > maxError {
		r.Unrecorded = strings.ToValidUTF8(r.Unrecorded[:maxError], "") + "…"
	}
	data, err := json.Marshal(r)
	if err != nil { // no field of a Result can fail
		panic(err)
	}
	return data
}

// DecodeResult reads what encodeResult wrote.
func DecodeResult(data []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if r.Outcome == "" {
		return r, errors.New("not a result")
	}
	return r, nil
}

// ReadResult returns the result of a step; errors.Is(err, fs.ErrNotExist) when
// there is none.
func ReadResult(runDir, run, step string) (Result, error) {
	path := ResultPath(runDir, run, step)
	data, err := os.ReadFile(path)
	if err != nil {
		return Result{}, fmt.Errorf("read the result: %w", err)
	}
	r, err := DecodeResult(data)
	if err != nil {
		return r, fmt.Errorf("read the result %s: %w", path, err)
	}
	return r, nil
}

// reserveResult takes the room that the result will need, before the command
// can fill the disk.
func reserveResult(runDir, run, step string) {
	_ = overwrite(resultTemp(runDir, run, step), make([]byte, maxResult))
}

// WriteResult records a result by rename. The caller holds the lock.
func WriteResult(runDir string, r Result) error {
	temp := resultTemp(runDir, r.Run, r.Step)
	err := overwrite(temp, encodeResult(r))
	if err == nil {
		err = os.Rename(temp, ResultPath(runDir, r.Run, r.Step))
	}
	if err != nil {
		return fmt.Errorf("record the result: %w", err)
	}
	return nil
}

// PIDs is what the supervisor notes of a running step, for an agent that adopts
// or cancels it. It is written after the command has started, so it may be missing.
type PIDs struct {
	Boot       string `json:"boot"` // boot id: process ids and start times mean nothing in another boot
	Supervisor Proc   `json:"supervisor"`
	// Main is the command's process. In the file its Start is the time of the
	// note: whoever has its number and began later is another one.
	Main Proc `json:"main"`
}

// ownPIDs is what a supervisor notes of itself.
var ownPIDs = sync.OnceValue(func() (p PIDs) {
	p.Boot, _ = BootID()
	p.Supervisor, _ = ReadProc(os.Getpid())
	return p
})

func writePIDs(job *wireJob, main int) {
	p := ownPIDs()
	p.Main = Proc{PID: main, Start: bootTicks()} // to read /proc takes longer
	data, err := json.Marshal(p)
	if err != nil {
		return
	}
	_ = overwrite(PIDPath(job.RunDir, job.Run, job.Step), data) // torn it counts as missing
}

// ReadPIDs returns the noted processes that are still the same: zero fields for
// those that ended, or when nothing was noted in this boot.
func ReadPIDs(runDir, run, step string) PIDs {
	var p PIDs
	data, err := os.ReadFile(PIDPath(runDir, run, step))
	if err != nil || json.Unmarshal(data, &p) != nil {
		return PIDs{}
	}
	if boot, err := BootID(); err != nil || boot != p.Boot {
		return PIDs{}
	}
	if !p.Supervisor.Alive() {
		p.Supervisor = Proc{}
	}
	main, err := ReadProc(p.Main.PID)
	if err != nil || main.Start > p.Main.Start || main.ended() {
		main = Proc{}
	}
	p.Main = main
	return p
}

// BootID identifies this boot of the machine.
func BootID() (string, error) {
	data, err := readFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// readFile is os.ReadFile without the poller and without fstat, for the many
// small files of /proc; it stops at 4 MiB.
func readFile(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	buf := make([]byte, 0, 1024)
	for len(buf) < 4<<20 {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := syscall.Read(fd, buf[len(buf):cap(buf)])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return buf, err
		}
		if n <= 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
	return buf, io.ErrShortBuffer
}

// overwrite writes data over what the file at path holds, the room of which it
// uses, and cuts the rest; it creates the file if need be, mode 0600. Like
// readFile it does without the poller.
func overwrite(path string, data []byte) error {
	fail := func(op string, err error) error { return &os.PathError{Op: op, Path: path, Err: err} }
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fail("open", err)
	}
	for done := 0; done < len(data) && err == nil; {
		var n int
		switch n, err = syscall.Write(fd, data[done:]); {
		case err == syscall.EINTR:
			err = nil
		case err == nil && n == 0:
			err = io.ErrShortWrite
		default:
			done += max(0, n)
		}
	}
	if err == nil {
		err = syscall.Ftruncate(fd, int64(len(data)))
	}
	if cerr := syscall.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return fail("write", err)
	}
	return nil
}
