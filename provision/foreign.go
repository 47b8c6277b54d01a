package provision

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// Chef::RunLock: file_cache_path/chef-client-running.pid. In local mode, which
	// chef-solo is too, that is below the directory of the file given by -c.
	"chef": {
		"/var/chef/cache/chef-client-running.pid",
		"/var/cache/chef/chef-client-running.pid",
		"/etc/chef/local-mode-cache/cache/chef-client-running.pid",
		"/root/.chef/local-mode-cache/cache/chef-client-running.pid",
		"/var/cinc/cache/cinc-client-running.pid",
		"/var/cache/cinc/cinc-client-running.pid",
		"/etc/cinc/local-mode-cache/cache/cinc-client-running.pid",
		"/root/.cinc/local-mode-cache/cache/cinc-client-running.pid",
	},
	"puppet": { // Puppet's statedir
		"/opt/puppetlabs/puppet/cache/state/agent_catalog_run.lock",
		"/var/cache/puppet/state/agent_catalog_run.lock",
		"/var/lib/puppet/state/agent_catalog_run.lock",
	},
}

// lockRule says what of a file counts, by its name: each tool has its own way.
type lockRule struct {
	lock   bool // a lock held on it
	pid    bool // a living process whose number it holds …
	puppet bool // … and that is a puppet; else: that began before the file was written
}

func ruleOf(path string) lockRule {
	name := filepath.Base(path)
	switch {
	case strings.HasSuffix(name, "-client-running.pid"):
		// Chef never removes the file, and a daemon's number stays in it
		// between its runs: only the flock counts.
		return lockRule{lock: true}
	case name == "agent_catalog_run.lock":
		// Puppet itself takes the lock for stale unless a puppet has that number.
		return lockRule{lock: true, pid: true, puppet: true}
	case name == "agent_disabled.lock":
		// Says that runs are disabled, not that one is going on.
		return lockRule{}
	}
	return lockRule{lock: true, pid: true}
}

// ForeignBusy reports whether a provisioner that is not ours is running: who
// names it and its lock file, "" when all are free. locks are lock files set by
// the operator; preset "chef" or "puppet" adds the default ones, "" none.
//
// A file is busy when a process holds a lock on it (flock or fcntl), or when it
// holds the number of a living process that began before the file was written.
// Chef's and puppet's files are known by name: of the first only the lock
// counts, of the second a process must be a puppet. Nothing is locked by
// asking. A file that cannot be read is an error; the others are still looked at.
func ForeignBusy(locks []string, preset string) (who string, err error) {
	known, ok := presets[preset]
	if preset != "" && !ok {
		return "", fmt.Errorf("provision: no preset is called %q", preset)
	}
	var held []fileLock
	var errs []error
	read := false
	for _, path := range slices.Concat(known, locks) {
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !read {
			read = true
			held, err = readLocks()
		}
		if err == nil {
			who, err = holder(path, st, held, ruleOf(path))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("provision: look at the lock file %s: %w", path, err))
		}
		if who != "" {
			return who, nil
		}
	}
	return "", errors.Join(errs...)
}

// holder says who holds path, "" nobody.
func holder(path string, st fs.FileInfo, held []fileLock, rule lockRule) (string, error) {
	if !st.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	pid, err := pidIn(path)
	if err != nil {
		return "", err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	for _, l := range held {
		if rule.lock && ok && l.on(sys, pid) {
			return fmt.Sprintf("%s (lock %s)", processName(l.pid), path), nil
		}
	}
	if !rule.pid || pid <= 0 {
		return "", nil
	}
	p, err := supervisor.ReadProc(pid)
	if err != nil || !p.Alive() {
		return "", nil // it ended, maybe just now
	}
	if rule.puppet && !isPuppet(pid) || !rule.puppet && !beganBefore(p, st.ModTime()) {
		return "", nil
	}
	return fmt.Sprintf("%s (pid file %s)", processName(pid), path), nil
}

// on reports whether the lock is one on this file, in which pid stands.
func (l fileLock) on(st *syscall.Stat_t, pid int) bool {
	dev := uint64(st.Dev) // see makedev(3)
	major, minor := dev>>8&0xfff|dev>>32&0xfffff000, dev&0xff|dev>>12&0xffffff00
	// On btrfs and overlayfs stat shows another device than /proc/locks: there
	// the number in the file must agree.
	return l.inode == st.Ino && (l.major == major && l.minor == minor || l.pid == pid)
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

// beganBefore reports whether p began before its number was written into a
// file; one that began later has been given the number of a dead process.
func beganBefore(p supervisor.Proc, written time.Time) bool {
	up, err := uptime()
	if err != nil {
		return true
	}
	const slack = time.Second // of ticks and time stamps
	age := up - time.Duration(p.Start)*(time.Second/supervisor.TicksPerSecond)
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

// isPuppet reports whether a process is a puppet as Puppet::Util::Pidlock
// decides it: another one that holds puppet's files open, say an editor, is none.
func isPuppet(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return false // it ended, maybe just now
	}
	comm := strings.TrimSpace(string(name))
	return strings.HasSuffix(comm, "puppet") || strings.Contains(comm, "puppet-") ||
		strings.Contains(comm, "ruby") && strings.Contains(commandLine(pid), "puppet")
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
