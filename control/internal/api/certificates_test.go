// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func TestCertificates(t *testing.T) {
	w := newWorld(t)
	admin, operator := w.as(fleet.RoleAdmin), w.as(fleet.RoleOperator)
	ids := w.agents(3)
	revoke := &amporav1.RevokeCertificatesRequest{
		AgentIds: ids[:1], Serials: []string{string(serialOf(fleet.AgentID(ids[1])))}, Reason: amporav1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE,
	}
	_, err := operator.certificates.RevokeCertificates(t.Context(), revoke)
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	var revoked []string
	for _, c := range must(admin.certificates.RevokeCertificates(t.Context(), revoke))(t).GetCertificates() {
		revoked = append(revoked, c.GetAgentId())
	}
	slices.Sort(revoked)
	if want := slices.Sorted(slices.Values(ids[:2])); !slices.Equal(revoked, want) {
		t.Errorf("revoked those of %v, want %v", revoked, want)
	}
	for i, id := range ids {
		list := must(operator.certificates.ListCertificates(t.Context(), &amporav1.ListCertificatesRequest{AgentId: id}))(t).GetCertificates()
		if len(list) != 1 || list[0].GetAgentId() != id || (list[0].GetRevokedAt() != nil) != (i < 2) || (list[0].GetRevocationReason() == revoke.GetReason()) != (i < 2) {
			t.Errorf("agent %d has %v", i, list)
		}
	}
	if again := must(admin.certificates.RevokeCertificates(t.Context(), revoke))(t).GetCertificates(); len(again) != 0 {
		t.Errorf("once more %v are revoked", again)
	}
	unknown := string(newID[fleet.AgentID]())
	_, err = admin.certificates.RevokeCertificates(t.Context(), &amporav1.RevokeCertificatesRequest{AgentIds: []string{ids[2], unknown}})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = admin.certificates.ListCertificates(t.Context(), &amporav1.ListCertificatesRequest{AgentId: unknown})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	for _, malformed := range []*amporav1.RevokeCertificatesRequest{
		{},
		{AgentIds: []string{ids[2], ids[2]}},
		{AgentIds: []string{"web-17"}},
		{Serials: []string{"5E"}},
		{AgentIds: ids, Reason: 2},
		{Serials: slices.Repeat([]string{"5e"}, 1001)},
	} {
		_, err := admin.certificates.RevokeCertificates(t.Context(), malformed)
		refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	}
}

// TestOfferCertificate: what is decided is the store's; here are who may, and what is said to who may not.
func TestOfferCertificate(t *testing.T) {
	w := newWorld(t)
	id := string(w.agent())
	ask := &amporav1.OfferCertificateRequest{AgentId: id}
	_, err := w.as(fleet.RoleViewer).certificates.OfferCertificate(t.Context(), ask)
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	operator := w.as(fleet.RoleOperator)
	_, err = operator.certificates.OfferCertificate(t.Context(), ask)
	refused(t, err, connect.CodeFailedPrecondition, fleet.RefusedNotShown)
	w.connect(fleet.AgentID(id), nil)
	_, err = operator.certificates.OfferCertificate(t.Context(), ask)
	refused(t, err, connect.CodeFailedPrecondition, fleet.RefusedKeepsKey)
	if err == nil || !strings.Contains(err.Error(), "its machine renews") {
		t.Errorf("error %v", err)
	}
	_, err = operator.certificates.OfferCertificate(t.Context(), &amporav1.OfferCertificateRequest{AgentId: string(newID[fleet.AgentID]())})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}
