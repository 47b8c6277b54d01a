package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
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

// logPieces is LogPieces without what the tail need not hold: the first part,
// and of the others what is to be read, none of them empty.
func logPieces(path string) ([]supervisor.LogPiece, error) {
	all, err := supervisor.LogPieces(path)
	if err != nil {
		return nil, err
	}
	pieces := all[:1:1]
	var tail int64
	for i, p := range slices.Backward(all[1:]) {
		all[i+1].Skip = min(max(0, tail+p.Size-supervisor.TailMax), p.Size)
		tail += p.Size - all[i+1].Skip
	}
	for _, p := range all[1:] {
		if p.Size > p.Skip {
			pieces = append(pieces, p)
		}
	}
	return pieces, nil
}

// missingBefore is the line to put before piece i, "" when nothing is missing.
func missingBefore(pieces []supervisor.LogPiece, i int) string {
	if i == 0 {
		return ""
	}
	last := pieces[i-1]
	if n := pieces[i].Offset + pieces[i].Skip - last.Offset - last.Size; n > 0 {
		return leftOut(n)
	}
	return ""
}

// sealLog joins the pieces of a log into its first file, in place, so that
// somebody who follows that file sees the rest. It may be cut off at any point
// and done again: the segments stay until their bytes are all copied. Nobody
// writes the log any more.
func sealLog(path string) error {
	segments, err := supervisor.LogPieces(path)
	if err != nil || len(segments) == 1 {
		return err
	}
	pieces, err := logPieces(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	first := pieces[0].Size
	if err := f.Truncate(first); err != nil {
		return err
	}
	if _, err := f.Seek(first, io.SeekStart); err != nil {
		return err
	}
	for i := 1; i < len(pieces); i++ {
		_, err := f.WriteString(missingBefore(pieces, i))
		if err == nil {
			err = appendPiece(f, pieces[i])
		}
		if err != nil {
			return errors.Join(err, f.Truncate(first))
		}
	}
	for _, p := range segments[1:] {
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
	} else if !r.sealed && r.head >= 0 {
		r.sealed = true
		r.toSealed()
	}
	for _, p := range pieces {
		begin, end := p.Offset+p.Skip, p.Offset+p.Size
		if r.pos >= end {
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
	if r.pos <= r.head {
		return // up to there they are the same
	}
	buf := make([]byte, 100)
	n, _ := readAt(r.path, buf, r.head)
	m := leftOutLine().FindSubmatch(buf[:n])
	if m == nil {
		return // nothing was left out: they are the same
	}
	missing, _ := strconv.ParseInt(string(m[1]), 10, 64)
	if r.pos -= missing; r.pos < r.head {
		r.pos = r.head // it fell behind: the line says so
	} else {
		r.pos += int64(len(m[0]))
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
		data = slices.Concat([]byte(missingBefore(pieces, i)), part[:got], data)
	}
	if data = bytes.TrimRight(data, "\n"); len(data) == 0 {
		return nil
	}
	all := strings.Split(strings.ToValidUTF8(string(data), "\uFFFD"), "\n")
	return all[max(0, len(all)-lines):]
}
