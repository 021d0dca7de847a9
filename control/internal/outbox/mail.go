// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/tracing"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// letterLife is how long a letter lies there. Agents poll more often, and what has not had its effect is posted again.
const letterLife = 5 * time.Minute

// polls reports whether the dispatch is for an agent that no gateway can write to before it asks.
func polls(d fleet.Dispatch) bool { return d.Transport == fleet.TransportHTTP }

// post lays letters for agents that poll where the gateway that they come to next finds them, whichever it is: each is a
// downlink for one agent that names no gateway.
func (o *Outbox) post(ctx context.Context, letters []fleet.Dispatch, now time.Time) error {
	ctx, span := o.begin(ctx, letters)
	defer span.End()
	registers := make([]bus.Register, 0, len(letters))
	for i, d := range letters {
		m := message([]fleet.Dispatch{d}, now)
		m.GatewayId, m.NotAfter, m.Traceparent = "", timestamppb.New(until(letters[i:i+1], now.Add(letterLife))), tracing.Text(ctx)
		signed, err := o.d.Signer.Sign(m)
		if err != nil {
			return err
		}
		name := uplink.MailRegister(identity.TenantID(d.Tenant), identity.AgentID(d.Agent), m.GetKind().String())
		registers = append(registers, bus.Register{Name: name, Value: signed})
	}
	if err := o.d.Bus.Set(ctx, bus.Mail, letterLife, registers...); err != nil {
		return fmt.Errorf("post: %w", err)
	}
	return nil
}
