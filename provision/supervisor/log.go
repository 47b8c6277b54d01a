package supervisor

import (
	"fmt"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// HeadMax and TailMax bound how much of a run's output is kept, in bytes: its
// first and its last part.
const (
	HeadMax = 512 << 10
	TailMax = 512 << 10
)

// Log keeps the first and the last part of a run's output. All of it is
// readable at every moment, also after kill -9 in the middle of a write, since
// files only grow and are only removed once a newer one has taken over:
//
//	ID.log             the first HeadMax bytes of the stream
//	ID.log.HEAD-OFFSET segments of at most TailMax bytes that begin at byte
//	                   OFFSET of the stream; the newest two are kept. HEAD is
//	                   the length of the first part within ID.log.
//
// Where a piece begins later than the one before it ended, bytes are left out.
// The agent joins the pieces into ID.log when the run has ended (SealLog). Each
// step of a run goes on where the one before stopped.
//
// Writing never fails: what cannot be written (disk full) is left out, and it
// is tried again later.
type Log struct {
	path string

	mu     sync.Mutex // guards following
	opened bool
	closed bool
	f      *os.File  // nil: none, open a segment
	pos    int64     // in the stream: bytes seen so far
	room   int64     // left in f
	retry  time.Time // after an error: not before
}

// retryLog is the pause after a failed write.
const retryLog = 200 * time.Millisecond

// NewLog returns a log that opens its files when needed: without output there
// are none.
func NewLog(path string) *Log { return &Log{path: path} }

// Write takes the next part of the stream.
func (l *Log) Write(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(p) == 0 {
		return
	}
	if !l.opened {
		l.resumeLocked()
	}
	for len(p) > 0 {
		n := l.putLocked(p)
		if n == 0 { // left out
			l.pos += int64(len(p))
			return
		}
		p = p[n:]
	}
}

// Close ends the log; later writes are dropped.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.dropFileLocked()
}

// putLocked writes what fits into the present file and returns how much that was.
func (l *Log) putLocked(p []byte) int {
	if !l.retry.IsZero() && time.Now().Before(l.retry) {
		return 0
	}
	fresh := false
	if l.f == nil || l.room == 0 {
		if !l.nextLocked() {
			l.retry = time.Now().Add(retryLog)
			return 0
		}
		fresh = true
	}
	n, err := l.f.Write(p[:min(int64(len(p)), l.room)])
	l.pos += int64(n)
	l.room -= int64(n)
	l.retry = time.Time{}
	if err != nil {
		name := l.f.Name()
		l.dropFileLocked() // what follows is not contiguous: a new piece
		l.retry = time.Now().Add(retryLog)
		if fresh && n == 0 {
			_ = os.Remove(name)
		}
	}
	return n
}

func (l *Log) dropFileLocked() {
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}

// resumeLocked opens the log where an earlier step of the run left it.
func (l *Log) resumeLocked() {
	l.opened = true
	last, limit := LogPiece{Path: l.path}, int64(HeadMax)
	if pieces, err := LogPieces(l.path); err == nil {
		last = pieces[len(pieces)-1]
		if len(pieces) > 1 {
			limit = TailMax
		}
	}
	l.pos, l.room = last.Offset+last.Size, max(0, limit-last.Size)
	var err error
	if l.f, err = openAppend(last.Path); err != nil {
		l.f, l.retry = nil, time.Now().Add(retryLog)
	}
}

// nextLocked begins a new segment at pos and removes all but the one before it.
func (l *Log) nextLocked() bool {
	l.dropFileLocked()
	var head int64
	pieces, err := LogPieces(l.path)
	if err == nil {
		head = pieces[0].Size
	}
	if l.f, err = openAppend(fmt.Sprintf("%s.%d-%d", l.path, head, l.pos)); err != nil {
		l.f = nil
		return false
	}
	l.room = TailMax
	for i := 1; i < len(pieces)-1; i++ {
		_ = os.Remove(pieces[i].Path)
	}
	return true
}

func openAppend(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(path.Dir(name), 0o700); err == nil {
			f, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		}
	}
	return f, err
}

// LogPiece is a part of the stream: Size bytes from Offset on, at the beginning of Path.
type LogPiece struct {
	Path         string
	Offset, Size int64
	// Skip bytes at the beginning of the piece need not be read: the tail is
	// full without them. LogPieces leaves it 0.
	Skip int64
}

// LogPieces lists what there is of a log, in order of the stream; the first
// piece is ID.log itself (size 0 if it could not be written). The error is that
// of fs.ErrNotExist when there is nothing.
func LogPieces(path string) ([]LogPiece, error) {
	names, err := segments(path)
	if err != nil {
		return nil, err
	}
	var pieces []LogPiece
	head := int64(-1)
	for _, name := range names {
		h, off, ok := parseSegment(name[len(path)+1:])
		st, err := os.Lstat(name)
		if !ok || err != nil {
			continue
		}
		head = h
		pieces = append(pieces, LogPiece{Path: name, Offset: off, Size: st.Size()})
	}
	st, err := os.Stat(path)
	switch {
	case err != nil && len(pieces) == 0:
		return nil, err
	case err != nil:
		head = 0
	case head < 0:
		head = st.Size()
	default:
		head = min(head, st.Size()) // more is the trace of an unfinished SealLog
	}
	pieces = append(pieces, LogPiece{Path: path, Size: head})
	sort.Slice(pieces, func(i, j int) bool {
		a, b := pieces[i], pieces[j]
		return a.Offset < b.Offset || (a.Offset == b.Offset && a.Path == path && b.Path != path)
	})
	return pieces, nil
}

func parseSegment(s string) (head, offset int64, ok bool) {
	a, b, ok := strings.Cut(s, "-")
	head, err1 := strconv.ParseInt(a, 10, 64)
	offset, err2 := strconv.ParseInt(b, 10, 64)
	return head, offset, ok && err1 == nil && err2 == nil && head >= 0 && offset >= head
}

// segments are the files beside a log whose names may be those of its pieces.
func segments(name string) (all []string, err error) {
	dir, base := path.Split(name)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), base); ok && strings.HasPrefix(rest, ".") {
			all = append(all, name+rest)
		}
	}
	return all, nil
}
