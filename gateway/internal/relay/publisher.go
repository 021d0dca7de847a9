// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/tracing"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Bounds of what waits for the bus: of all partitions together, and of one, so that a
// partition that nobody reads leaves room for the others.
const (
	queueMessages = 16384
	queueBytes    = 64 << 20
	laneMessages  = 2048
	laneBytes     = 8 << 20
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

// Publisher sends uplinks. Each partition has a lane of its own: one that the bus does
// not take waits and keeps its order while the others go on. Reports and deliveries may
// be refused when there is no room; ends of sessions may not, as there are only so many
// of them.
type Publisher struct {
	origin Origin
	bus    bus.Uplinks
	log    *slog.Logger
	told   *Registration

	mu      sync.Mutex
	lanes   [bus.Partitions]lane
	waiting int // messages in all lanes that the bus does not have yet
	bytes   int
	since   time.Time // of calls without an answer since the last one
	arrive  chan struct{}

	uplinks instrument.Counter

	// Of Run alone.
	sealer *uplink.Sealer
	first  int // the lane that the next batch begins with
	rest   backoff
}

// NewPublisher makes a publisher and its instruments on the meter. Nothing is published
// before the registration has the key.
func NewPublisher(origin Origin, uplinks bus.Uplinks, told *Registration, log *slog.Logger, meter metric.Meter) (*Publisher, error) {
	p := &Publisher{origin: origin, bus: uplinks, told: told, log: log, arrive: make(chan struct{}, 1)}
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
		Reason: string(reason), LastSeenAt: timestamppb.New(p.told.There(s.LastSeen())), LastSequence: sequence, InDoubt: inDoubt,
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

// Renewal queues what became of an offer of a certificate, as Delivery does.
func (p *Publisher) Renewal(s *session.Session, epoch uint64, number int64, hash []byte, outcome relayv1.Delivery_Outcome) {
	message := p.envelope(s)
	message.Epoch = epoch
	message.Event = &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{
		Outcome: outcome, Kind: relayv1.Downlink_KIND_RENEW, Hash: hash, Generation: number,
	}}
	_ = p.enqueue(s, message, true)
}

// Restart queues what became of a restart command, under the epoch it was made for.
func (p *Publisher) Restart(s *session.Session, command *session.RestartCommand, outcome relayv1.Delivery_Outcome) {
	message := p.envelope(s)
	message.Epoch = command.Epoch
	message.Event = &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{
		Outcome: outcome, Kind: relayv1.Downlink_KIND_RESTART, Generation: command.Generation,
	}}
	_ = p.enqueue(s, message, true)
}

// Waiting is the number of messages not yet published.
func (p *Publisher) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

func (p *Publisher) waitingBytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// Full says that a report of any agent would be refused.
func (p *Publisher) Full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full()
}

func (p *Publisher) full() bool { return p.waiting >= queueMessages || p.bytes >= queueBytes }

// lostAfter is how long the bus may fail to answer before it counts as lost.
const lostAfter = 5 * time.Second

// Lost says that the bus does not take what agents say: it has not answered for 5 s, or
// there is no room left for what it would have to take first. A partition that is full
// is an answer.
func (p *Publisher) Lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full() || !p.since.IsZero() && time.Since(p.since) > lostAfter
}

// Accepted is how many messages were queued for a partition so far.
func (p *Publisher) Accepted(partition int) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes[partition].accepted
}

// Published says whether the bus has the first n messages queued for a partition.
func (p *Publisher) Published(partition int, n uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lanes[partition].published >= n
}

func (p *Publisher) envelope(s *session.Session) *relayv1.Uplink {
	return &relayv1.Uplink{
		GatewayId: string(p.origin.Gateway), BootId: p.origin.BootID,
		Tenant: string(s.Key.Tenant), AgentId: string(s.Key.Agent), InstanceUid: s.UID[:],
		Epoch: s.Epoch(), ReceivedAt: timestamppb.New(p.told.Now()),
	}
}

// enqueue queues an envelope, or refuses one that can be shed, and counts what it did.
func (p *Publisher) enqueue(s *session.Session, envelope *relayv1.Uplink, sheds bool) error {
	err := p.take(s, envelope, sheds)
	p.uplinks.Add(context.Background(), 1, kindOf(envelope), outcomes[err])
	return err
}

// outcomes are what became of a message, by why it was refused.
var outcomes = map[error]string{nil: "queued", ErrShed: "shed", ErrTooLarge: "too_large", ErrEnded: "ended"}

func kindOf(envelope *relayv1.Uplink) string {
	switch envelope.GetEvent().(type) {
	case *relayv1.Uplink_Report:
		return "report"
	case *relayv1.Uplink_Ended:
		return "ended"
	default:
		return "delivery"
	}
}

// take puts an envelope into the lane of its partition.
func (p *Publisher) take(s *session.Session, envelope *relayv1.Uplink, sheds bool) error {
	payload, err := proto.Marshal(envelope)
	if err != nil || len(payload)+counterRoom+sealRoom > bus.MaxPayload {
		return ErrTooLarge
	}
	lane := &p.lanes[bus.PartitionOf(s.Key.Agent)]
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case sheds && (p.full() || lane.full()):
		return ErrShed
	case envelope.GetReport() != nil && s.Ended(): // asked in the turn of whoever tells the end
		return ErrEnded
	}
	lane.add(message{payload, len(payload)})
	p.waiting++
	p.bytes += len(payload)
	select {
	case p.arrive <- struct{}{}:
	default:
	}
	return nil
}
