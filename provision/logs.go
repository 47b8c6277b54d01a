package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/listener-agent/listener/provision/supervisor"
)

// leftOut is the line that stands where output is missing.
func leftOut(n int64) string {
	return fmt.Sprintf("\n[listener: %d bytes of output left out]\n", n)
}

// leftOutLine is compiled when the first log is read.
var leftOutLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\n\[listener: (\d+) bytes of output left out\]\n`)
})

// logPieces is LogPieces without what the tail need not hold.
func logPieces(path string) ([]supervisor.LogPiece, error) {
	pieces, err := supervisor.LogPieces(path)
	if err != nil {
		return nil, err
	}
	var tail int64
	for i := len(pieces) - 1; i >= 1; i-- {
		p := &pieces[i]
		if over := tail + p.Size - supervisor.TailMax; over > 0 {
			p.Skip = min(over, p.Size)
		}
		tail += p.Size - p.Skip
	}
	return pieces, nil
}

// sealLog joins the pieces of a log into its first file, in place, so that
// somebody who follows that file sees the rest. It may be cut off at any point
// and done again: the segments stay until their bytes are all copied. Nobody
// writes the log any more.
func sealLog(path string) error {
	pieces, err := logPieces(path)
	if err != nil || len(pieces) == 1 {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end := pieces[0].Size
	restore := func(err error) error {
		return errors.Join(err, f.Truncate(end))
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return err
	}
	at := end
	for _, p := range pieces[1:] {
		if begin := p.Offset + p.Skip; begin > at && p.Size > p.Skip {
			if _, err := f.WriteString(leftOut(begin - at)); err != nil {
				return restore(err)
			}
		}
		if err := appendPiece(f, p); err != nil {
			return restore(err)
		}
		at = p.Offset + p.Size
	}
	// The newest last: as long as a segment is there, the log counts as unsealed
	// and what it lacks would be missed.
	for _, p := range pieces[1:] {
		if err := os.Remove(p.Path); err != nil {
			return err
		}
	}
	return nil
}

func appendPiece(w io.Writer, p supervisor.LogPiece) error {
	in, err := os.Open(p.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, io.NewSectionReader(in, p.Skip, p.Size-p.Skip))
	return err
}

// LogReader reads the output of a run from its beginning. At the present end
// it returns io.EOF; calling Read again later goes on with what was added since.
// Where output is missing, it gives a line that says how much.
type LogReader struct {
	path   string
	pos    int64 // in the stream, or in the file once sealed
	head   int64 // length of the first part, once known
	sealed bool
	note   []byte // what is left of a marker line
}

// OpenLog returns a reader of a run's output; a run without output is empty.
func (h *History) OpenLog(id string) *LogReader { return &LogReader{path: h.LogPath(id), head: -1} }

// Read implements io.Reader.
func (r *LogReader) Read(b []byte) (int, error) {
	if len(r.note) > 0 {
		n := copy(b, r.note)
		r.note = r.note[n:]
		return n, nil
	}
	pieces, err := logPieces(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, io.EOF
	}
	if err != nil {
		return 0, err
	}
	if len(pieces) > 1 {
		r.head = pieces[0].Size
	} else if !r.sealed && r.head >= 0 && r.pos >= r.head {
		r.toSealed()
	}
	for _, p := range pieces {
		begin, end := p.Offset+p.Skip, p.Offset+p.Size
		if r.pos >= end || p.Skip == p.Size {
			continue
		}
		if r.pos < begin {
			r.note = []byte(leftOut(begin - r.pos))
			r.pos = begin
			return r.Read(b)
		}
		n, err := readAt(p.Path, b[:min(int64(len(b)), end-r.pos)], r.pos-p.Offset)
		r.pos += int64(n)
		return n, err
	}
	return 0, io.EOF
}

// toSealed turns the position in the stream into one in the joined file.
func (r *LogReader) toSealed() {
	r.sealed = true
	buf := make([]byte, 100)
	n, _ := readAt(r.path, buf, r.head)
	m := leftOutLine().FindSubmatch(buf[:n])
	if m == nil {
		return // nothing was left out: they are the same
	}
	missing, _ := strconv.ParseInt(string(m[1]), 10, 64)
	r.pos = max(r.head, r.pos-missing+int64(len(m[0])))
	if r.pos < r.head+int64(len(m[0])) {
		r.pos = r.head
	}
}

func readAt(path string, b []byte, off int64) (int, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, io.EOF // removed since: the next call sees what took its place
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.ReadAt(b, off)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Tail returns the last lines of a run's output, at most lines of them and
// 64 KiB, without line ends; none when there is no output. It works while the run goes on.
func (h *History) Tail(id string, lines int) []string {
	const most = 64 << 10
	pieces, err := logPieces(h.LogPath(id))
	if err != nil || lines <= 0 {
		return nil
	}
	var data []byte
	for i := len(pieces) - 1; i >= 0 && len(data) < most; i-- {
		p := pieces[i]
		n := min(p.Size-p.Skip, int64(most-len(data)))
		part := make([]byte, n)
		got, _ := readAt(p.Path, part, p.Size-n)
		data = append(part[:got], data...)
	}
	if data = bytes.TrimRight(data, "\n"); len(data) == 0 {
		return nil
	}
	all := strings.Split(strings.ToValidUTF8(string(data), "\uFFFD"), "\n")
	return all[max(0, len(all)-lines):]
}
