// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"bytes"
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/tracing"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// hearTime bounds what is asked of the bus before claims are judged. Without an answer they are judged by what is on
// record, and more agents are asked for their full state than need be.
const hearTime = 2 * time.Second

// pingLife is how long a request for a sign of life may wait for its gateway.
const pingLife = 5 * time.Second

// note is what the holder of a session noted on the bus: what it means, and its very bytes. of is that session, as it
// stood before the claim.
type note struct {
	of    fleet.Standing
	heard fleet.Heard
	raw   []byte
}

// hear adds to the claims how far each agent was heard in the session that is open, and says which notes those were. A
// takeover from another gateway is of a clone if the holder has noted something since it was asked for a sign of life.
func (s *Service) hear(ctx context.Context, claims []fleet.Claim, marks [][]byte) ([]note, error) {
	standings, err := s.d.Store.Standings(ctx, claims)
	if err != nil {
		return nil, err
	}
	notes := s.notes(ctx, claims, standings)
	for i := range claims {
		notes[i].of, claims[i].Heard = standings[i], notes[i].heard
		foreign := standings[i].Gateway != claims[i].Gateway
		if foreign && claims[i].Takeover == fleet.TakeoverRestart && len(marks[i]) > 0 && len(notes[i].raw) > 0 && !bytes.Equal(marks[i], notes[i].raw) {
			claims[i].Takeover = fleet.TakeoverClone
		}
	}
	return notes, nil
}

// notes reads the notes about sessions that are open, one question for each shelf.
func (s *Service) notes(ctx context.Context, claims []fleet.Claim, standings []fleet.Standing) []note {
	ctx, cancel := context.WithTimeout(ctx, hearTime)
	defer cancel()
	shelves := map[bus.Shelf][]int{}
	for i, at := range standings {
		switch {
		case !at.Open:
		case at.Transport == fleet.TransportHTTP:
			shelves[bus.Polls] = append(shelves[bus.Polls], i)
		default:
			shelf := bus.Marks(identity.GatewayID(at.Gateway))
			shelves[shelf] = append(shelves[shelf], i)
		}
	}
	found := make([]note, len(claims))
	for shelf, places := range shelves {
		names := make([]string, len(places))
		for n, i := range places {
			names[n] = register(claims[i].Tenant, standings[i].Agent)
		}
		values, err := s.d.Bus.Get(ctx, shelf, names...)
		if err != nil {
			s.d.Log.WarnContext(ctx, "the bus does not say how far agents were heard", "agents", len(places), "error", err)
			continue
		}
		for n, i := range places {
			found[i] = s.note(names[n], standings[i], values[n])
		}
	}
	return found
}

// note reads one register. A mark that its gateway did not seal says nothing.
func (s *Service) note(name string, at fleet.Standing, value []byte) note {
	if value == nil {
		return note{}
	}
	if at.Transport == fleet.TransportHTTP {
		var poll relayv1.Poll
		if proto.Unmarshal(value, &poll) != nil {
			return note{}
		}
		return note{raw: value, heard: fleet.Heard{
			Epoch: fleet.Epoch(poll.GetEpoch()), Sequence: fleet.Sequence(poll.GetSequence()), Whole: !poll.GetDoubtful(), //nolint:gosec // counters
		}}
	}
	var sealed relayv1.Sealed
	var mark relayv1.Mark
	if proto.Unmarshal(value, &sealed) != nil || proto.Unmarshal(sealed.GetBody(), &mark) != nil ||
		!s.d.UplinkKey(at.Gateway, mark.GetBootId()).SealedMark(name, sealed.GetBody(), sealed.GetSeal()) {
		return note{}
	}
	return note{raw: value, heard: fleet.Heard{
		Gateway: at.Gateway, BootID: mark.GetBootId(), Epoch: fleet.Epoch(mark.GetEpoch()), //nolint:gosec // counters
		Sequence: fleet.Sequence(mark.GetSequence()), Whole: mark.GetWhole(), //nolint:gosec // counters
	}}
}

// holder is a gateway that holds sessions of agents of a tenant.
type holder struct {
	gateway fleet.GatewayID
	tenant  fleet.TenantID
}

// ping asks the gateways that hold the sessions for a sign of life of their agents. It is a courtesy: a holder that
// cannot be reached counts as silent.
func (s *Service) ping(ctx context.Context, claims []fleet.Claim, results []fleet.ClaimResult) {
	asked := map[holder][]*relayv1.Target{}
	for i, r := range results {
		if r.Outcome == fleet.ClaimHeld && r.HolderGateway != claims[i].Gateway {
			h := holder{r.HolderGateway, claims[i].Tenant}
			asked[h] = append(asked[h], target(r.Agent, r.HolderEpoch))
		}
	}
	for h, targets := range asked {
		s.tell(ctx, h, &relayv1.Downlink{Kind: relayv1.Downlink_KIND_PING, Targets: targets})
	}
}

// dismiss ends, at other gateways, the sessions that were taken over. It is a courtesy as well: what is said in them does
// not count any more, but nobody would know it there.
func (s *Service) dismiss(ctx context.Context, claims []fleet.Claim, before []note, results []fleet.ClaimResult) {
	over := map[holder][]*relayv1.Target{}
	for i, r := range results {
		was, c := before[i].of, claims[i]
		if r.Outcome != fleet.ClaimClaimed || c.Takeover == fleet.TakeoverNone || !was.Open || was.Epoch != c.Contested || was.Gateway == c.Gateway {
			continue
		}
		h := holder{was.Gateway, c.Tenant}
		over[h] = append(over[h], target(r.Agent, was.Epoch))
	}
	for h, targets := range over {
		s.tell(ctx, h, &relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Reason: reasonSuperseded, Targets: targets})
	}
}

// reasonSuperseded: the session was taken over.
const reasonSuperseded = "SUPERSEDED"

// tell sends a message to a gateway that is of no use later.
func (s *Service) tell(ctx context.Context, h holder, m *relayv1.Downlink) {
	m.GatewayId, m.Tenant, m.NotAfter = string(h.gateway), string(h.tenant), timestamppb.New(s.d.Now().Add(pingLife))
	m.Traceparent = tracing.Text(ctx)
	signed, err := s.d.Signer.Sign(m)
	if err == nil {
		err = s.d.Bus.Send(ctx, identity.GatewayID(h.gateway), pingLife, signed)
	}
	if err != nil {
		s.d.Log.WarnContext(ctx, "a gateway could not be told about sessions of its agents", "gateway", h.gateway, "kind", m.GetKind().String(), "agents", len(m.GetTargets()), "error", err)
	}
}

func target(agent fleet.AgentID, epoch fleet.Epoch) *relayv1.Target {
	return &relayv1.Target{AgentId: string(agent), Epoch: uint64(epoch)} //nolint:gosec // never negative
}

func register(tenant fleet.TenantID, agent fleet.AgentID) string {
	return uplink.Register(identity.TenantID(tenant), identity.AgentID(agent))
}
