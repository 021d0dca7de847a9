// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Bodies opens content-addressed bodies. A missing one is store.ErrNotFound.
type Bodies interface {
	Get(ctx context.Context, tenant fleet.TenantID, hash fleet.ContentHash) ([]byte, error)
}

// decode turns messages into uplinks and notes the holes between them. What cannot be read, or was not sealed by whom it
// names, is counted and dropped: it would not become better by waiting. What needs a database that is away is an error:
// the batch is read again.
func (r *reader) decode(ctx context.Context, messages []bus.Message) ([]fleet.Uplink, error) {
	uplinks := make([]fleet.Uplink, 0, len(messages))
	for _, m := range messages {
		u, err := r.read(ctx, m.Payload)
		switch {
		case err == nil:
			uplinks = append(uplinks, u)
		case retryable(err) || ctx.Err() != nil:
			return nil, fmt.Errorf("decode: %w", err)
		default:
			outcome := "malformed"
			if errors.Is(err, errForged) {
				outcome = "forged"
			}
			r.log.WarnContext(ctx, "inbox dropped an uplink", "outcome", outcome, "error", err)
			r.in.metrics.uplinks.Add(ctx, 1, outcome)
		}
	}
	return uplinks, nil
}

// errForged: the seal is not that of the gateway process that the message names.
var errForged = errors.New("the seal is not the gateway's")

// read opens one message. Nothing of one that is not sealed by its gateway counts, its number neither.
func (r *reader) read(ctx context.Context, payload []byte) (fleet.Uplink, error) {
	var sealed relayv1.Sealed
	if err := proto.Unmarshal(payload, &sealed); err != nil {
		return fleet.Uplink{}, fmt.Errorf("sealed message: %w", err)
	}
	var envelope relayv1.Uplink
	if err := proto.Unmarshal(sealed.GetBody(), &envelope); err != nil {
		return fleet.Uplink{}, fmt.Errorf("uplink: %w", err)
	}
	gateway := fleet.GatewayID(envelope.GetGatewayId())
	if !r.in.d.Key(gateway, envelope.GetBootId()).SealedUplink(sealed.GetBody(), sealed.GetSeal()) {
		return fleet.Uplink{}, fmt.Errorf("%w (it names %q)", errForged, clean(string(gateway)))
	}
	if bus.PartitionOf(identity.AgentID(envelope.GetAgentId())) != r.partition {
		return fleet.Uplink{}, fmt.Errorf("uplink of gateway %q: its agent is of another partition", clean(string(gateway)))
	}
	r.follow(&envelope)
	r.heard = r.heard.with(timeOf(envelope.GetReceivedAt()))
	u, err := r.in.uplink(ctx, &envelope)
	if err != nil {
		return u, fmt.Errorf("uplink of gateway %q about agent %q: %w", clean(string(gateway)), clean(envelope.GetAgentId()), err)
	}
	u.Trace = fleet.Traceparent(envelope.GetTraceparent())
	return u, nil
}

// follow notes the envelope's counter and, if messages before it are missing, that a resync is owed. A gateway counts
// from 1 in each partition at each boot; a repeated or older counter is a repetition, no hole.
func (r *reader) follow(e *relayv1.Uplink) {
	gateway := fleet.GatewayID(e.GetGatewayId())
	last := r.counters[gateway]
	if last.Gateway == "" || last.BootID != e.GetBootId() {
		last = store.Counter{Gateway: gateway, BootID: e.GetBootId()}
	}
	if e.GetCounter() > last.Value+1 {
		r.owe(gateway, debt{reason: "hole", before: last})
	}
	last.Value = max(last.Value, e.GetCounter())
	r.counters[gateway] = last
}

// uplink decodes one envelope.
func (in *Inbox) uplink(ctx context.Context, e *relayv1.Uplink) (fleet.Uplink, error) {
	at := timeOf(e.GetReceivedAt())
	tenant, agent := fleet.TenantID(e.GetTenant()), fleet.AgentID(e.GetAgentId())
	gateway, epoch := fleet.GatewayID(e.GetGatewayId()), fleet.Epoch(e.GetEpoch()) //nolint:gosec // epochs are bigint on our side
	switch event := e.GetEvent().(type) {
	case *relayv1.Uplink_Report:
		var message protobufs.AgentToServer
		if err := proto.Unmarshal(event.Report.GetAgentToServer(), &message); err != nil {
			return fleet.Uplink{}, fmt.Errorf("agent message: %w", err)
		}
		report := &fleet.Report{
			Tenant: tenant, Agent: agent, Gateway: gateway, BootID: e.GetBootId(), At: at,
			InDoubt: event.Report.GetInDoubt(), Whole: event.Report.GetWhole(),
			Stamp: fleet.Stamp{Epoch: epoch, Sequence: fleet.Sequence(event.Report.GetSequence())}, //nolint:gosec // a counter of messages
		}
		c := &reportDecoder{in: in, report: report, message: &message, cut: event.Report}
		if err := c.decode(ctx); err != nil {
			return fleet.Uplink{}, err
		}
		return fleet.Uplink{Report: report}, nil
	case *relayv1.Uplink_Ended:
		return fleet.Uplink{Ended: &fleet.SessionEnd{
			Tenant: tenant, Agent: agent, Gateway: gateway, BootID: e.GetBootId(), Epoch: epoch, At: at,
			Reason: clean(event.Ended.GetReason()), LastSeenAt: timeOf(event.Ended.GetLastSeenAt()),
			LastSequence: fleet.Sequence(event.Ended.GetLastSequence()), //nolint:gosec // a counter of messages
			InDoubt:      event.Ended.GetInDoubt(),
		}}, nil
	case *relayv1.Uplink_Delivery:
		return delivery(e, event.Delivery, at)
	default:
		return fleet.Uplink{}, fmt.Errorf("an uplink of no known kind")
	}
}

func delivery(e *relayv1.Uplink, d *relayv1.Delivery, at time.Time) (fleet.Uplink, error) {
	report := &fleet.DeliveryReport{
		Tenant: fleet.TenantID(e.GetTenant()), Agent: fleet.AgentID(e.GetAgentId()), Gateway: fleet.GatewayID(e.GetGatewayId()),
		BootID: e.GetBootId(), Epoch: fleet.Epoch(e.GetEpoch()), Generation: fleet.Generation(d.GetGeneration()), At: at, //nolint:gosec // epochs are bigint on our side
	}
	switch d.GetKind() {
	case relayv1.Downlink_KIND_CONFIG:
		report.Kind = fleet.DispatchConfig
		offer, err := fleet.OfferHashFrom(d.GetHash())
		if err != nil {
			return fleet.Uplink{}, fmt.Errorf("delivery: %w", err)
		}
		report.Offer = offer
	case relayv1.Downlink_KIND_FULL_STATE:
		report.Kind = fleet.DispatchFullState
	case relayv1.Downlink_KIND_CLOSE:
		report.Kind = fleet.DispatchClose
	case relayv1.Downlink_KIND_RENEW:
		report.Kind, report.Settings = fleet.DispatchRenew, d.GetHash()
	case relayv1.Downlink_KIND_RESTART:
		report.Kind = fleet.DispatchRestart
	default:
		return fleet.Uplink{}, fmt.Errorf("delivery of unknown kind %d", d.GetKind())
	}
	switch d.GetOutcome() {
	case relayv1.Delivery_OUTCOME_DELIVERED:
		report.Outcome = fleet.Delivered
	case relayv1.Delivery_OUTCOME_NOT_CAPABLE:
		report.Outcome = fleet.NotCapable
	case relayv1.Delivery_OUTCOME_BODY_UNAVAILABLE:
		report.Outcome = fleet.BodyUnavailable
	case relayv1.Delivery_OUTCOME_REFUSED:
		report.Outcome = fleet.Refused
	default:
		return fleet.Uplink{}, fmt.Errorf("delivery with unknown outcome %d", d.GetOutcome())
	}
	return fleet.Uplink{Delivery: report}, nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Truncate(time.Microsecond)
}
