package throttle

import (
	"syscall"

	"github.com/listener-agent/listener/internal/atomicfile"
)

// page is what the kernel copies at once: a process that is killed leaves
// such a write whole or undone.
const page = 4096

// write makes the file say what the record does. It stands between an event
// and its command, so where one write over the old lines does, no new file is
// made for it: that costs ext4 many times as much, and the more the more runs
// there were of late.
func (r *Record) write() error {
	data := r.encode()
	if r.over(data) {
		return nil
	}
	r.size = 0
	err := atomicfile.Write(r.path, data, 0o600)
	if err == nil {
		r.size = len(data)
	}
	return err
}

// over writes data in place, if the file is the one that this Record wrote
// last and none of its lines would stay behind. false: nothing was written, or
// not all of it.
func (r *Record) over(data []byte) bool {
	if r.size == 0 || len(data) < r.size || len(data) > page {
		return false
	}
	fd, err := syscall.Open(r.path, syscall.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode != syscall.S_IFREG|0o600 || st.Nlink != 1 || st.Size != int64(r.size) {
		return false
	}
	n, err := syscall.Pwrite(fd, data, 0)
	if err != nil || n != len(data) {
		return false
	}
	r.size = n
	return true
}
