package render

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// CheckTimeout is how long one check may take; then it is killed.
	CheckTimeout = 10 * time.Second
	// checkOutput is how many bytes of a check's output are kept, the last ones.
	checkOutput = 4 << 10
	// checkGrace is how long output is awaited from what a check left running.
	checkGrace = time.Second
)

// CheckError says that a check refused a candidate. The target is as it was.
type CheckError struct {
	Path   string   // the target
	Argv   []string // as in File.Check
	Output string   // the last 4 KiB of output and error output; names the target, not the candidate
	Err    error    // *exec.ExitError, context.DeadlineExceeded, or why it did not start
}

func (e *CheckError) Error() string {
	text := fmt.Sprintf("check %s with %q: %v", e.Path, strings.Join(e.Argv, " "), e.Err)
	if out := strings.TrimSpace(e.Output); out != "" {
		text += ": " + out
	}
	return text
}

func (e *CheckError) Unwrap() error { return e.Err }

// CheckNow runs f.Check on the file as it is in place, for at most
// CheckTimeout. The error is a *CheckError, or nil also when there is no check.
func CheckNow(ctx context.Context, f File) error {
	if len(f.Check) == 0 {
		return nil
	}
	return check(ctx, CheckTimeout, f, f.Path)
}

// check runs f.Check on the candidate, with the agent's environment, and kills
// all of it after limit.
func check(ctx context.Context, limit time.Duration, f File, candidate string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := make([]string, len(f.Check))
	for i, a := range f.Check {
		argv[i] = strings.ReplaceAll(a, "{path}", candidate)
	}
	var out tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = checkGrace
	err := cmd.Run()
	// A daemon that keeps the output open after the check said yes is no refusal.
	if err == nil || errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() && ctx.Err() == nil {
		return nil
	}
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.DeadlineExceeded):
		err = fmt.Errorf("no answer in %v: %w", limit, cause)
	case cause != nil:
		err = cause
	}
	return &CheckError{
		Path: f.Path, Argv: f.Check, Err: err,
		Output: strings.ReplaceAll(out.String(), candidate, f.Path),
	}
}

// tail is an io.Writer that keeps the last bytes.
type tail struct {
	b   []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-checkOutput):]...)
	t.cut = t.cut || len(t.b) > checkOutput || len(p) > checkOutput
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-checkOutput):]...)
	return len(p), nil
}

func (t *tail) String() string {
	text := strings.ToValidUTF8(string(t.b), "\ufffd")
	if t.cut {
		return "… " + text
	}
	return text
}
