package supervisor

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"time"
)

// command is the running step.
type command struct {
	job    *wireJob
	null   int // a descriptor of /dev/null
	cancel <-chan struct{}

	log     *Log
	journal *journal // nil: none takes the output
	// eof is closed when nothing holds the output pipe any more; nil: never started.
	eof chan struct{}
	// childless is closed when no child is left, so that none can come any more.
	childless chan struct{}
	// exited gets the status of the main process.
	exited chan syscall.WaitStatus
}

// run starts the command, waits for its end, its timeout or a cancel, and
// returns the result; the log is complete then.
func (c *command) run() (res Result) {
	res = Result{Run: c.job.Run, Step: c.job.Step, Exit: -1, Unit: os.Getenv(UnitVariable), Started: time.Now()}
	defer func() { // by the monotonic clock: right even if the wall clock jumped
		res.Ended = res.Started.Add(time.Since(res.Started))
	}()
	select {
	case <-c.cancel:
		res.Outcome, res.Error = Cancelled, "cancelled before it started"
		return res
	default:
	}
	main, out, startErr := c.start()
	if startErr != nil {
		res.Outcome, res.Exit, res.Error = NotStarted, startErr.exit, startErr.text
		c.logLine(startErr.text)
		return res
	}
	tell(Started, strconv.Itoa(main))
	c.exited = make(chan syscall.WaitStatus, 1)
	c.eof, c.childless = make(chan struct{}), make(chan struct{})
	c.log = NewLog(LogPath(c.job.StateDir, c.job.Run))
	go c.reap(main)
	go c.copy(out)
	writePIDs(c.job, main)

	var ws syscall.WaitStatus
	if res.Outcome, ws = c.wait(); res.Outcome != Exited {
		ws = c.end(main)
	}
	res.Exit, res.Signal = exitOf(ws)
	c.settleOutput()
	return res
}

// reserveAfter is how long a command runs before room for its result is
// reserved: one that ends sooner seldom fills a disk.
const reserveAfter = time.Second

// wait blocks until the main process ended, timed out or was cancelled.
func (c *command) wait() (outcome string, ws syscall.WaitStatus) {
	var timeout <-chan time.Time
	if c.job.Timeout > 0 {
		t := time.NewTimer(c.job.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	reserve := time.NewTimer(reserveAfter)
	defer reserve.Stop()
	for outcome == "" {
		select {
		case ws = <-c.exited:
			return Exited, ws
		case <-reserve.C:
			reserveResult(c.job.RunDir, c.job.Run, c.job.Step)
		case <-timeout:
			outcome = Timeout
		case <-c.cancel:
			outcome = Cancelled
		}
	}
	select { // an end that came at the same moment counts as one
	case ws = <-c.exited:
		return Exited, ws
	default:
		return outcome, ws
	}
}

// end ends the whole tree and returns the status of the main process.
func (c *command) end(main int) syscall.WaitStatus {
	tree := Tree{Run: c.job.Run, Root: os.Getpid()}
	if err := tree.End(context.Background(), c.job.KillAfter); err != nil {
		// No /proc to find the tree by: its process group must do. The main
		// process is not reaped yet or the group is gone; the number is ours.
		c.logLine("cannot find all processes of the run: " + err.Error())
		_ = syscall.Kill(-main, syscall.SIGKILL)
	}
	return <-c.exited
}

// reap collects the main process and every orphan that became our child.
func (c *command) reap(main int) {
	defer close(c.childless)
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // ECHILD: nobody is left, so no orphan can come either
			return
		case pid == main:
			c.exited <- ws
		}
	}
}

// copy moves output to the log until nothing holds the pipe. It must not stop
// before: the command would block or die of SIGPIPE.
func (c *command) copy(out *os.File) {
	defer close(c.eof)
	defer out.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		c.log.Write(buf[:n])
		c.journal.write(buf[:n])
		if err != nil {
			return
		}
	}
}

// settleOutput waits for the end of output, at most OutputGrace, and closes
// the log; what daemons print later is read and, but for the journal, dropped.
func (c *command) settleOutput() {
	t := time.NewTimer(OutputGrace)
	defer t.Stop()
	select {
	case <-c.eof:
	case <-t.C:
	}
	c.log.Close()
}

// logLine puts a line of our own into the run's log.
func (c *command) logLine(text string) {
	l := c.log
	if l == nil {
		l = NewLog(LogPath(c.job.StateDir, c.job.Run))
		defer l.Close()
	}
	line := []byte("[listener: " + text + "]\n")
	l.Write(line)
	c.journal.write(line)
}

// exitOf translates a wait status as a shell does.
func exitOf(ws syscall.WaitStatus) (exit int, signal string) {
	if ws.Signaled() {
		return 128 + int(ws.Signal()), signalName(ws.Signal())
	}
	return ws.ExitStatus(), ""
}

// signalName is the constant's name; the standard library only has descriptions.
func signalName(s syscall.Signal) string {
	names := map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
		syscall.SIGTRAP: "SIGTRAP", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE",
		syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1", syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2",
		syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM", syscall.SIGXCPU: "SIGXCPU",
		syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGSYS: "SIGSYS",
	}
	if n, ok := names[s]; ok {
		return n
	}
	return "signal " + strconv.Itoa(int(s))
}
