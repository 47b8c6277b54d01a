// Package benchenv measures: when a command starts, what a process uses, and how
// that compares with a floor. It is for benchmarks, here and in test/.
package benchenv

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stampCode asks for the time with its first instructions, so that nothing of
// the command's own start is measured: no loader, no runtime.
var stampCode = []byte{
	0x4c, 0x8b, 0x24, 0x24, // mov r12, [rsp]       argc
	0x48, 0x8b, 0x5c, 0x24, 0x10, // mov rbx, [rsp+16]    argv[1]
	0x48, 0x83, 0xec, 0x10, // sub rsp, 16
	0xbf, 1, 0, 0, 0, // mov edi, 1           CLOCK_MONOTONIC
	0x48, 0x89, 0xe6, // mov rsi, rsp
	0xb8, 228, 0, 0, 0, // mov eax, 228         clock_gettime
	0x0f, 0x05, // syscall
	0x48, 0x89, 0xdf, // mov rdi, rbx
	0xbe, 1, 0, 0, 0, // mov esi, 1           O_WRONLY
	0xb8, 2, 0, 0, 0, // mov eax, 2           open
	0x0f, 0x05, // syscall
	0x89, 0xc7, // mov edi, eax
	0x48, 0x89, 0xe6, // mov rsi, rsp
	0xba, 16, 0, 0, 0, // mov edx, 16
	0xb8, 1, 0, 0, 0, // mov eax, 1           write
	0x0f, 0x05, // syscall
	0x49, 0x83, 0xfc, 3, // cmp r12, 3
	0x7c, 29, // jl exit
	0x48, 0xc7, 0x04, 0x24, 1, 0, 0, 0, // mov qword [rsp], 1
	0x48, 0xc7, 0x44, 0x24, 8, 0, 0, 0, 0, // mov qword [rsp+8], 0
	0x48, 0x89, 0xe7, // mov rdi, rsp
	0x31, 0xf6, // xor esi, esi
	0xb8, 35, 0, 0, 0, // mov eax, 35          nanosleep
	0x0f, 0x05, // syscall
	0x31, 0xff, // exit: xor edi, edi
	0xb8, 60, 0, 0, 0, // mov eax, 60          exit
	0x0f, 0x05, // syscall
}

// StampCommand makes the smallest static program that writes the time of its
// first instruction to the file named by its first argument, and ends a second
// later if there is another argument, else at once.
func StampCommand(b *testing.B, dir string) string {
	path := filepath.Join(dir, "stamp")
	if runtime.GOARCH != "amd64" { // a bigger one, the same for floor and agent
		if out, err := exec.Command("go", "build", "-o", path, "github.com/listener-agent/listener/internal/benchenv/testdata/stamp").CombinedOutput(); err != nil {
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
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o700); err != nil {
		b.Fatal(err)
	}
	return path
}

// Stamps is the pipe on which stamp commands report.
type Stamps struct{ f *os.File }

// OpenStamps opens the pipe at path and makes it if need be. It is open for
// writing, too, so that it never ends.
func OpenStamps(path string) (Stamps, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && err != unix.EEXIST {
		return Stamps{}, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return Stamps{f}, err
}

// Next waits for the next command's first instruction, at most Patience.
func (s Stamps) Next() (time.Duration, error) {
	var t struct{ Sec, Nsec int64 }
	if err := s.f.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return 0, err
	}
	err := binary.Read(s.f, binary.NativeEndian, &t)
	return time.Duration(t.Sec)*time.Second + time.Duration(t.Nsec), err
}

// Close closes the pipe.
func (s Stamps) Close() error { return s.f.Close() }

// Patience bounds every wait of a benchmark.
const Patience = 30 * time.Second

// Monotonic is the clock of the stamps.
func Monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// ProcessCPU is the processor time that a process has used, threads that
// ended included; see clock_getcpuclockid(3) for the number.
func ProcessCPU(pid int) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0 // it has ended
	}
	return time.Duration(t.Nano())
}
