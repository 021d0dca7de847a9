// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/outbox"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// follower is a gateway that keeps what it was told, as gateways do.
type follower struct {
	*testing.T
	s       *Service
	ctx     context.Context
	request internalv1.GetTrustRequest
	revoked map[string]map[string]bool
	answers int
	told    int // serials, in the last follow
}

// follow asks until it has it all.
func (f *follower) follow() {
	f.Helper()
	f.told = 0
	for f.answers = 1; ; f.answers++ {
		answer, err := f.s.GetTrust(f.ctx, &f.request)
		must(f.T, err)
		if answer.GetVersion() != "" && answer.GetVersion() == f.request.GetVersion() {
			return
		}
		f.request.Line, f.request.Version = answer.GetLine(), answer.GetVersion()
		for _, t := range answer.GetTenants() {
			if t.GetWhole() || f.revoked[t.GetTenant()] == nil {
				f.revoked[t.GetTenant()] = map[string]bool{}
			}
			for _, serial := range t.GetRevokedSerials() {
				f.revoked[t.GetTenant()][serial] = true
				f.told++
			}
			f.request.Revocations[t.GetTenant()] = t.GetRevocation()
		}
		if answer.GetVersion() != "" {
			return
		}
	}
}

func TestTrustIsToldOnce(t *testing.T) {
	s, db, now := service(t)
	authority, err := pki.Open(t.Context(), pki.Config{TrustDomain: "fleet.example", PublicURL: "http://pki.example"}, db, seal.NewKeyring(seal.NewMasterKey(), nil))
	must(t, err)
	for _, tenant := range []fleet.TenantID{"acme", "other"} {
		must(t, authority.EnsureTenant(t.Context(), tenant, now))
	}
	s.d.Authority, s.d.Signer, s.d.Line, s.trustPage = authority, outbox.NewSigner(make([]byte, 32)), "line", 4
	ctx := context.WithValue(t.Context(), callerKey{}, caller{id: "edge-1", scope: fleet.Scope{Every: true}})
	f := &follower{T: t, s: s, ctx: ctx, request: internalv1.GetTrustRequest{Revocations: map[string]int64{}}, revoked: map[string]map[string]bool{}}
	want := func(acme, other, answers, told int) {
		t.Helper()
		if f.follow(); len(f.revoked["acme"]) != acme || len(f.revoked["other"]) != other || f.answers != answers || f.told != told {
			t.Errorf("revoked are %v, told %d in %d answers", f.revoked, f.told, f.answers)
		}
	}
	want(0, 0, 1, 0)
	revoke(t, s, db, "acme", 1, 10)
	revoke(t, s, db, "other", 1, 3)
	want(10, 3, 4, 13) // 4, 4, 2 and 2, 1
	want(10, 3, 1, 0)
	revoke(t, s, db, "other", 4, 1)
	want(10, 4, 1, 1)
	// Whoever knows more than there is, as after the database was put back, or of another line, is told all.
	f.request.Revocations["acme"], f.request.Version = 11, ""
	want(10, 4, 3, 10)
	s.d.Line = "another"
	want(10, 4, 4, 14)
	serials := slices.Sorted(maps.Keys(f.revoked["other"]))
	if !slices.Equal(serials, []string{"other1", "other2", "other3", "other4"}) {
		t.Errorf("revoked are %v", serials)
	}
}

// revoke makes certificates that are revoked, with the numbers from first.
func revoke(t *testing.T, s *Service, db *sqlite.Store, tenant fleet.TenantID, first, count int) {
	t.Helper()
	now := s.d.Now()
	by := fleet.System(tenant, now)
	for i := first; i < first+count; i++ {
		serial, agent := fleet.Serial(string(tenant)+strconv.Itoa(i)), fleet.AgentID(identity.NewAgentID())
		must(t, errors.Join(db.Redeem(t.Context(), []store.Redemption{{
			By: by, Token: issue(t, db, tenant, identity.NewToken(identity.BootstrapToken), now), Agent: agent, Method: fleet.EnrolledByEST,
			Certificate: fleet.Certificate{
				Tenant: tenant, Serial: serial, Fingerprint: fleet.Fingerprint(serial), Agent: agent, NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
				DER: []byte("der"), ChainPEM: []byte("pem"), CreatedAt: now,
			},
		}})...))
		_, err := db.RevokeCertificates(t.Context(), by, fleet.Revocation{Serials: []fleet.Serial{serial}})
		must(t, err)
	}
}
