package provision

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
)

// fileLock is one held lock of /proc/locks.
type fileLock struct {
	pid          int
	major, minor uint64
	inode        uint64
}

// presets are the lock files of known provisioners at their default places.
var presets = map[string][]string{
	"chef": {
		// Chef::RunLock: file_cache_path/chef-client-running.pid.
		"/var/chef/cache/chef-client-running.pid",
		"/var/cache/chef/chef-client-running.pid",
		"/var/chef-solo/chef-client-running.pid",
		"/var/cinc/cache/cinc-client-running.pid",
		"/var/cinc/cache/chef-client-running.pid",
		"/root/.chef/local-mode-cache/cache/chef-client-running.pid",
		"/root/.cinc/local-mode-cache/cache/cinc-client-running.pid",
	},
	"puppet": {
		// Puppet's statedir/agent_catalog_run.lock; agent_disabled.lock beside
		// it says that runs are disabled, not that one is going on.
		"/opt/puppetlabs/puppet/cache/state/agent_catalog_run.lock",
		"/var/cache/puppet/state/agent_catalog_run.lock",
		"/var/lib/puppet/state/agent_catalog_run.lock",
	},
}

// ForeignBusy reports whether a provisioner that is not ours is running: who
// names it and its lock file, "" when all are free. locks are lock files set by
// the operator; preset "chef" or "puppet" adds the default ones, "" none. A file
// is busy when a process holds a lock on it (flock or fcntl), or when it holds
// the number of a living process that began before the file was written; with
// preset puppet that process must be a puppet. Nothing is locked by asking. An
// unreadable file is an error, and the others are still looked at.
func ForeignBusy(locks []string, preset string) (who string, err error) {
	known, ok := presets[preset]
	if preset != "" && !ok {
		return "", fmt.Errorf("provision: no preset is called %q", preset)
	}
	var held []fileLock
	var errs []error
	read := false
	look := func(path, command string) {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || who != "" {
			return
		}
		if err == nil && !read {
			read = true
			held, err = readLocks()
		}
		if err == nil {
			who, err = holder(path, st, held, command)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("provision: look at the lock file %s: %w", path, err))
		}
	}
	command := ""
	if preset == "puppet" {
		command = preset
	}
	for _, path := range known {
		look(path, command)
	}
	for _, path := range locks {
		look(path, "")
	}
	return who, errors.Join(errs...)
}

// holder says who holds path, "" nobody.
func holder(path string, st fs.FileInfo, held []fileLock, command string) (string, error) {
	if !st.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	pid, err := pidIn(path)
	if err != nil {
		return "", err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		for _, l := range held {
			dev := uint64(sys.Dev)
			sameDev := l.major == (dev>>8)&0xfff|(dev>>32)&^0xfff && l.minor == dev&0xff|(dev>>12)&^0xff
			// On btrfs and overlayfs stat shows another device than
			// /proc/locks: there the process number in the file must agree.
			if l.inode == sys.Ino && (sameDev || (pid > 0 && l.pid == pid)) {
				return fmt.Sprintf("%s (lock %s)", processName(l.pid), path), nil
			}
		}
	}
	if pid <= 0 || !livesSince(pid, st.ModTime()) || !strings.Contains(commandLine(pid), command) {
		return "", nil
	}
	return fmt.Sprintf("%s (pid file %s)", processName(pid), path), nil
}

// readLocks reads the locks held on this machine, as far as this process id
// namespace shows them. Waiters ("->") hold nothing.
// "1: FLOCK  ADVISORY  WRITE 1234 08:01:131073 0 EOF", see proc(5).
func readLocks() ([]fileLock, error) {
	data, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	var locks []fileLock
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[1] == "->" || f[1] == "LEASE" || f[1] == "DELEG" {
			continue
		}
		at := strings.Split(f[5], ":")
		if len(at) != 3 {
			continue
		}
		pid, err1 := strconv.Atoi(f[4])
		major, err2 := strconv.ParseUint(at[0], 16, 64)
		minor, err3 := strconv.ParseUint(at[1], 16, 64)
		inode, err4 := strconv.ParseUint(at[2], 10, 64)
		if errors.Join(err1, err2, err3, err4) == nil {
			locks = append(locks, fileLock{pid: pid, major: major, minor: minor, inode: inode})
		}
	}
	return locks, nil
}

// pidIn returns the number that a pid file holds, 0 when it holds something
// else or nothing (an empty file: puppet's way of old to disable runs).
func pidIn(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 64)
	n, _ := f.Read(buf)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil || pid < 0 {
		return 0, nil
	}
	return pid, nil
}

// livesSince reports whether the process lives and began before the file was
// written; one that began later has been given the number of a dead one.
func livesSince(pid int, written time.Time) bool {
	p, err := supervisor.ReadProc(pid)
	if err != nil || !p.Alive() {
		return false
	}
	up, err := uptime()
	if err != nil {
		return true
	}
	const ticks = 100 // USER_HZ, part of Linux' interface on all its machines
	age := up - time.Duration(p.Start)*(time.Second/ticks)
	const slack = 2 * time.Second // of ticks and time stamps
	return time.Since(written) <= age+slack
}

// uptime is the time since boot, suspend included, as start times count it.
func uptime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	return time.Duration(seconds * float64(time.Second)), err
}

// commandLine is the arguments of a process, separated by spaces; "" when it ended.
func commandLine(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
}

// processName names a process for people, without its arguments, which may
// hold secrets.
func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("%s, process %d", strings.TrimSpace(string(name)), pid)
}
