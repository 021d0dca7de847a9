// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package outbox sends: it takes due rows of the outbox, puts them into signed batches of one message for up to a
// thousand agents, and hands them to the streams of the gateways that hold those agents.
//
// It is level-triggered. A row stays, and is sent again after a while, until its effect is seen: a configuration until
// the engine settles the grant behind it, a request for full state until the agent describes itself, a close until the
// session ends, a renewal until the gateway says what became of it (these at most store.DispatchTries times). So a message
// that is lost or doubled only delays. Bodies never travel here, only their hashes; keys and certificates not at all.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
	"gitlab.com/ampora/ampora/shared/tracing"
)

const (
	claimLimit = 2000
	// targetLimit is how many agents a message is for: a gateway takes no more.
	targetLimit = 1000
	// resendAfter is when an offer without an answer is sent again. A gateway that has written it to the agent already
	// does not do so twice in one session.
	resendAfter = 30 * time.Second
	// messageLife bounds how long a downlink may wait in a stream; the resend covers what ran out.
	messageLife = 25 * time.Second
)

// Bus is where agents are reached.
type Bus interface {
	bus.Downlinks
	bus.Registers
}

// Deps is what an Outbox needs.
type Deps struct {
	Store  store.Outbox
	Bus    Bus
	Signer *Signer
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	Now    func() time.Time
	// Bell rings when there may be something to send; nil: it looks once a second.
	Bell *run.Bell
	// Way is held while dispatches are sent; nil: nobody makes way.
	Way *run.Way
}

// Outbox sends what is due.
type Outbox struct {
	d    Deps
	sent instrument.Counter
}

// New returns an Outbox; Run does the work.
func New(d Deps) (*Outbox, error) {
	made := instrument.On(d.Meter)
	kinds := make([]string, 0, len(fleet.DispatchKinds))
	for _, kind := range fleet.DispatchKinds {
		kinds = append(kinds, string(kind))
	}
	sent := made.Counter("ampora_control_downlinks", "{target}", "Agents addressed by downlinks, by what was asked for and whether their gateway's stream took it.",
		instrument.By("kind", kinds...), instrument.By("outcome", "sent", "failed"))
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return &Outbox{d: d, sent: sent}, nil
}

// Run sends until ctx is done.
func (o *Outbox) Run(ctx context.Context) error {
	pace := run.Pace{Idle: time.Second, Failed: time.Second, Bell: o.d.Bell}
	return run.Loop(ctx, pace, o.Turn, func(err error) { o.d.Log.WarnContext(ctx, "outbox stopped for a moment", "error", err) })
}

// Turn sends what is due now and says how many dispatches that were.
func (o *Outbox) Turn(ctx context.Context) (int, error) {
	now := o.d.Now()
	due, err := o.d.Store.ClaimDispatches(ctx, now, now.Add(resendAfter), claimLimit)
	if err != nil {
		return 0, fmt.Errorf("claim dispatches: %w", err)
	}
	defer o.d.Way.Hold(len(due))()
	var sent []fleet.Dispatch
	for _, batch := range grouped(due) {
		outcome := "sent"
		if err := o.put(ctx, batch, now); err != nil {
			outcome = "failed"
			// The rows are due again after resendAfter; others must not wait for them.
			o.d.Log.WarnContext(ctx, "outbox could not reach agents over the bus", "gateway", batch[0].Gateway, "agents", len(batch), "error", err)
		} else {
			sent = append(sent, batch...)
		}
		o.sent.Add(ctx, int64(len(batch)), string(batch[0].Kind), outcome)
	}
	if len(sent) > 0 {
		if err := o.d.Store.MarkSent(ctx, sent, now); err != nil {
			return len(due), fmt.Errorf("mark sent: %w", err)
		}
	}
	return len(due), nil
}

// put puts one batch onto the bus.
func (o *Outbox) put(ctx context.Context, batch []fleet.Dispatch, now time.Time) error {
	if polls(batch[0]) {
		return o.post(ctx, batch, now)
	}
	return o.send(ctx, batch, now)
}

// send puts one batch into its gateway's stream.
func (o *Outbox) send(ctx context.Context, batch []fleet.Dispatch, now time.Time) error {
	ctx, span := o.begin(ctx, batch)
	defer span.End()
	m := message(batch, now)
	m.Traceparent = tracing.Text(ctx)
	signed, err := o.d.Signer.Sign(m)
	if err != nil {
		return err
	}
	if err := o.d.Bus.Send(ctx, identity.GatewayID(batch[0].Gateway), messageLife, signed); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// key is what the dispatches of one batch have in common.
type key struct {
	gateway fleet.GatewayID // of agents that poll: any
	polls   bool
	tenant  fleet.TenantID
	kind    fleet.DispatchKind
	offer   fleet.OfferHash
	reason  string
	trace   trace.TraceID
}

// grouped splits dispatches into batches of at most targetLimit, in the order in which their first members were due.
func grouped(due []fleet.Dispatch) [][]fleet.Dispatch {
	at := map[key]int{}
	var batches [][]fleet.Dispatch
	for _, d := range due {
		k := key{d.Gateway, polls(d), d.Tenant, d.Kind, d.Version.Offer, d.Reason, traceOf(d)}
		if k.polls {
			k.gateway = ""
		}
		i, ok := at[k]
		if !ok || len(batches[i]) == targetLimit {
			i = len(batches)
			at[k] = i
			batches = append(batches, nil)
		}
		batches[i] = append(batches[i], d)
	}
	return batches
}

// until is when a message ends that may wait until then, or earlier with what expires of it.
func until(batch []fleet.Dispatch, then time.Time) time.Time {
	for _, d := range batch {
		if !d.ExpiresAt.IsZero() && d.ExpiresAt.Before(then) {
			then = d.ExpiresAt
		}
	}
	return then
}

// message is the downlink for one batch.
func message(batch []fleet.Dispatch, now time.Time) *relayv1.Downlink {
	first := batch[0]
	m := &relayv1.Downlink{
		GatewayId: string(first.Gateway), Tenant: string(first.Tenant), Kind: kind(first.Kind), Reason: first.Reason,
		NotAfter: timestamppb.New(until(batch, now.Add(messageLife))), Targets: make([]*relayv1.Target, 0, len(batch)),
	}
	for _, d := range batch {
		m.Targets = append(m.Targets, &relayv1.Target{
			AgentId: string(d.Agent), Epoch: uint64(d.Epoch), Generation: int64(d.Generation), //nolint:gosec // epochs are never negative
		})
	}
	if first.Kind == fleet.DispatchConfig {
		m.Hash = first.Version.Offer[:]
		for _, f := range fleet.Rendered(first.Version.Hash, first.Version.Size, first.Version.Type) {
			m.Entries = append(m.Entries, &relayv1.ConfigEntry{Name: f.Name, ContentType: f.ContentType, BodyHash: f.Hash[:], Size: f.Size})
		}
	}
	return m
}

func kind(k fleet.DispatchKind) relayv1.Downlink_Kind {
	switch k {
	case fleet.DispatchConfig:
		return relayv1.Downlink_KIND_CONFIG
	case fleet.DispatchFullState:
		return relayv1.Downlink_KIND_FULL_STATE
	case fleet.DispatchClose:
		return relayv1.Downlink_KIND_CLOSE
	case fleet.DispatchRenew:
		return relayv1.Downlink_KIND_RENEW
	case fleet.DispatchRestart:
		return relayv1.Downlink_KIND_RESTART
	default:
		return relayv1.Downlink_KIND_UNSPECIFIED
	}
}
