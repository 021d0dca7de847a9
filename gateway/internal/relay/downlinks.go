// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/downlink"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// Bounds of the downlink consumer.
const (
	downlinkBatch    = 64
	downlinkTargets  = 1000
	downlinkParallel = 8
)

// Entry is one entry of a remote configuration with its body.
type Entry struct {
	Name        string
	ContentType string
	Body        []byte
}

// Downlinks receives what the control plane asks of this gateway and posts it to
// sessions.
type Downlinks struct {
	DownlinksConfig
	posted  instrument.Counter
	refused instrument.Counter
	replays *replays
}

// DownlinksConfig is what [Downlinks] needs.
type DownlinksConfig struct {
	Origin    Origin
	Bus       bus.Downlinks
	Registry  *session.Registry
	Bodies    *Bodies
	Publisher *Publisher
	Log       *slog.Logger
	Tracer    trace.Tracer
	// Clock is this host's, for sessions; deadlines are by the clock of Registration.
	Clock        func() time.Time
	Registration *Registration
	// Keys are the keys that may sign downlinks now, by key id; an error means that
	// nobody can tell.
	Keys func() (map[string]ed25519.PublicKey, error)
	// Render makes the offer of a configuration as agents receive it.
	Render func(hash []byte, entries []Entry) ([]byte, error)
}

// NewDownlinks makes the consumer and its instruments on the meter.
func NewDownlinks(c DownlinksConfig, meter metric.Meter) (*Downlinks, error) {
	made := instrument.On(meter)
	return &Downlinks{
		DownlinksConfig: c, replays: newReplays(),
		posted: made.Counter("ampora_gateway_downlinks", "{target}", "Targets of downlinks that were passed on to sessions, by what was asked for.",
			instrument.By("kind", "config", "full_state", "close", "ping", "renew", "restart")),
		refused: made.Counter("ampora_gateway_downlinks_refused", "{refusal}", "Downlinks, or targets of downlinks, that were not passed on, by why.",
			instrument.By("reason", refusals...)),
	}, made.Err()
}

// kindNames are the values of the label kind.
var kindNames = map[relayv1.Downlink_Kind]string{
	relayv1.Downlink_KIND_CONFIG: "config", relayv1.Downlink_KIND_FULL_STATE: "full_state", relayv1.Downlink_KIND_CLOSE: "close",
	relayv1.Downlink_KIND_PING: "ping", relayv1.Downlink_KIND_RENEW: "renew",
	relayv1.Downlink_KIND_RESTART: "restart",
}

// Run receives until the context ends, and returns when everything received is posted.
// A loss on the bus needs nothing from here: the control plane repeats what is not
// reported as delivered.
func (d *Downlinks) Run(ctx context.Context) error {
	var posting sync.WaitGroup
	defer posting.Wait()
	slots := make(chan struct{}, downlinkParallel)
	var after bus.Position
	for ctx.Err() == nil {
		batch, err := d.Bus.Receive(ctx, d.Origin.Gateway, after, downlinkBatch)
		if err != nil {
			d.pause(ctx, err)
			continue
		}
		after = batch.Next
		for _, message := range batch.Messages {
			slots <- struct{}{}
			posting.Go(func() {
				defer func() { <-slots }()
				d.handle(ctx, message.Payload)
			})
		}
	}
	return nil
}

func (d *Downlinks) pause(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	d.Log.WarnContext(ctx, "the bus gives no downlinks", "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(200*time.Millisecond + rand.N(time.Second)):
	}
}

// The reasons of a refusal that concern a whole downlink.
var (
	errForm      = errors.New("malformed")
	errKey       = errors.New("unknown_key")
	errSignature = errors.New("bad_signature")
	errGateway   = errors.New("other_gateway")
	errExpired   = errors.New("expired")
	errReplayed  = errors.New("replayed")
	errKind      = errors.New("unknown_kind")
)

// The reasons that concern one target.
const (
	noSession  = "no_session"
	otherEpoch = "other_epoch"
	outdated   = "outdated_generation"
)

// refusals are the values of the label reason.
var refusals = []string{
	errForm.Error(), errKey.Error(), errSignature.Error(), errGateway.Error(), errExpired.Error(), errReplayed.Error(), errKind.Error(),
	errAddress.Error(), noSession, otherEpoch, outdated,
}

func (d *Downlinks) handle(ctx context.Context, payload []byte) {
	downlink, err := d.verified(payload)
	if err != nil {
		d.refuseWhole(ctx, err)
		return
	}
	ctx, span := d.begin(ctx, downlink)
	defer span.End()
	switch downlink.GetKind() {
	case relayv1.Downlink_KIND_CONFIG:
		d.config(ctx, downlink)
	case relayv1.Downlink_KIND_FULL_STATE:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting { return s.PostFullState(to) })
	case relayv1.Downlink_KIND_CLOSE:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting {
			return s.PostClose(to, closing(downlink))
		})
	case relayv1.Downlink_KIND_RENEW:
		d.each(ctx, downlink, d.renew)
	case relayv1.Downlink_KIND_RESTART:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting {
			return s.PostRestart(to, d.until(downlink))
		})
	case relayv1.Downlink_KIND_PING:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting { return s.PostPing(to) })
	default:
		d.refuse(ctx, errKind.Error())
	}
}

// renew lets an agent be offered a certificate. If it was already, the first report of that was lost, or it would not be
// asked again.
func (d *Downlinks) renew(s *session.Session, to session.Address) session.Posting {
	posting, written := s.PostRenew(to)
	if posting == session.AlreadySent && written != nil {
		d.Publisher.Renewal(s, to.Epoch, to.Generation, written, relayv1.Delivery_OUTCOME_DELIVERED)
	}
	return posting
}

// until is the end of a downlink's time by the clock of sessions.
func (d *Downlinks) until(downlink *relayv1.Downlink) time.Time {
	return d.Clock().Add(downlink.GetNotAfter().AsTime().Sub(d.Registration.Now()))
}

// closing is why a downlink ends sessions: a certificate that is not trusted any more ends whatever its connection carries;
// whose session is drained may come back at once, and elsewhere.
func closing(downlink *relayv1.Downlink) session.EndReason {
	if reason := session.EndReason(downlink.GetReason()); reason.Distrust() || reason == session.Drained {
		return reason
	}
	return session.Requested
}

// begin begins to do what a downlink asks, in its trace.
func (d *Downlinks) begin(ctx context.Context, downlink *relayv1.Downlink) (context.Context, trace.Span) {
	return tracing.Continue(ctx, d.Tracer, downlink.GetTraceparent(), "gateway downlink",
		trace.WithSpanKind(trace.SpanKindConsumer), tracing.Processing(tracing.Downlinks),
		trace.WithAttributes(tracing.Tenant(downlink.GetTenant()), tracing.Messages(len(downlink.GetTargets()))))
}

// verified opens the signed envelope of a downlink for this gateway, once. The error is
// one of those above.
func (d *Downlinks) verified(payload []byte) (*relayv1.Downlink, error) {
	asked, signed, err := d.open(payload)
	switch {
	case err != nil:
		return nil, err
	case asked.GetGatewayId() != string(d.Origin.Gateway):
		return nil, errGateway
	case !d.first(asked, signed):
		return nil, errReplayed
	}
	return asked, nil
}

// open opens a signed envelope and returns the signed bytes as well: whose signature
// they bear, and that their time has not passed.
func (d *Downlinks) open(payload []byte) (asked *relayv1.Downlink, body []byte, err error) {
	var signed relayv1.SignedDownlink
	if err := proto.Unmarshal(payload, &signed); err != nil {
		return nil, nil, errForm
	}
	keys, err := d.Keys()
	key := keys[signed.GetKeyId()]
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, nil, errKey
	}
	if !downlink.Verify(key, signed.GetDownlink(), signed.GetSignature()) {
		return nil, nil, errSignature
	}
	asked = new(relayv1.Downlink)
	if err := proto.Unmarshal(signed.GetDownlink(), asked); err != nil || len(asked.GetTargets()) > downlinkTargets {
		return nil, nil, errForm
	}
	if !asked.GetNotAfter().AsTime().After(d.Registration.Now()) {
		return nil, nil, errExpired
	}
	return asked, signed.GetDownlink(), nil
}

func (d *Downlinks) first(asked *relayv1.Downlink, signed []byte) bool {
	return d.replays.take(signed, asked.GetNotAfter().AsTime(), d.Registration.Now())
}

// config posts one offer to all targets: it is rendered once, if anybody is to get it.
func (d *Downlinks) config(ctx context.Context, downlink *relayv1.Downlink) {
	came := d.Clock()
	render := sync.OnceValues(func() ([]byte, error) { return d.render(ctx, downlink) })
	d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting {
		offer := &session.ConfigOffer{Hash: downlink.GetHash(), Generation: to.Generation, Epoch: to.Epoch, Trace: tracing.Text(ctx), At: came}
		posting := s.Expects(to, offer)
		if posting == session.Posted {
			var err error
			if offer.Wire, err = render(); err != nil {
				d.Publisher.Delivery(s, offer, relayv1.Delivery_OUTCOME_BODY_UNAVAILABLE)
				return session.Posted
			}
			posting = s.PostConfig(to, offer)
		}
		if posting == session.AlreadySent {
			s.Offered(offer)
			d.Publisher.Delivery(s, offer, relayv1.Delivery_OUTCOME_DELIVERED) // the first report was lost, or it would not be asked again
		}
		return posting
	})
}

func (d *Downlinks) render(ctx context.Context, downlink *relayv1.Downlink) ([]byte, error) {
	wire, err := d.fetch(ctx, downlink)
	if err != nil {
		d.Log.WarnContext(ctx, "a configuration could not be fetched", "tenant", downlink.GetTenant(), "error", err)
	}
	return wire, err
}

func (d *Downlinks) fetch(ctx context.Context, downlink *relayv1.Downlink) ([]byte, error) {
	entries := make([]Entry, 0, len(downlink.GetEntries()))
	for _, entry := range downlink.GetEntries() {
		if len(entry.GetBodyHash()) != len(Hash{}) {
			return nil, errWrongBody
		}
		body, err := d.Bodies.Fetch(ctx, identity.TenantID(downlink.GetTenant()), Hash(entry.GetBodyHash()))
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Name: entry.GetName(), ContentType: entry.GetContentType(), Body: body})
	}
	return d.Render(downlink.GetHash(), entries)
}

// each posts to the sessions of the targets and counts those that it does not fit.
func (d *Downlinks) each(ctx context.Context, downlink *relayv1.Downlink, post func(*session.Session, session.Address) session.Posting) {
	for _, target := range downlink.GetTargets() {
		s := d.Registry.Get(session.Key{Tenant: identity.TenantID(downlink.GetTenant()), Agent: identity.AgentID(target.GetAgentId())})
		if s == nil {
			d.refuse(ctx, noSession)
			continue
		}
		d.count(ctx, downlink.GetKind(), post(s, address(downlink, target)))
	}
}

func address(downlink *relayv1.Downlink, target *relayv1.Target) session.Address {
	return session.Address{Kind: downlink.GetKind().String(), Epoch: target.GetEpoch(), Generation: target.GetGeneration()}
}

func (d *Downlinks) count(ctx context.Context, kind relayv1.Downlink_Kind, posting session.Posting) {
	switch posting {
	case session.OtherEpoch:
		d.refuse(ctx, otherEpoch)
	case session.Outdated:
		d.refuse(ctx, outdated)
	case session.Posted, session.AlreadySent:
		d.posted.Add(ctx, 1, kindNames[kind])
	}
}

func (d *Downlinks) refuse(ctx context.Context, reason string) {
	d.refused.Add(ctx, 1, reason)
}

func (d *Downlinks) refuseWhole(ctx context.Context, reason error) {
	d.refuse(ctx, reason.Error())
	d.Log.WarnContext(ctx, "a downlink was refused", "reason", reason)
}
