package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain makes the test binary the program of the example's services, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && (os.Args[1] == "start" || os.Args[1] == "serve") {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// The whole story, with the real binary; each of its steps waits for what it
// says, and no request may fail.
func TestDeployCycle(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("haproxy"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("left out, as haproxy is not installed")
	}
	binary := filepath.Join(t.TempDir(), "listener")
	build := exec.Command("go", "build", "-o", binary, "./cmd/listener")
	build.Dir = "../../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := play(t.Context(), binary, "../../../examples/deploy-cycle", t.Logf); err != nil {
		t.Fatal(err)
	}
}
