package freeport_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/listener-agent/listener/internal/freeport"
)

// Nobody gets a port twice, also if nobody listens on it yet.
func TestTake(t *testing.T) {
	taken := map[int]bool{}
	for range 3000 {
		port, release, err := freeport.Take()
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if taken[port] {
			t.Fatalf("port %d again", port)
		}
		taken[port] = true
	}
	for port := range taken {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		break
	}
}
