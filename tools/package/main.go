// Command package makes what belongs into a package beside the binary, from the
// binary itself and from the comments of the settings:
//
//	listener schema --commands | package man DIR    man pages, DIR/man1 and DIR/man5
//	package licenses BINARY                         the licences of all that is linked into BINARY
//	package sbom NAME VERSION BINARY…               a CycloneDX bill of materials, JSON
//
// SOURCE_DATE_EPOCH is the time in all of them: equal input gives equal output.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	when, err := epoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	switch {
	case len(args) == 2 && args[0] == "man":
		return man(in, args[1], when)
	case len(args) == 2 && args[0] == "licenses":
		return licenses(out, args[1])
	case len(args) >= 4 && args[0] == "sbom":
		return sbom(out, args[1], args[2], args[3:], when)
	}
	return errors.New("usage: package man DIR | licenses BINARY | sbom NAME VERSION BINARY…")
}

// epoch reads SOURCE_DATE_EPOCH; without it nothing could be reproduced.
func epoch(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
