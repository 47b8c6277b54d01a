package throttle

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxSpan bounds every duration that is computed here, so that the sum of two
// does not overflow: 90 years.
const maxSpan = 90 * 365 * 24 * time.Hour

// Now is one reading of the clocks.
type Now struct {
	Wall time.Time     // may jump; counts only across boots
	Boot string        // boot id; "": unknown, then only Wall counts
	Up   time.Duration // CLOCK_BOOTTIME: since boot, sleep included; never jumps
}

// Clock reads the clocks. It does not block. On error Wall is set, and what
// could not be read is zero.
func Clock() (Now, error) {
	now := Now{Wall: time.Now()}
	boot, err := bootID()
	if err != nil {
		return now, fmt.Errorf("read the boot id: %w", err)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return now, fmt.Errorf("read the time since boot: %w", err)
	}
	now.Boot, now.Up = boot, time.Duration(ts.Nano())
	return now, nil
}

// bootID reads random(4)'s id of this boot, once: it cannot change while we live.
var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id := strings.TrimSpace(string(b))
	if err == nil && !bootName(id) {
		err = fmt.Errorf("%q is none", id)
	}
	if err != nil {
		return "", err
	}
	return id, nil
})
