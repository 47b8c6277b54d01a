// Package freeport finds ports for the servers of tests, which are stopped and
// started again on the same one.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports below the range from which the kernel takes those of outgoing
// connections (32768 by default, ip(7)): none of these gets in between.
const (
	first = 15_000
	count = 17_000
)

var (
	mu    sync.Mutex
	locks = map[int]net.Listener{} // held: what nobody refers to is closed
)

// Take returns a port of 127.0.0.1 that nobody listens on and nobody else gets
// from Take, in any process of this machine, until release is called.
func Take() (port int, release func(), err error) {
	const tries = 1000
	for range tries {
		port = first + rand.N(count)
		// An abstract socket (unix(7)) is a lock that ends with its process.
		lock, lockErr := net.Listen("unix", fmt.Sprintf("@listener-test-port-%d", port))
		if lockErr != nil {
			err = lockErr
			continue
		}
		l, listenErr := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if listenErr == nil {
			listenErr = l.Close()
		}
		if listenErr == nil {
			mu.Lock()
			defer mu.Unlock()
			locks[port] = lock
			return port, func() { give(port) }, nil
		}
		err = listenErr
		_ = lock.Close()
	}
	return 0, nil, fmt.Errorf("no port is free: %w", err)
}

func give(port int) {
	mu.Lock()
	defer mu.Unlock()
	_ = locks[port].Close()
	delete(locks, port)
}
