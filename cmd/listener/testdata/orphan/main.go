// Command orphan leaves a process behind and ends: "orphan" as the command of a
// step, "orphan serve" as an application that ends with SIGTERM. Static, so that
// it runs in a container that has nothing else.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	switch mode {
	case "": // the command of a step; it has left one
		leave("/tmp/left", "wait")
	case "serve":
		run("parent")
		write("/tmp/greeting", os.Getenv("GREETING"))
		<-term
		os.Exit(9)
	case "parent": // ends at once, so that its child has none
		leave("/tmp/left", "wait")
	case "wait": // for its end, which the test brings about
		for {
			if _, err := os.Stat("/tmp/end"); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func leave(path, mode string) {
	cmd := exec.Command(os.Args[0], mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	check(cmd.Start())
	write(path, fmt.Sprint(cmd.Process.Pid))
}

func run(mode string) { check(exec.Command(os.Args[0], mode).Run()) }

// write replaces path at once: the test reads it as soon as it is there.
func write(path, text string) {
	check(os.WriteFile(path+".new", []byte(text), 0o644))
	check(os.Rename(path+".new", path))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "orphan:", err)
		os.Exit(1)
	}
}
