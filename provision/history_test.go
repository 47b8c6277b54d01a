package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/provision/supervisor"
	"github.com/listener-agent/listener/status"
)

func newHistory(t *testing.T) *History {
	t.Helper()
	h, err := OpenHistory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func saveRun(t *testing.T, h *History, n int) string {
	t.Helper()
	at := time.Date(2026, 11, 21, 0, 0, n, 0, time.UTC)
	id := at.Format("20060102-150405") + "-0000"
	if err := h.Save(status.Run{ID: id, Kind: "auto", Started: at, Ended: at.Add(time.Second), Result: "ok"}); err != nil {
		t.Fatal(err)
	}
	return id
}

func runIDs(runs []status.Run) (ids []string) {
	for _, r := range runs {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestNewRunID(t *testing.T) {
	at := time.Date(2026, 11, 21, 1, 42, 35, 0, time.FixedZone("", 3600))
	id := NewRunID(at)
	if !strings.HasPrefix(id, "20261121-004235-") || len(id) != len("20261121-004235-3f9a") || !supervisor.ValidName(id) {
		t.Error(id)
	}
	if later := NewRunID(at.Add(time.Second)); later <= id {
		t.Errorf("%s does not sort after %s", later, id)
	}
}

func TestHistory(t *testing.T) {
	h := newHistory(t)
	if runs, err := h.List(0); err != nil || runs == nil || len(runs) != 0 {
		t.Errorf("empty: %v %v", runs, err)
	}
	a, b, c := saveRun(t, h, 1), saveRun(t, h, 2), saveRun(t, h, 3)
	if runs, err := h.List(2); err != nil || !slices.Equal(runIDs(runs), []string{c, b}) {
		t.Errorf("%v %v", runIDs(runs), err)
	}
	for name, data := range map[string]string{b: "", a: `{"id":"other"}`, "20261121-000009-0000": "{garbage"} {
		if err := os.WriteFile(h.path(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Show(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("broken record %s: %v", name, err)
		}
	}
	if runs, err := h.List(0); err != nil || !slices.Equal(runIDs(runs), []string{c}) {
		t.Errorf("%v %v", runIDs(runs), err)
	}
	for _, id := range []string{"none", "../../etc/passwd", ""} {
		if _, err := h.Show(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := h.Save(status.Run{ID: "../x"}); err == nil {
		t.Error("saved under a path")
	}
}

func TestRecordThatCannotBeWritten(t *testing.T) {
	h := newHistory(t)
	id := saveRun(t, h, 1)
	before, err := os.ReadFile(h.path(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.path(id)+".tmp", 0o700); err != nil { // stands in for any failing write
		t.Fatal(err)
	}
	if err := h.Save(status.Run{ID: id, Result: "failed"}); err == nil {
		t.Error("no error")
	}
	if after, err := os.ReadFile(h.path(id)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the record was spoilt: %s %v", after, err)
	}
}

func TestPrune(t *testing.T) {
	h := newHistory(t)
	var ids []string
	for i := range 10 {
		ids = append(ids, saveRun(t, h, i))
		if err := os.WriteFile(h.LogPath(ids[i]), make([]byte, 1000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(h.LogPath(ids[1])+".0-10", make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(h.dir, "notes")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error, want ...string) {
		t.Helper()
		runs, lerr := h.List(0)
		want = slices.Clone(want)
		slices.Reverse(want)
		if err != nil || lerr != nil || !slices.Equal(runIDs(runs), want) {
			t.Errorf("%s: %v %v %v", what, runIDs(runs), err, lerr)
		}
	}
	check("no limit", h.Prune(0, 0, ""), ids...)
	check("by count, one protected", h.Prune(5, 0, ids[1]), ids[1], ids[6], ids[7], ids[8], ids[9])
	check("by size", h.Prune(0, 4000, ""), ids[7], ids[8], ids[9])
	check("the newest stays", h.Prune(1, 1, ""), ids[9])
	names, _ := filepath.Glob(h.dir + "/*")
	if want := []string{h.path(ids[9]), h.LogPath(ids[9]), foreign}; !slices.Equal(names, want) {
		t.Errorf("files left: %v", names)
	}
}

// readLog reads a whole log, which must not change meanwhile.
func readLog(t testing.TB, h *History, id string) string {
	t.Helper()
	data, err := io.ReadAll(h.OpenLog(id))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// numbers is "1\n2\n…" of at least size bytes.
func numbers(size int) []byte {
	var b []byte
	for i := 1; len(b) < size; i++ {
		b = append(strconv.AppendInt(b, int64(i), 10), '\n')
	}
	return b
}

// feed writes data in parts of odd sizes.
func feed(l *supervisor.Log, data []byte) {
	for n := 1; len(data) > 0; n = n*7%65536 + 1 {
		n = min(n, len(data))
		l.Write(data[:n])
		data = data[n:]
	}
}

func wantLog(data []byte) string {
	most := supervisor.HeadMax + supervisor.TailMax
	if len(data) <= most {
		return string(data)
	}
	return string(data[:supervisor.HeadMax]) + leftOut(int64(len(data)-most)) + string(data[len(data)-supervisor.TailMax:])
}

func TestLogKeepsFirstAndLast(t *testing.T) {
	for _, size := range []int{
		0, 1, 1000, supervisor.HeadMax - 1, supervisor.HeadMax, supervisor.HeadMax + 1,
		supervisor.HeadMax + supervisor.TailMax, supervisor.HeadMax + supervisor.TailMax + 1, 3 << 20, 5_000_001,
	} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := newHistory(t)
			const id = "run"
			data := numbers(size)[:size]
			// Two steps: the second goes on where the first stopped.
			for _, part := range [][]byte{data[:size/3], data[size/3:]} {
				l := supervisor.NewLog(h.LogPath(id))
				feed(l, part)
				l.Close()
				l.Write([]byte("dropped"))
			}
			want := wantLog(data)
			if got := readLog(t, h, id); got != want {
				t.Fatalf("read %d bytes, want %d", len(got), len(want))
			}
			if err := h.Save(status.Run{ID: id, Ended: time.Now()}); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(h.LogPath(id))
			if string(got) != want || err != nil && size > 0 {
				t.Fatalf("joined: %d bytes, want %d; %v", len(got), len(want), err)
			}
			if names, _ := filepath.Glob(h.dir + "/*.log*"); len(names) != min(1, size) {
				t.Errorf("files %v", names)
			}
			if got := readLog(t, h, id); got != want {
				t.Errorf("read after joining: %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

// TestLogIsFollowed: a reader sees all while it is written, joined or cut off.
func TestLogIsFollowed(t *testing.T) {
	h := newHistory(t)
	const id = "run"
	data := numbers(3 << 20)
	l := supervisor.NewLog(h.LogPath(id))
	near, far := h.OpenLog(id), h.OpenLog(id)
	var got bytes.Buffer
	for i := 0; i < len(data); i += 100_000 {
		l.Write(data[i:min(i+100_000, len(data))])
		if _, err := io.Copy(&got, near); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got.Bytes(), data) {
		t.Errorf("who kept up got %d bytes of %d", got.Len(), len(data))
	}
	// One that stopped in the middle of the first part, another one at its end.
	if _, err := io.CopyN(io.Discard, far, 1000); err != nil {
		t.Fatal(err)
	}
	atEnd := h.OpenLog(id)
	if _, err := io.CopyN(io.Discard, atEnd, supervisor.HeadMax); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := sealLog(h.LogPath(id)); err != nil {
		t.Fatal(err)
	}
	want := wantLog(data)
	for name, c := range map[string]struct {
		r    io.Reader
		want string
	}{"near": {near, ""}, "far": {far, want[1000:]}, "at the end": {atEnd, want[supervisor.HeadMax:]}} {
		if rest, err := io.ReadAll(c.r); err != nil || string(rest) != c.want {
			t.Errorf("%s: rest of %d bytes, want %d; %v", name, len(rest), len(c.want), err)
		}
	}
}

func TestSealLogCutOff(t *testing.T) {
	h := newHistory(t)
	data := numbers(3 << 20)
	l := supervisor.NewLog(h.LogPath("run"))
	feed(l, data)
	l.Close()
	// As if it had died while copying: the first file is longer than its part.
	f, err := os.OpenFile(h.LogPath("run"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half of what was to come"); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if got := readLog(t, h, "run"); got != wantLog(data) {
		t.Error("what was cut off is read")
	}
	if err := sealLog(h.LogPath("run")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(h.LogPath("run")); string(got) != wantLog(data) {
		t.Error("not joined again")
	}
}

func TestTail(t *testing.T) {
	h := newHistory(t)
	if tail := h.Tail("none", 5); tail != nil {
		t.Errorf("%q", tail)
	}
	l := supervisor.NewLog(h.LogPath("run"))
	l.Write([]byte("a\nb\n\nlast \xff\n"))
	if tail := h.Tail("run", 3); !slices.Equal(tail, []string{"b", "", "last \uFFFD"}) {
		t.Errorf("%q", tail)
	}
	if tail := h.Tail("run", 100); len(tail) != 4 {
		t.Errorf("%q", tail)
	}
	data := numbers(2<<20 + 100)
	feed(l, data)
	l.Close()
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if tail := h.Tail("run", 5); !slices.Equal(tail, lines[len(lines)-5:]) {
		t.Errorf("%q", tail)
	}
}
