// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/enrolment"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Of a tenant that a gateway may not serve it gets no session and no certificate, with credentials that are as good as
// any: what stands there is as it was.
func TestWhatIsOfAnotherTenant(t *testing.T) {
	s, db, now := service(t)
	ctx := context.WithValue(t.Context(), callerKey{}, caller{id: "edge-1", scope: fleet.ScopeOf("acme")})
	secret := identity.NewToken(identity.BootstrapToken)
	tokenID := issue(t, db, "other", secret, now)
	agent := enrol(t, db, "other", now)

	_, err := s.CheckBootstrapToken(ctx, &internalv1.CheckBootstrapTokenRequest{GatewayId: "edge-1", Token: secret.Reveal()})
	if !fault.Is(err, enrolment.ReasonElsewhere) {
		t.Errorf("its token: %v", err)
	}
	_, err = s.Enroll(ctx, &internalv1.EnrollRequest{
		GatewayId: "edge-1", Token: secret.Reveal(), CsrPem: []byte("csr"), Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST,
	})
	if !fault.Is(err, enrolment.ReasonElsewhere) {
		t.Errorf("an enrolment with its token: %v", err)
	}
	found, err := db.BootstrapTokensByHash(t.Context(), secret.Hash())
	if token := found[secret.Hash()]; err != nil || token.ID != tokenID || token.State(now) != fleet.TokenLive {
		t.Errorf("the token is %+v, %v", token, err)
	}

	uid := uuid.New()
	claim := func(tenant string) *internalv1.Claim {
		return &internalv1.Claim{Tenant: tenant, AgentId: string(agent), Serial: "5e", Fingerprint: "f1", InstanceUid: uid[:]}
	}
	answer, err := s.ClaimSessions(ctx, &internalv1.ClaimSessionsRequest{
		GatewayId: "edge-1", BootId: 1, Claims: []*internalv1.Claim{claim("acme"), claim("other")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{fleet.RefusedNotRecorded, ReasonOutOfScope} {
		if got := answer.GetResults()[i]; got.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_REFUSED || got.GetReason() != want {
			t.Errorf("claim %d is answered %v, want %s", i, got, want)
		}
	}
	if a, err := db.Agent(t.Context(), "other", agent); err != nil || !a.FirstSeenAt.IsZero() {
		t.Errorf("the agent is %+v, %v", a, err)
	}
	// To the gateway that may serve it, all of it is good.
	ctx = context.WithValue(t.Context(), callerKey{}, caller{id: "edge-1", scope: fleet.ScopeOf("other")})
	checked, err := s.CheckBootstrapToken(ctx, &internalv1.CheckBootstrapTokenRequest{GatewayId: "edge-1", Token: secret.Reveal()})
	if err != nil || checked.GetTenant() != "other" {
		t.Errorf("the token is that of %v, %v", checked, err)
	}
	answer, err = s.ClaimSessions(ctx, &internalv1.ClaimSessionsRequest{GatewayId: "edge-1", BootId: 1, Claims: []*internalv1.Claim{claim("other")}})
	if err != nil || answer.GetResults()[0].GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED {
		t.Errorf("the claim is answered %v, %v", answer, err)
	}
}

// service is one over a database with two tenants and a gateway.
func service(t *testing.T) (*Service, *sqlite.Store, time.Time) {
	t.Helper()
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "ampora.db")
	_, err := migrations.Apply(t.Context(), "sqlite:"+path)
	must(t, err)
	db, err := sqlite.Open(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	for _, tenant := range []fleet.TenantID{"acme", "other"} {
		_, err := db.EnsureTenant(t.Context(), fleet.Tenant{ID: tenant, CreatedAt: now, WrappedDataKey: []byte("k")})
		must(t, err)
	}
	must(t, db.RegisterGateway(t.Context(), fleet.Gateway{ID: "edge-1", BootID: 1, StartedAt: now, LeaseUntil: now.Add(time.Hour)}))
	clock := func() time.Time { return now }
	log := slog.New(slog.DiscardHandler)
	enrols := enrolment.New(db, nil, log, clock)
	go func() { _ = enrols.Run(t.Context()) }()
	return New(Deps{Store: db, Enrolment: enrols, Log: log, Now: clock}), db, now
}

// issue makes a bootstrap token.
func issue(t *testing.T, db *sqlite.Store, tenant fleet.TenantID, secret identity.Token, now time.Time) fleet.TokenID {
	t.Helper()
	id := fleet.TokenID(identity.NewAgentID())
	must(t, db.IssueBootstrapToken(t.Context(), fleet.System(tenant, now), fleet.BootstrapToken{
		ID: id, Tenant: tenant, Hash: secret.Hash(), CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}))
	return id
}

// enrol makes an agent with the certificate 5e.
func enrol(t *testing.T, db *sqlite.Store, tenant fleet.TenantID, now time.Time) fleet.AgentID {
	t.Helper()
	id := fleet.AgentID(identity.NewAgentID())
	must(t, errors.Join(db.Redeem(t.Context(), []store.Redemption{{
		By: fleet.System(tenant, now), Token: issue(t, db, tenant, identity.NewToken(identity.BootstrapToken), now), Agent: id, Method: fleet.EnrolledByEST,
		Certificate: fleet.Certificate{
			Tenant: tenant, Serial: "5e", Fingerprint: "f1", Agent: id, NotBefore: now, NotAfter: now.Add(time.Hour),
			DER: []byte("der"), ChainPEM: []byte("pem"), CreatedAt: now,
		},
	}})...))
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
