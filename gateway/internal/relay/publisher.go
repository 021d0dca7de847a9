// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// Bounds of the uplink queue.
const (
	queueMessages = 16384
	queueBytes    = 64 << 20
	batchMessages = 256
	batchBytes    = 4 << 20
)

// counterRoom is what the counter adds to a message when it is sent: a tag and a varint.
const counterRoom = 11

// The ways in which a report is not accepted.
var (
	// ErrShed: the queue is full. The session is in doubt now.
	ErrShed = errors.New("the uplink queue is full")
	// ErrTooLarge: the message does not fit the bus even without its bodies.
	ErrTooLarge = errors.New("the message is too large for the bus")
	// ErrEnded: the session's end was told already. A report behind it would bring the
	// agent back.
	ErrEnded = errors.New("the session has ended")
)

// Publisher sends uplinks. Reports and deliveries may be refused when its queue is full;
// ends of sessions may not, as there are only so many of them.
type Publisher struct {
	origin Origin
	bus    bus.Uplinks
	log    *slog.Logger
	clock  func() time.Time

	mu     sync.Mutex
	queue  []uplink
	bytes  int
	arrive chan struct{}

	counters [bus.Partitions]uint64 // of Run alone

	uplinks instrument.Counter
}

type uplink struct {
	partition int
	payload   []byte
}

// NewPublisher makes a publisher and its instruments on the meter.
func NewPublisher(origin Origin, uplinks bus.Uplinks, log *slog.Logger, meter metric.Meter, clock func() time.Time) (*Publisher, error) {
	p := &Publisher{origin: origin, bus: uplinks, log: log, clock: clock, arrive: make(chan struct{}, 1)}
	made := instrument.On(meter)
	p.uplinks = made.Counter("ampora_gateway_uplinks", "{message}", "Messages for the control plane, by what they tell and whether they were taken into the queue.",
		instrument.By("kind", "report", "ended", "delivery"), instrument.By("outcome", "queued", "shed", "too_large", "ended"))
	made.Gauge("ampora_gateway_uplink_queue", "{message}", "Messages that wait to be published on the bus.",
		func(observe instrument.Observe) { observe(float64(p.Waiting())) })
	made.Gauge("ampora_gateway_uplink_queue_size", "By", "Bytes that wait to be published on the bus.",
		func(observe instrument.Observe) { observe(float64(p.waitingBytes())) })
	return p, made.Err()
}

// Report queues an agent's message, to be recorded in the trace of ctx. The error is
// [ErrShed], [ErrTooLarge] or [ErrEnded].
func (p *Publisher) Report(ctx context.Context, s *session.Session, report *relayv1.Report) error {
	message := p.envelope(s)
	message.Traceparent = tracing.Text(ctx)
	message.Event = &relayv1.Uplink_Report{Report: report}
	return p.enqueue(s, message, true)
}

// Ended queues the end of a session.
func (p *Publisher) Ended(s *session.Session, reason session.EndReason) {
	message := p.envelope(s)
	sequence, inDoubt := s.Left()
	message.Event = &relayv1.Uplink_Ended{Ended: &relayv1.SessionEnded{
		Reason: string(reason), LastSeenAt: timestamppb.New(s.LastSeen()), LastSequence: sequence, InDoubt: inDoubt,
	}}
	_ = p.enqueue(s, message, false)
}

// Delivery queues what became of an offer, under the epoch it was made for. When the
// queue is full it is dropped: the control plane repeats the offer, and is told again.
func (p *Publisher) Delivery(s *session.Session, offer *session.ConfigOffer, outcome relayv1.Delivery_Outcome) {
	message := p.envelope(s)
	message.Epoch, message.Traceparent = offer.Epoch, offer.Trace
	message.Event = &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{
		Outcome: outcome, Kind: relayv1.Downlink_KIND_CONFIG, Hash: offer.Hash, Generation: offer.Generation,
	}}
	_ = p.enqueue(s, message, true)
}

// Waiting is the number of messages not yet published.
func (p *Publisher) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

func (p *Publisher) waitingBytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// Full says that a report would be refused.
func (p *Publisher) Full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full()
}

func (p *Publisher) full() bool { return len(p.queue) >= queueMessages || p.bytes >= queueBytes }

func (p *Publisher) envelope(s *session.Session) *relayv1.Uplink {
	return &relayv1.Uplink{
		GatewayId: string(p.origin.Gateway), BootId: p.origin.BootID,
		Tenant: string(s.Key.Tenant), AgentId: string(s.Key.Agent), InstanceUid: s.UID[:],
		Epoch: s.Epoch(), ReceivedAt: timestamppb.New(p.clock()),
	}
}

// enqueue queues an envelope, or refuses one that can be shed, and counts what it did.
func (p *Publisher) enqueue(s *session.Session, message *relayv1.Uplink, sheds bool) error {
	err := p.take(s, message, sheds)
	p.uplinks.Add(context.Background(), 1, kindOf(message), outcomes[err])
	return err
}

// outcomes are what became of a message, by why it was refused.
var outcomes = map[error]string{nil: "queued", ErrShed: "shed", ErrTooLarge: "too_large", ErrEnded: "ended"}

func kindOf(message *relayv1.Uplink) string {
	switch message.GetEvent().(type) {
	case *relayv1.Uplink_Report:
		return "report"
	case *relayv1.Uplink_Ended:
		return "ended"
	default:
		return "delivery"
	}
}

// take puts an envelope into the queue.
func (p *Publisher) take(s *session.Session, message *relayv1.Uplink, sheds bool) error {
	payload, err := proto.Marshal(message)
	if err != nil || len(payload)+counterRoom > bus.MaxPayload {
		return ErrTooLarge
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case sheds && p.full():
		return ErrShed
	case message.GetReport() != nil && s.Ended(): // asked in the turn of whoever tells the end
		return ErrEnded
	}
	p.queue = append(p.queue, uplink{partition: bus.PartitionOf(s.Key.Agent), payload: payload})
	p.bytes += len(payload)
	select {
	case p.arrive <- struct{}{}:
	default:
	}
	return nil
}

// FlushTime is how long the publisher goes on after its context has ended.
const FlushTime = 5 * time.Second

// Run publishes until the context ends, and then whatever still waits, for at most
// [FlushTime]: the last messages of a gateway are the ends of its sessions.
func (p *Publisher) Run(ctx context.Context) error {
	flush, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(FlushTime, cancel) })()
	for {
		batch := p.next()
		if len(batch) > 0 {
			if !p.publish(flush, batch) {
				return nil
			}
			continue
		}
		select {
		case <-p.arrive:
		case <-ctx.Done():
			if p.Waiting() == 0 {
				return nil
			}
		}
	}
}

// next removes the next batch from the queue and numbers it.
func (p *Publisher) next() []bus.Outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	var batch []bus.Outgoing
	size := 0
	for len(batch) < min(len(p.queue), batchMessages) && size < batchBytes {
		next := p.queue[len(batch)]
		size += len(next.payload)
		batch = append(batch, bus.Outgoing{Partition: next.partition, Payload: p.number(next)})
	}
	p.bytes -= size
	clear(p.queue[:len(batch)])
	if p.queue = p.queue[len(batch):]; len(p.queue) == 0 {
		p.queue = nil
	}
	return batch
}

// number appends the counter to a serialised envelope. Fields may come in any order,
// so nothing is serialised twice.
func (p *Publisher) number(next uplink) []byte {
	p.counters[next.partition]++
	payload := protowire.AppendTag(next.payload, counterField, protowire.VarintType)
	return protowire.AppendVarint(payload, p.counters[next.partition])
}

const counterField = 3 // relay.v1.Uplink.counter

// publish sends a batch until the bus has taken it; false means that the time is up.
// What a failed call left unsaid is repeated message by message: a bus that is nearly
// full takes the first of a batch each time and would otherwise fill with copies. The
// numbers stay, so a repetition is no loss, and the control plane knows a copy by its
// number. Meanwhile the queue fills, and reports are shed where they come in.
func (p *Publisher) publish(ctx context.Context, batch []bus.Outgoing) bool {
	err := p.bus.Publish(ctx, batch...)
	if err == nil {
		return true
	}
	p.log.WarnContext(ctx, "the bus does not take uplinks", "error", err, "messages", len(batch))
	for _, message := range batch {
		if !p.insist(ctx, message) {
			return false
		}
	}
	return true
}

// insist repeats one message until the bus takes it.
func (p *Publisher) insist(ctx context.Context, message bus.Outgoing) bool {
	for pause := 20 * time.Millisecond; p.bus.Publish(ctx, message) != nil; pause = min(2*pause, 2*time.Second) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause + rand.N(pause)):
		}
	}
	return true
}
