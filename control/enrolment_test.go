// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// revoking is a store in which an operator revokes each token in the moment before it is redeemed.
type revoking struct{ store.Store }

func (r revoking) Redeem(ctx context.Context, list []store.Redemption) []error {
	for _, of := range list {
		if _, err := r.RevokeBootstrapToken(ctx, fleet.System(of.By.Tenant, of.By.At), of.Token); err != nil {
			return slices.Repeat([]error{err}, len(list))
		}
	}
	return r.Store.Redeem(ctx, list)
}

// TestATokenRevokedWhileItsCertificateIsSigned: the agent is refused as with any revoked token, and that is on record.
func TestATokenRevokedWhileItsCertificateIsSigned(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, revoking{db}, b, newMasterKey())
		c := newCrowd(t, p, b, 0)
		issued, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.control.Enroll(t.Context(), &internalv1.EnrollRequest{
			Token: issued.GetSecret(), CsrPem: newCSR(t), Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST, GatewayId: "g",
		})
		if connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("enrolled with %v", err)
		}
		list, _, err := db.AuditRecords(t.Context(), "default", issued.GetToken().GetId(), fleet.Page{Size: 10})
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for _, r := range list {
			if r.RefusalReason == "TOKEN_REVOKED" {
				refused++
			}
		}
		if refused != 1 {
			t.Errorf("%d refusals on record: %+v", refused, list)
		}
	})
}

// contended is a store in which others are in the way of each redemption.
type contended struct{ store.Store }

func (contended) Redeem(_ context.Context, list []store.Redemption) []error {
	return slices.Repeat([]error{fmt.Errorf("redeem: %w", store.ErrContended)}, len(list))
}

// TestOthersInTheWaySpendNoToken: whoever lost against other transactions is told to come again, and not that the token was
// redeemed.
func TestOthersInTheWaySpendNoToken(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, contended{db}, b, newMasterKey())
		c := newCrowd(t, p, b, 0)
		issued, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.control.Enroll(t.Context(), &internalv1.EnrollRequest{
			Token: issued.GetSecret(), CsrPem: newCSR(t), Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST, GatewayId: "g",
		})
		if connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("enrolled with %v", err)
		}
		list, err := p.tokens.ListBootstrapTokens(t.Context(), &amporav1.ListBootstrapTokensRequest{})
		if err != nil || list.GetTokens()[0].GetState() != amporav1.TokenState_TOKEN_STATE_LIVE {
			t.Errorf("the token is %v, %v", list, err)
		}
	})
}

// TestAnAgentComesBack: a token for an identity gives that another certificate, the same one again to who did not hear the
// answer, and to nobody else; and its other certificates are none any more.
func TestAnAgentComesBack(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, db, b, newMasterKey())
		c := newCrowd(t, p, b, 1)
		a := c.only()
		former := a.claimed
		_, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{AgentId: a.id})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("a token for an agent with a good certificate: %v", err)
		}
		issued, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{AgentId: a.id, Replace: true})
		if err != nil {
			t.Fatal(err)
		}
		enrol := func(csr []byte) (*internalv1.EnrollResponse, error) {
			return c.control.Enroll(t.Context(), &internalv1.EnrollRequest{
				Token: issued.GetSecret(), CsrPem: csr, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_AGENT_CSR, GatewayId: "g",
			})
		}
		csr := newCSR(t)
		first, err := enrol(csr)
		if err != nil || first.GetAgentId() != a.id {
			t.Fatalf("enrolled %q: %v", first.GetAgentId(), err)
		}
		again, err := enrol(csr)
		if err != nil || string(again.GetCertificateChainPem()) != string(first.GetCertificateChainPem()) {
			t.Errorf("the same key did not get the same certificate again: %v", err)
		}
		if _, err := enrol(newCSR(t)); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("another key with a redeemed token: %v", err)
		}
		c.told("told to end the former session", func() bool { return a.closed > 0 })
		c.claim(a, first.GetCertificateChainPem())
		if _, err := enrol(csr); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("the token still enrols after the first connection with its certificate: %v", err)
		}
		got, err := c.control.ClaimSessions(t.Context(), &internalv1.ClaimSessionsRequest{GatewayId: "g", BootId: c.boot, Claims: []*internalv1.Claim{former}})
		if err != nil || got.GetResults()[0].GetReason() != fleet.RefusedRevoked {
			t.Errorf("a claim with the former certificate: %v, %v", got, err)
		}
		shown, err := p.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: a.id})
		if err != nil || shown.GetAgent().GetDisplayName() != "agent-1" {
			t.Errorf("the agent is %v, %v", shown, err)
		}
	})
}
