package graph_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/listener-agent/listener/graph"
	"github.com/listener-agent/listener/status"
)

// A graph of a large fleet is there before somebody gives up waiting.
func TestALargeFleet(t *testing.T) {
	t.Parallel()
	in := graph.Input{Node: "n0", Region: "r", Federation: "f", Fleet: &status.Fleet{}}
	for i := range 5000 {
		n := status.Node{Node: fmt.Sprintf("n%d", i), Region: "r", State: "up"}
		for j := range 10 {
			n.Waiting = append(n.Waiting, fmt.Sprintf("W%d", j))
		}
		in.Fleet.Nodes = append(in.Fleet.Nodes, n)
		for j := range 2 {
			in.Fleet.Providers = append(in.Fleet.Providers, status.Provider{
				Key: fmt.Sprintf("K%d", i%100), Region: "r", Node: n.Node, Service: fmt.Sprintf("s%d", j), State: "up",
			})
		}
	}
	begun := time.Now()
	graph.New(in)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}
