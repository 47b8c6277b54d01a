package balancer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what one command may answer: 10,000 servers are 1.5 MB.
const maxAnswer = 64 << 20

// cli is a conversation with HAProxy over its runtime socket. An error ends it.
type cli struct {
	conn net.Conn
	stop func() bool // of the watch on the context
	buf  []byte
	made int // commands sent that change something
}

// dial begins one that ends with ctx, also in the middle of an answer.
func dial(ctx context.Context, path string) (*cli, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &cli{conn: conn}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // fails if it is closed
	// In interactive mode many commands go over one connection, and each answer
	// ends in a prompt.
	if _, err := c.ask("prompt"); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *cli) close() {
	c.stop()
	c.conn.Close()
}

var prompt = []byte("\n> ")

// ask sends a command and returns its answer without blanks around it.
func (c *cli) ask(command string) (string, error) {
	if _, err := c.conn.Write([]byte(command + "\n")); err != nil {
		return "", fmt.Errorf("%s: %w", verb(command), err)
	}
	c.buf = c.buf[:0]
	for !bytes.HasSuffix(c.buf, prompt) {
		if len(c.buf) > maxAnswer {
			return "", fmt.Errorf("%s: the answer has no end", verb(command))
		}
		if len(c.buf) == cap(c.buf) {
			c.buf = append(make([]byte, 0, max(64<<10, 2*cap(c.buf))), c.buf...)
		}
		n, err := c.conn.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+n]
		if err != nil {
			return "", fmt.Errorf("%s: %w", verb(command), err)
		}
	}
	return string(bytes.TrimSpace(c.buf[:len(c.buf)-len(prompt)])), nil
}

// change sends a command that answers what begins with want, or with anything
// that shows later if want is "".
func (c *cli) change(want, command string) error {
	c.made++
	answer, err := c.ask(command)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(answer, want) {
		return &refusedError{command: command, answer: answer}
	}
	return nil
}

// refusedError is an answer that is not the one for success.
type refusedError struct{ command, answer string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s: it says %s", verb(e.command), plainText(e.answer))
}

// verb is a command up to what it is about.
func verb(command string) string {
	words := strings.Fields(command)
	return strings.Join(words[:min(3, len(words))], " ")
}

// info returns what HAProxy says of itself.
func (c *cli) info() (description, pid string, err error) {
	text, err := c.ask("show info")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "description":
			description = value
		case "Pid":
			pid = value
		}
	}
	if pid == "" {
		return "", "", errors.New("show info: it does not answer like HAProxy")
	}
	return description, pid, nil
}

// running is a server as HAProxy has it.
type running struct {
	host   string // an address, or a name that is looked up
	port   int
	weight int
	maint  bool // taken out by a command
}

// servers returns those of a backend, or of all with "", by backend and name.
func (c *cli) servers(backend string) (map[string]map[string]running, error) {
	text, err := c.ask(strings.TrimSpace("show servers state " + backend))
	if err != nil {
		return nil, err
	}
	all, err := parseServers(text)
	if err != nil {
		return nil, fmt.Errorf("show servers state: %w", err)
	}
	return all, nil
}

// columns of `show servers state` that are used, in the order of their use in
// parseServer; management.txt of HAProxy, 9.3, describes them.
var columns = []string{"be_name", "srv_name", "srv_addr", "srv_port", "srv_uweight", "srv_admin_state", "srv_fqdn"}

func parseServers(text string) (map[string]map[string]running, error) {
	all := map[string]map[string]running{}
	var at []int // of columns in a line
	n := 0       // words of a line
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) > 0 && words[0] == "#":
			words = words[1:]
			n, at = len(words), make([]int, len(columns))
			for i, name := range columns {
				if at[i] = index(words, name); at[i] < 0 {
					return nil, fmt.Errorf("it has no column %s", name)
				}
			}
		case at == nil || len(words) == 0: // the number of the format
		case len(words) < n:
			return nil, errors.New("a line is cut")
		default:
			backend, name, s, err := parseServer(words, at)
			if err != nil {
				return nil, err
			}
			if all[backend] == nil {
				all[backend] = map[string]running{}
			}
			all[backend][name] = s
		}
	}
	if at == nil {
		return nil, fmt.Errorf("it says %s", plainText(text))
	}
	return all, nil
}

func parseServer(words []string, at []int) (backend, name string, s running, err error) {
	var nums [3]int
	for i := range nums {
		n, aerr := strconv.Atoi(words[at[3+i]])
		if aerr != nil {
			return "", "", s, fmt.Errorf("column %s is not a number", columns[3+i])
		}
		nums[i] = n
	}
	s = running{host: words[at[2]], port: nums[0], weight: nums[1], maint: nums[2]&forcedMaint != 0}
	if addr, aerr := netip.ParseAddr(s.host); aerr == nil {
		s.host = addr.Unmap().String()
	}
	if fqdn := words[at[6]]; fqdn != "-" {
		s.host = fqdn
	}
	return words[at[0]], words[at[1]], s, nil
}

// forcedMaint is the bit of srv_admin_state that `set server … state maint` sets.
const forcedMaint = 1

func index(words []string, word string) int {
	for i, w := range words {
		if w == word {
			return i
		}
	}
	return -1
}
