package nats_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The replica that leads says less than another one has told, as one that was
// stopped for a moment does: the bucket was not set back.
func TestLeaderBehind(t *testing.T) {
	t.Parallel()
	p := startReplica(t)
	p.holds(10)
	o := options("nats://" + p.listener.Addr().String())
	o.CheckEvery = 10 * time.Millisecond
	f := follow(t, openStore(t, o), "/t/")
	f.has("/t/a", "10")

	p.brings(t, 12) // from another replica
	f.has("/t/a", "12")
	p.asked(t, 5)
	p.holds(12)
	p.asked(t, 5)
	p.brings(t, 13)
	f.has("/t/a", "13")
	if f.resets != 1 {
		t.Errorf("%d Resets while the link held, lost: %v", f.resets, f.lost)
	}

	p.holds(10)
	p.cut()
	f.until("Lost", func() bool { return f.lost != nil })
	p.asked(t, 5)
	p.holds(13)
	f.until("a Reset", func() bool { return f.lost == nil })
	if f.others != 0 || f.rev != 13 || f.values()["/t/a"] != "13" {
		t.Errorf("after a new link at revision %d: %v, of another history: %d", f.rev, f.values(), f.others)
	}

	p.holds(11) // and stays there
	f.until("a Reset", func() bool { return f.resets == 3 })
	if f.others != 1 || f.values()["/t/a"] != "11" {
		t.Errorf("after it was set back: %v, of another history: %d", f.values(), f.others)
	}
}

// replica speaks as much of the protocol of a server as a store with one watch
// needs, and plays a bucket of three replicas with the key /t/a.
type replica struct {
	listener net.Listener
	created  time.Time

	mu      sync.Mutex // guards following
	conn    net.Conn
	subs    map[string]string // sid by subject
	deliver string            // where the consumer brings to
	brought int               // by the consumer
	last    int               // the sequence of the bucket and of /t/a
	infos   int               // how often it was asked for
}

func startReplica(t *testing.T) *replica {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	p := &replica{listener: l, created: time.Now()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(c)
		}
	}()
	return p
}

func (p *replica) holds(last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = last
}

func (p *replica) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.Close()
}

// asked waits until the bucket was asked for n times more.
func (p *replica) asked(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.infos
	}
	least := count() + n
	eventually(t, "the bucket is asked for", func() error {
		if count() < least {
			return errors.New("not yet")
		}
		return nil
	})
}

// brings makes the consumer bring /t/a.
func (p *replica) brings(t *testing.T, seq int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.brought++
	reply := fmt.Sprintf("$JS.ACK.KV_listener.c.1.%d.%d.%d.0", seq, p.brought, time.Now().UnixNano())
	text := strconv.Itoa(seq)
	_, err := fmt.Fprintf(p.conn, "MSG $KV.listener.t.a %s %s %d\r\n%s\r\n", p.subs[p.deliver], reply, len(text), text)
	must(t, err)
}

// serve handles one connection.
func (p *replica) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	p.conn, p.subs = c, make(map[string]string)
	fmt.Fprint(c, `INFO {"server_id":"X","version":"2.15.2","proto":1,"headers":true,"jetstream":true,"max_payload":1048576}`+"\r\n")
	p.mu.Unlock()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		p.mu.Lock()
		switch words[0] {
		case "PING":
			fmt.Fprint(c, "PONG\r\n")
		case "SUB":
			p.subs[words[1]] = words[len(words)-1]
		case "PUB":
			size, _ := strconv.Atoi(words[len(words)-1])
			body := make([]byte, size+2)
			if _, err = io.ReadFull(in, body); err == nil && len(words) == 4 {
				p.answer(words[1], words[2], body[:size])
			}
		}
		p.mu.Unlock()
	}
}

// answer is called with the lock held.
func (p *replica) answer(subject, reply string, body []byte) {
	switch {
	case strings.HasPrefix(subject, "$JS.API.STREAM.INFO."):
		p.infos++
		info, _ := json.Marshal(jetstream.StreamInfo{ // of plain fields
			Config: jetstream.StreamConfig{
				Name: "KV_listener", Subjects: []string{"$KV.listener.>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, Replicas: 3,
				AllowRollup: true, AllowDirect: true, AllowMsgTTL: true, SubjectDeleteMarkerTTL: time.Hour, AllowAtomicPublish: true,
			},
			Created: p.created,
			State:   jetstream.StreamState{FirstSeq: 1, LastSeq: uint64(p.last)},
		})
		p.send(reply, "", string(info))
	case strings.HasPrefix(subject, "$JS.API.CONSUMER.CREATE."):
		var made struct{ Config jetstream.ConsumerConfig }
		_ = json.Unmarshal(body, &made) // what the client wrote
		p.deliver, p.brought = made.Config.DeliverSubject, 0
		p.send(reply, "", "{}")
	case strings.HasPrefix(subject, "$JS.API.DIRECT.GET."):
		p.send(reply, "NATS/1.0\r\nNats-Subject: $KV.listener.=meta\r\nNats-Sequence: 1\r\n\r\n", "")
		if strings.Contains(string(body), "$KV.listener.t.") {
			p.send(reply, fmt.Sprintf("NATS/1.0\r\nNats-Subject: $KV.listener.t.a\r\nNats-Sequence: %d\r\n\r\n", p.last), strconv.Itoa(p.last))
		}
		p.send(reply, fmt.Sprintf("NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-UpTo-Sequence: %d\r\n\r\n", p.last), "")
	}
}

// send writes to the subscription that takes in a reply subject.
func (p *replica) send(subject, header, body string) {
	sid := p.subs[subject]
	if sid == "" {
		sid = p.subs[subject[:strings.LastIndexByte(subject, '.')+1]+"*"]
	}
	if header == "" {
		fmt.Fprintf(p.conn, "MSG %s %s %d\r\n%s\r\n", subject, sid, len(body), body)
		return
	}
	fmt.Fprintf(p.conn, "HMSG %s %s %d %d\r\n%s%s\r\n", subject, sid, len(header), len(header)+len(body), header, body)
}
