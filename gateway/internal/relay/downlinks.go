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
	Clock     func() time.Time
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
		DownlinksConfig: c,
		posted: made.Counter("ampora_gateway_downlinks", "{target}", "Targets of downlinks that were passed on to sessions, by what was asked for.",
			instrument.By("kind", "config", "full_state", "close")),
		refused: made.Counter("ampora_gateway_downlinks_refused", "{refusal}", "Downlinks, or targets of downlinks, that were not passed on, by why.",
			instrument.By("reason", refusals...)),
	}, made.Err()
}

// kindNames are the values of the label kind.
var kindNames = map[relayv1.Downlink_Kind]string{
	relayv1.Downlink_KIND_CONFIG: "config", relayv1.Downlink_KIND_FULL_STATE: "full_state", relayv1.Downlink_KIND_CLOSE: "close",
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
	errForm.Error(), errKey.Error(), errSignature.Error(), errGateway.Error(), errExpired.Error(), errKind.Error(),
	noSession, otherEpoch, outdated,
}

func (d *Downlinks) handle(ctx context.Context, payload []byte) {
	downlink, err := d.verified(payload)
	if err != nil {
		d.refuse(ctx, err.Error())
		d.Log.WarnContext(ctx, "a downlink was refused", "reason", err)
		return
	}
	ctx, span := tracing.Continue(ctx, d.Tracer, downlink.GetTraceparent(), "gateway downlink",
		trace.WithSpanKind(trace.SpanKindConsumer), tracing.Processing(tracing.Downlinks),
		trace.WithAttributes(tracing.Tenant(downlink.GetTenant()), tracing.Messages(len(downlink.GetTargets()))))
	defer span.End()
	switch downlink.GetKind() {
	case relayv1.Downlink_KIND_CONFIG:
		d.config(ctx, downlink)
	case relayv1.Downlink_KIND_FULL_STATE:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting { return s.PostFullState(to) })
	case relayv1.Downlink_KIND_CLOSE:
		d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting { return s.PostClose(to) })
	default:
		d.refuse(ctx, errKind.Error())
	}
}

// verified opens the signed envelope. The error is one of those above.
func (d *Downlinks) verified(payload []byte) (*relayv1.Downlink, error) {
	var signed relayv1.SignedDownlink
	if err := proto.Unmarshal(payload, &signed); err != nil {
		return nil, errForm
	}
	keys, err := d.Keys()
	key := keys[signed.GetKeyId()]
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errKey
	}
	if !downlink.Verify(key, signed.GetDownlink(), signed.GetSignature()) {
		return nil, errSignature
	}
	var asked relayv1.Downlink
	if err := proto.Unmarshal(signed.GetDownlink(), &asked); err != nil || len(asked.GetTargets()) > downlinkTargets {
		return nil, errForm
	}
	switch {
	case asked.GetGatewayId() != string(d.Origin.Gateway):
		return nil, errGateway
	case !asked.GetNotAfter().AsTime().After(d.Clock()):
		return nil, errExpired
	}
	return &asked, nil
}

// config posts one offer to all targets: it is rendered once.
func (d *Downlinks) config(ctx context.Context, downlink *relayv1.Downlink) {
	came := d.Clock()
	wire, err := d.render(ctx, downlink)
	if err != nil {
		d.Log.WarnContext(ctx, "a configuration could not be fetched", "tenant", downlink.GetTenant(), "error", err)
	}
	d.each(ctx, downlink, func(s *session.Session, to session.Address) session.Posting {
		offer := &session.ConfigOffer{
			Hash: downlink.GetHash(), Generation: to.Generation, Epoch: to.Epoch, Wire: wire, Trace: tracing.Text(ctx), At: came,
		}
		if err != nil {
			if s.Epoch() == to.Epoch {
				d.Publisher.Delivery(s, offer, relayv1.Delivery_OUTCOME_BODY_UNAVAILABLE)
			}
			return session.Posted
		}
		posting := s.PostConfig(to, offer)
		if posting == session.AlreadySent {
			d.Publisher.Delivery(s, offer, relayv1.Delivery_OUTCOME_DELIVERED) // the first report was lost, or it would not be asked again
		}
		return posting
	})
}

func (d *Downlinks) render(ctx context.Context, downlink *relayv1.Downlink) ([]byte, error) {
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
		switch post(s, session.Address{Kind: downlink.GetKind().String(), Epoch: target.GetEpoch(), Generation: target.GetGeneration()}) {
		case session.OtherEpoch:
			d.refuse(ctx, otherEpoch)
		case session.Outdated:
			d.refuse(ctx, outdated)
		case session.Posted, session.AlreadySent:
			d.posted.Add(ctx, 1, kindNames[downlink.GetKind()])
		}
	}
}

func (d *Downlinks) refuse(ctx context.Context, reason string) {
	d.refused.Add(ctx, 1, reason)
}
