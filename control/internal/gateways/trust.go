// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// trustPage bounds the serials of one answer, of 34 bytes each.
const trustPage = 20_000

// GetTrust returns what the gateway verifies agents of its tenants with, or nothing but the version if they have it
// already. Of what is revoked it returns what the gateway does not know yet, over several answers if that is much.
func (s *Service) GetTrust(ctx context.Context, r *internalv1.GetTrustRequest) (*internalv1.GetTrustResponse, error) {
	by, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	generation, err := s.d.Authority.Refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	tenants, err := s.d.Store.Tenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	tenants = slices.DeleteFunc(tenants, func(t fleet.Tenant) bool { return !by.scope.Serves(t.ID) })
	out := &internalv1.GetTrustResponse{TrustDomain: s.d.TrustDomain, DownlinkKeys: s.d.Signer.Keys(), Line: s.d.Line, Generation: generation}
	for _, t := range tenants {
		bundle, err := s.d.Authority.Bundle(ctx, t.ID)
		if fault.Is(err, pki.ReasonNoAuthority) {
			continue // It has no agents that could come; the other tenants' must not wait for it.
		}
		if err != nil {
			return nil, fmt.Errorf("trust of tenant %s: %w", t.ID, err)
		}
		out.Tenants = append(out.Tenants, &internalv1.TenantTrust{
			Tenant: string(t.ID), RootsPem: bundle.RootsPEM, IntermediatesPem: bundle.IntermediatesPEM, Revocation: t.Revocations,
		})
	}
	version := trustVersion(out)
	if version == r.GetVersion() {
		return &internalv1.GetTrustResponse{Version: version}, nil
	}
	whole, err := s.addRevoked(ctx, r, out)
	if err != nil {
		return nil, err
	}
	if whole {
		out.Version = version
	}
	return out, nil
}

// addRevoked adds to the answer what of each tenant was revoked that the gateway does not know, up to a page, and says
// whether that is all.
func (s *Service) addRevoked(ctx context.Context, r *internalv1.GetTrustRequest, out *internalv1.GetTrustResponse) (all bool, err error) {
	all = true
	room := s.trustPage
	for _, t := range out.GetTenants() {
		known, is := r.GetRevocations()[t.GetTenant()]
		if !is || r.GetLine() != out.GetLine() || known > t.GetRevocation() { // or its number is of a database that was put back
			known, t.Whole = 0, true
		}
		if known == t.GetRevocation() {
			continue
		}
		since := fleet.Revocations{Last: known, More: true}
		if room > 0 {
			if since, err = s.d.Store.RevokedSince(ctx, fleet.TenantID(t.GetTenant()), known, s.d.Now(), room); err != nil {
				return false, fmt.Errorf("what tenant %s has revoked: %w", t.GetTenant(), err)
			}
		}
		for _, serial := range since.Serials {
			t.RevokedSerials = append(t.RevokedSerials, string(serial))
		}
		// One that was revoked since the version was made goes along, and is told once more with the next.
		t.Revocation, room, all = since.Last, room-len(since.Serials), all && !since.More
	}
	return all, nil
}

// trustVersion is a digest of the content, as far as the numbers of revocations stand for these: equal content has one
// version on every replica.
func trustVersion(t *internalv1.GetTrustResponse) string {
	h := sha256.New()
	field := func(b []byte) { fmt.Fprintf(h, "%d:%s", len(b), b) }
	field([]byte(t.GetTrustDomain()))
	field([]byte(t.GetLine()))
	field(strconv.AppendInt(nil, t.GetGeneration(), 10))
	for _, id := range slices.Sorted(maps.Keys(t.GetDownlinkKeys())) {
		field([]byte(id))
		field(t.GetDownlinkKeys()[id])
	}
	for _, tenant := range t.GetTenants() {
		field([]byte(tenant.GetTenant()))
		field(bytes.Join([][]byte{tenant.GetRootsPem(), tenant.GetIntermediatesPem()}, []byte{0}))
		field(strconv.AppendInt(nil, tenant.GetRevocation(), 10))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
