// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// errAddress is one more reason of ampora_gateway_downlinks_refused_total: a letter that
// lies in the mail of another agent than its own.
var errAddress = errors.New("other_agent")

// Letters does what the mail of an agent that polls asks of its session, so that it goes
// out with the next answer. A letter stays where it lies until another takes its place,
// and any gateway reads it with each poll: none does twice what it has done, and what
// another one did shows in the session. An offer that was lost with an answer is made
// again.
func (d *Downlinks) Letters(ctx context.Context, s *session.Session, letters [][]byte, lost bool) {
	for _, letter := range letters {
		if letter != nil && !s.Ended() {
			d.letter(ctx, s, letter, lost)
		}
	}
}

func (d *Downlinks) letter(ctx context.Context, s *session.Session, payload []byte, lost bool) {
	asked, signed, err := d.open(payload)
	if err == nil {
		err = addressed(asked, s)
	}
	if err != nil {
		d.refuseWhole(ctx, err)
		return
	}
	to := address(asked, asked.GetTargets()[0])
	if to.Epoch > s.Epoch() {
		return // of a session that has not been heard of here; it is read again
	}
	first := d.first(asked, signed)
	if config := asked.GetKind() == relayv1.Downlink_KIND_CONFIG; first || lost && config {
		ctx, span := d.begin(ctx, asked)
		defer span.End()
		d.obey(ctx, s, asked, to)
	}
}

// obey does what a letter asks.
func (d *Downlinks) obey(ctx context.Context, s *session.Session, asked *relayv1.Downlink, to session.Address) {
	switch kind := asked.GetKind(); kind {
	case relayv1.Downlink_KIND_CONFIG:
		d.config(ctx, asked)
	case relayv1.Downlink_KIND_FULL_STATE:
		d.count(ctx, kind, s.PostDoubt(to, d.Clock()))
	case relayv1.Downlink_KIND_RENEW:
		d.count(ctx, kind, d.renew(s, to))
	case relayv1.Downlink_KIND_RESTART:
		d.count(ctx, kind, s.PostRestart(to, d.until(asked)))
	case relayv1.Downlink_KIND_CLOSE:
		d.count(ctx, kind, s.PostClose(to, closing(asked)))
	default:
		d.refuse(ctx, errKind.Error())
	}
}

// addressed checks that a letter is for the agent of the session, and for whichever
// gateway the agent comes to.
func addressed(asked *relayv1.Downlink, s *session.Session) error {
	targets := asked.GetTargets()
	switch {
	case asked.GetGatewayId() != "":
		return errGateway
	case len(targets) != 1, asked.GetTenant() != string(s.Key.Tenant), targets[0].GetAgentId() != string(s.Key.Agent):
		return errAddress
	}
	return nil
}
