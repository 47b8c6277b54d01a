package nats_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stampCode asks for the time with its first instructions, and reports it to
// the pipe that argv[1] names; cmd/listener has it with comments.
var stampCode = []byte{
	0x48, 0x8b, 0x5c, 0x24, 0x10, 0x48, 0x83, 0xec, 0x10, 0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xb8, 228, 0, 0, 0, 0x0f, 0x05,
	0x48, 0x89, 0xdf, 0xbe, 1, 0, 0, 0, 0xb8, 2, 0, 0, 0, 0x0f, 0x05, 0x89, 0xc7, 0x48, 0x89, 0xe6, 0xba, 16, 0, 0, 0,
	0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
}

// stampCommand makes the smallest static program that reports the time of its
// first instruction.
func stampCommand(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "stamp")
	if runtime.GOARCH != "amd64" { // a bigger one, the same for all that are measured
		build := exec.Command("go", "build", "-o", path, "./cmd/listener/testdata/stamp")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("build the command: %v\n%s", err, out)
		}
		return path
	}
	const base, heads = 0x400000, 64 + 56
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: base + heads, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	size := uint64(heads + len(stampCode))
	load := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var out bytes.Buffer
	for _, part := range []any{head, load, stampCode} {
		must(b, binary.Write(&out, binary.LittleEndian, part))
	}
	must(b, os.WriteFile(path, out.Bytes(), 0o700))
	return path
}

// stamps is the pipe on which stamp commands report. It is open for writing,
// too, so that it never ends.
type stamps struct{ f *os.File }

func openStamps(b *testing.B, path string) stamps {
	b.Helper()
	must(b, unix.Mkfifo(path, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(b, err)
	b.Cleanup(func() { f.Close() })
	return stamps{f}
}

// next waits for the next command's first instruction.
func (s stamps) next(b *testing.B) time.Duration {
	b.Helper()
	var t struct{ Sec, Nsec int64 }
	must(b, s.f.SetReadDeadline(time.Now().Add(time.Minute)))
	must(b, binary.Read(s.f, binary.NativeEndian, &t))
	return time.Duration(t.Sec)*time.Second + time.Duration(t.Nsec)
}

// monotonic is the clock of the stamps.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// series are the samples of several rounds.
type series struct{ all, medians []time.Duration }

func (s *series) add(round []time.Duration) {
	s.all = append(s.all, round...)
	s.medians = append(s.medians, quantile(round, 0.5))
}

func (s *series) median() time.Duration { return quantile(s.medians, 0.5) }
func (s *series) p95() time.Duration    { return quantile(s.all, 0.95) }

// spread is how far the medians of the rounds are apart, in percent.
func (s *series) spread() float64 {
	return 100 * float64(slices.Max(s.medians)-slices.Min(s.medians)) / float64(s.median())
}

func quantile[T time.Duration | int64 | float64](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

func title(format string, args ...any) { fmt.Printf("\n"+format+"\n", args...) }

func line(name, format string, args ...any) {
	fmt.Printf("  %-36s %s\n", name, fmt.Sprintf(format, args...))
}

// target prints a figure beside what it should be at most. It fails nothing: a
// busy machine is not a broken program.
func target(name, figure, most string, met bool) {
	verdict := "ok"
	if !met {
		verdict = "MISSED"
	}
	line(name, "%s, target %s: %s", figure, most, verdict)
}
