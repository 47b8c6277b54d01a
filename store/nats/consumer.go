package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// errGap: messages were lost between the server and us.
var errGap = errors.New("messages were lost on the way")

// consumer is what the server sends of the bucket, in its order.
type consumer struct {
	link *link
	sub  *nats.Subscription
	next uint64 // number of the next message; only the receiver uses it
}

// from says where a consumer begins: at a sequence, or, with 0, with the last
// message of each subject.
type from uint64

const lastOfEach from = 0

// receiver is called for each message, one at a time, and for each heartbeat,
// with which there is no message and no later one yet. An error ends nothing:
// the receiver closes the consumer.
type receiver func(c *consumer, m *message, pending uint64, err error)

// consume starts a consumer. The server forgets it when the subscription ends.
func (l *link) consume(ctx context.Context, filters []string, begin from, beat time.Duration, receive receiver) (*consumer, error) {
	c := &consumer{link: l, next: 1}
	inbox := l.nc.NewInbox()
	var err error
	c.sub, err = l.nc.Subscribe(inbox, func(m *nats.Msg) { c.received(m, receive) })
	if err != nil {
		return nil, err
	}
	name := "listener-" + nuid.Next()
	config := jetstream.ConsumerConfig{
		Name:              name,
		DeliverSubject:    inbox,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       uint64(begin),
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		FilterSubjects:    filters,
		FlowControl:       true,
		IdleHeartbeat:     beat,
		InactiveThreshold: 10 * time.Second,
		MemoryStorage:     true,
		Replicas:          1,
	}
	if begin == lastOfEach {
		config.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	}
	if err := l.createConsumer(ctx, name, config); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (l *link) createConsumer(ctx context.Context, name string, config jetstream.ConsumerConfig) error {
	body, err := json.Marshal(map[string]any{"stream_name": l.names.stream, "config": config})
	if err != nil {
		return err
	}
	answer, err := l.request(ctx, &nats.Msg{Subject: "$JS.API.CONSUMER.CREATE." + l.names.stream + "." + name, Data: body})
	if err != nil {
		return err
	}
	var made struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &made); err != nil {
		return err
	}
	if made.Error != nil {
		return fmt.Errorf("following the bucket: %w", made.Error)
	}
	return nil
}

func (c *consumer) close() {
	_ = c.sub.Unsubscribe() // of a closed connection
}

func (c *consumer) received(m *nats.Msg, receive receiver) {
	if m.Header.Get(headerStatus) != "" {
		c.control(m, receive)
		return
	}
	meta, err := m.Metadata()
	if err != nil {
		return // not from the server
	}
	if meta.Sequence.Consumer != c.next {
		receive(c, nil, 0, errGap)
		return
	}
	c.next++
	receive(c, &message{subject: m.Subject, seq: meta.Sequence.Stream, header: m.Header, data: m.Data}, meta.NumPending, nil)
}

// control answers flow control and takes heartbeats.
func (c *consumer) control(m *nats.Msg, receive receiver) {
	if s := m.Header.Get(headerStatus); s != "100" {
		receive(c, nil, 0, fmt.Errorf("the server ended the watch: %s %s", s, m.Header.Get("Description")))
		return
	}
	if m.Reply != "" {
		_ = m.Respond(nil) // a link that broke is noticed elsewhere
		return
	}
	if stalled := m.Header.Get(headerStalled); stalled != "" {
		_ = c.link.nc.Publish(stalled, nil)
	}
	if last := m.Header.Get(headerLastConsumer); last != "" && number(last) != c.next-1 {
		receive(c, nil, 0, errGap)
		return
	}
	receive(c, nil, 0, nil)
}
