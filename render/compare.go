package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// File is one file as it should be.
type File struct {
	Path string
	Data []byte
	Mode fs.FileMode // permission bits
	// UID and GID own the file; -1: whatever it has is right, and when it is
	// written, this process's (or a set-gid directory's).
	UID, GID int
	// Check is an argv that is run on the candidate before it goes live;
	// "{path}" in it stands for the candidate's path. nil: none.
	Check []string
}

// Drift is one file that is not as it should be.
type Drift struct {
	Path string
	What string // one of the constants below, the first that applies
}

// What a file's drift is.
const (
	Missing      = "missing"
	Special      = "special" // a symlink, directory or device lies there; it cannot be repaired
	Edited       = "edited"
	ChangedMode  = "mode"
	ChangedOwner = "owner"
	Unreadable   = "unreadable" // cannot be looked at
)

// FindDrift compares files with the disk, by bytes, mode and owner.
func FindDrift(files []File) []Drift {
	var drifts []Drift
	for _, f := range files {
		if what, _ := compare(f); what != "" {
			drifts = append(drifts, Drift{f.Path, what})
		}
	}
	return drifts
}

// compare returns how the file on disk differs, "" if it does not. The error
// belongs to Unreadable.
func compare(f File) (string, error) {
	info, err := os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Missing, nil
	case err != nil:
		return Unreadable, err
	case !info.Mode().IsRegular():
		return Special, nil
	case info.Size() != int64(len(f.Data)):
		return Edited, nil
	}
	same, err := sameData(f)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Missing, nil
	case errors.Is(err, syscall.ELOOP): // became a symlink
		return Special, nil
	case err != nil:
		return Unreadable, err
	case !same:
		return Edited, nil
	case info.Mode()&modeBits != f.Mode&modeBits:
		return ChangedMode, nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if f.UID != -1 && st.Uid != uint32(f.UID) || f.GID != -1 && st.Gid != uint32(f.GID) {
			return ChangedOwner, nil
		}
	}
	return "", nil
}

const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// sameData compares without reading more than is expected.
func sameData(f File) (bool, error) {
	// Not blocking, in case it became a FIFO just now.
	file, err := os.OpenFile(f.Path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer file.Close()
	data := make([]byte, len(f.Data)+1)
	n, err := io.ReadFull(file, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return bytes.Equal(data[:n], f.Data), err
}

// ErrNoOwner says that a user or group does not exist (yet).
var ErrNoOwner = errors.New("does not exist")

// Owner looks up a user and a group by name, or takes them as numbers; "" is
// -1, leave. A user's group is only what group says. It reads the user database,
// which may block where that is a network service. On error both are -1.
func Owner(userName, group string) (uid, gid int, err error) {
	if uid, err = lookupID(userName, userID); err != nil {
		return -1, -1, fmt.Errorf("look up user %q: %w", userName, err)
	}
	if gid, err = lookupID(group, groupID); err != nil {
		return -1, -1, fmt.Errorf("look up group %q: %w", group, err)
	}
	return uid, gid, nil
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			return "", ErrNoOwner
		}
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
			return "", ErrNoOwner
		}
		return "", err
	}
	return g.Gid, nil
}

// lookupID prefers a name of digits to the number, as chown(1) does.
func lookupID(name string, lookup func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	text, err := lookup(name)
	if errors.Is(err, ErrNoOwner) {
		if _, nerr := strconv.ParseUint(name, 10, 31); nerr == nil {
			text, err = name, nil
		}
	}
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(text)
}
