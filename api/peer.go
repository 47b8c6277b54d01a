package api

import (
	"context"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// peerContext keeps who is at the other end, as the kernel says.
func peerContext(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			ctx = context.WithValue(ctx, peerKey{}, cred)
		}
	})
	return ctx
}

// who names the caller when the request does not.
func who(ctx context.Context, told string) string {
	if told != "" {
		return told
	}
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return "unknown"
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// peerPID is the process at the other end; 0: the kernel does not say, or it
// is in a namespace that we cannot see.
func peerPID(ctx context.Context) int {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok {
		return 0
	}
	return int(cred.Pid)
}
