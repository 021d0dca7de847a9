// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gatewaytest

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// SetLease sets how long leases last that are given from now on.
func (c *Control) SetLease(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease = d
}

// LoseLease makes the next renewal fail and forgets all sessions.
func (c *Control) LoseLease() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
	clear(c.sessions)
}

// DropLease makes the next renewal fail.
func (c *Control) DropLease() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

// Expel refuses every lease from now on.
func (c *Control) Expel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expelled = true
}

// Lost says whether the lease was lost and has not been taken again.
func (c *Control) Lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// SetAhead makes the clock of the control plane differ from that of the host.
func (c *Control) SetAhead(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = d
}

// Now is the time by the control plane's clock.
func (c *Control) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Control) now() time.Time { return time.Now().Add(c.ahead) }

// BusLost says what a gateway last said of the bus.
func (c *Control) BusLost(gateway string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busLost[gateway]
}

var errRevoked = connect.NewError(connect.CodePermissionDenied, "the gateway was revoked")

// Register implements the service.
func (c *Control) Register(_ context.Context, r *internalv1.RegisterRequest) (*internalv1.RegisterResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if c.expelled {
		return nil, errRevoked
	}
	c.lost = false
	if c.boots[r.GetGatewayId()] != r.GetBootId() {
		c.boots[r.GetGatewayId()] = r.GetBootId()
		c.endSessions(r.GetGatewayId())
	}
	key := uplink.Derive(c.secret, identity.GatewayID(r.GetGatewayId()), r.GetBootId())
	return &internalv1.RegisterResponse{Lease: durationpb.New(c.lease), UplinkKey: key[:], Now: timestamppb.New(c.now())}, nil
}

// endSessions ends those of an earlier boot. The session of an agent that polls belongs
// to the agent.
func (c *Control) endSessions(gateway string) {
	for _, s := range c.sessions {
		if s.Gateway == gateway && s.Transport != internalv1.Transport_TRANSPORT_HTTP {
			s.Gateway = ""
		}
	}
}

// RenewLease implements the service.
func (c *Control) RenewLease(_ context.Context, r *internalv1.RenewLeaseRequest) (*internalv1.RenewLeaseResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	c.busLost[r.GetGatewayId()] = r.GetBusLost()
	if c.expelled {
		return nil, errRevoked
	}
	if c.lost {
		return nil, connect.NewError(connect.CodeFailedPrecondition, "lease lost")
	}
	return &internalv1.RenewLeaseResponse{Lease: durationpb.New(c.lease), Now: timestamppb.New(c.now())}, nil
}

// Open reads a message of an uplink partition; false if the gateway process that it
// names has not sealed it.
func (c *Control) Open(payload []byte) (*relayv1.Uplink, bool) {
	var sealed relayv1.Sealed
	var opened relayv1.Uplink
	if proto.Unmarshal(payload, &sealed) != nil || proto.Unmarshal(sealed.GetBody(), &opened) != nil {
		return nil, false
	}
	key := uplink.Derive(c.secret, identity.GatewayID(opened.GetGatewayId()), opened.GetBootId())
	return &opened, key.SealedUplink(sealed.GetBody(), sealed.GetSeal())
}

// OpenMark reads the mark that a gateway has written into a register; false if the
// process that it names has not sealed it.
func (c *Control) OpenMark(gateway, register string, value []byte) (*relayv1.Mark, bool) {
	var sealed relayv1.Sealed
	var mark relayv1.Mark
	if proto.Unmarshal(value, &sealed) != nil || proto.Unmarshal(sealed.GetBody(), &mark) != nil {
		return nil, false
	}
	key := uplink.Derive(c.secret, identity.GatewayID(gateway), mark.GetBootId())
	return &mark, key.SealedMark(register, sealed.GetBody(), sealed.GetSeal())
}
