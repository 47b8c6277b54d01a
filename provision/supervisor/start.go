package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// startError says why the command was not started.
type startError struct {
	text string
	exit int // as a shell says it: 127 not found, 126 found but not executable
}

// start forks and executes the command and returns its pid and the reading end
// of its output. The command gets a session and process group of its own.
func (c *command) start() (pid int, out *os.File, failed *startError) {
	argv, env := c.job.Argv, c.job.Env
	dir := c.job.Dir
	if dir == "" {
		dir = "/"
	}
	path, found := lookPath(argv[0], env)
	if !found {
		return 0, nil, &startError{fmt.Sprintf("command %q was not found in PATH %q", argv[0], pathOf(env)), 127}
	}
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return 0, nil, &startError{fmt.Sprintf("command %q cannot be started: make a pipe: %v", argv[0], err), 126}
	}
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: dir, Env: env,
		Files: []uintptr{uintptr(c.null), uintptr(p[1]), uintptr(p[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	_ = syscall.Close(p[1])
	if err != nil {
		_ = syscall.Close(p[0])
		return 0, nil, explain(argv[0], path, dir, err)
	}
	_ = syscall.SetNonblock(p[0], true) // our end only: lets the runtime poll it
	return pid, os.NewFile(uintptr(p[0]), "output"), nil
}

func pathOf(env []string) string {
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return path
}

// lookPath finds a name without slash in the PATH of env, as the command's own
// shell would; only absolute directories count. A file that is not executable
// is taken when there is no better one, for the clearer error.
func lookPath(name string, env []string) (path string, found bool) {
	if strings.Contains(name, "/") {
		return name, true
	}
	for dir := range strings.SplitSeq(pathOf(env), ":") {
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		candidate := dir + "/" + name
		var st syscall.Stat_t
		if syscall.Stat(candidate, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
			continue
		}
		if st.Mode&0o111 != 0 {
			return candidate, true
		}
		if !found {
			path, found = candidate, true
		}
	}
	return path, found
}

// explain turns the errno of a failed fork, chdir or exec, which does not tell
// these apart, into what an operator can act on.
func explain(name, path, dir string, err error) *startError {
	subject := fmt.Sprintf("command %q ", name)
	if path != name {
		subject += "(" + path + ") "
	}
	say := func(exit int, format string, args ...any) *startError {
		return &startError{subject + fmt.Sprintf(format, args...), exit}
	}
	if st, derr := os.Stat(dir); derr != nil {
		return say(126, "has no working directory: %v", derr)
	} else if !st.IsDir() {
		return say(126, "has no working directory: %s is not a directory", dir)
	}
	if !strings.HasPrefix(path, "/") {
		path = dir + "/" + path
	}
	st, serr := os.Stat(path)
	switch {
	case os.IsNotExist(serr):
		return say(127, "does not exist")
	case serr != nil:
		return say(126, "cannot be found: %v", serr)
	case st.IsDir():
		return say(126, "is a directory")
	case errors.Is(err, syscall.EACCES) && st.Mode()&0o111 == 0:
		return say(126, "is not executable (mode %04o)", st.Mode().Perm())
	case errors.Is(err, syscall.EACCES):
		return say(126, "may not be executed: %v (mode %04o; or its file system is mounted noexec)", err, st.Mode().Perm())
	case errors.Is(err, syscall.ENOENT):
		return say(127, "needs an interpreter that does not exist (its first line, or the loader of the program)")
	case errors.Is(err, syscall.ENOEXEC):
		return say(126, "is neither a program for this machine nor a script with a first line like #!/bin/sh")
	case errors.Is(err, syscall.E2BIG):
		return say(126, "has arguments and environment larger than the system allows")
	}
	return say(126, "cannot be started: %v", err)
}
