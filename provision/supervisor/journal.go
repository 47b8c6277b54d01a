package supervisor

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// journalWait is how long the journal may keep the command waiting for its
// output to be taken; then it gets no more of it. The run's log has it all.
const journalWait = time.Second

// journal is standard error where systemd connected that to its journal. The
// zero pointer takes nothing.
type journal struct {
	mu  sync.Mutex // guards following
	out *os.File   // nil: it did not take output in time
}

// openJournal is nil when standard error is something else: JOURNAL_STREAM
// names the stream by device and inode, see systemd.exec(5).
func openJournal() *journal {
	stream := os.Getenv("JOURNAL_STREAM")
	var st syscall.Stat_t
	if stream == "" || syscall.Fstat(syscall.Stderr, &st) != nil || stream != fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		return nil
	}
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(syscall.Stderr), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 || syscall.SetNonblock(int(fd), true) != nil { // lets a write have a deadline
		return nil
	}
	return &journal{out: os.NewFile(fd, "journal")}
}

func (j *journal) write(b []byte) {
	if j == nil || len(b) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.out == nil {
		return
	}
	_ = j.out.SetWriteDeadline(time.Now().Add(journalWait))
	if _, err := j.out.Write(b); err != nil {
		_ = j.out.Close()
		j.out = nil
	}
}
