// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// A gateway that was taken over speaks for itself and for the tenants that it may serve, and for nobody else. The service
// of the test has nothing to work with: whoever gets past the refusal fails.
func TestAGatewayIsConfined(t *testing.T) {
	s := New(Deps{})
	ctx := context.WithValue(t.Context(), callerKey{}, caller{id: "edge-1", scope: fleet.Scope{Tenants: []fleet.TenantID{"acme"}}})
	for name, c := range map[string]struct {
		call func() error
		want string
	}{
		"a body of another tenant": {func() error {
			_, err := s.FetchBody(ctx, &internalv1.FetchBodyRequest{Tenant: "other", Hash: make([]byte, 32)})
			return err
		}, ReasonOutOfScope},
		"bodies for another tenant": {func() error {
			_, err := s.PutBodies(ctx, &internalv1.PutBodiesRequest{Tenant: "other", Bodies: [][]byte{{1}}})
			return err
		}, ReasonOutOfScope},
		"a process of another gateway": {func() error {
			_, err := s.Register(ctx, &internalv1.RegisterRequest{GatewayId: "edge-2", BootId: 1})
			return err
		}, ReasonOtherGateway},
		"the lease of another gateway": {func() error {
			_, err := s.RenewLease(ctx, &internalv1.RenewLeaseRequest{GatewayId: "edge-2", BootId: 1})
			return err
		}, ReasonOtherGateway},
		"sessions at another gateway": {func() error {
			_, err := s.ClaimSessions(ctx, &internalv1.ClaimSessionsRequest{GatewayId: "edge-2", BootId: 1})
			return err
		}, ReasonOtherGateway},
		"a token shown at another gateway": {func() error {
			_, err := s.CheckBootstrapToken(ctx, &internalv1.CheckBootstrapTokenRequest{GatewayId: "edge-2"})
			return err
		}, ReasonOtherGateway},
		"a certificate in another gateway's name": {func() error {
			_, err := s.Enroll(ctx, &internalv1.EnrollRequest{GatewayId: "edge-2"})
			return err
		}, ReasonOtherGateway},
		"a renewal in another gateway's name": {func() error {
			_, err := s.Renew(ctx, &internalv1.RenewRequest{GatewayId: "edge-2", Tenant: "acme"})
			return err
		}, ReasonOtherGateway},
		"a renewal for an agent of another tenant": {func() error {
			_, err := s.Renew(ctx, &internalv1.RenewRequest{GatewayId: "edge-1", Tenant: "other"})
			return err
		}, ReasonOutOfScope},
		"a call that no gate let pass": {func() error {
			_, err := s.GetTrust(t.Context(), &internalv1.GetTrustRequest{})
			return err
		}, ReasonUnknownGateway},
	} {
		if err := c.call(); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
