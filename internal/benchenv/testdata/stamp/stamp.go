// Command stamp is the benchmark's command on machines for which it has no
// smaller one: it writes CLOCK_MONOTONIC, 16 bytes, to the file that it is given,
// and ends a second later if it is given something else, too.
package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	const monotonic = 1
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&t)), 0)
	f, err := os.OpenFile(os.Args[1], os.O_WRONLY, 0)
	if err != nil {
		os.Exit(1)
	}
	_, _ = f.Write(unsafe.Slice((*byte)(unsafe.Pointer(&t)), unsafe.Sizeof(t)))
	if len(os.Args) > 2 {
		time.Sleep(time.Second)
	}
}
