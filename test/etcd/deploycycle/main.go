// Command deploycycle plays the deploy cycle of examples/deploy-cycle on one
// machine, with a real etcd, real agents, a real HAProxy and small HTTP
// services: `make deploy-cycle`. It is also the program of these services.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 1 && args[0] == "start" {
		return report(startService())
	}
	if len(args) == 1 && args[0] == "serve" {
		return report(serve())
	}
	flags := flag.NewFlagSet("deploycycle", flag.ContinueOnError)
	binary := flags.String("listener", "", "the listener `BINARY`")
	example := flags.String("example", "", "the `DIRECTORY` examples/deploy-cycle")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return report(play(ctx, *binary, *example, tell))
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "deploycycle:", err)
		return 1
	}
	return 0
}

var began = time.Now()

// tell prints one line of the story.
func tell(format string, args ...any) {
	fmt.Printf("%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

// play makes a world, plays the story in it and takes everything away again.
func play(ctx context.Context, binary, example string, tell func(string, ...any)) (err error) {
	w, err := newWorld(binary, example, tell)
	if err != nil {
		return err
	}
	defer w.end()
	if err := w.story(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, w.remains())
	}
	return nil
}
