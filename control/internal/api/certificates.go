// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// certificates is the CertificateService.
type certificates struct {
	store interface {
		store.Certificates
		store.Upkeep
	}
}

// ListCertificates lists those of an agent, newest first.
func (s *certificates) ListCertificates(ctx context.Context, r *amporav1.ListCertificatesRequest) (*amporav1.ListCertificatesResponse, error) {
	list, err := s.store.CertificatesOf(ctx, auth.By(ctx).Tenant, fleet.AgentID(r.GetAgentId()))
	return &amporav1.ListCertificatesResponse{Certificates: each(list, certificate)}, err
}

// RevokeCertificates revokes those of agents, and single ones.
func (s *certificates) RevokeCertificates(ctx context.Context, r *amporav1.RevokeCertificatesRequest) (*amporav1.RevokeCertificatesResponse, error) {
	revoked, err := s.store.RevokeCertificates(ctx, auth.By(ctx), fleet.Revocation{
		Agents:  each(r.GetAgentIds(), func(id string) fleet.AgentID { return fleet.AgentID(id) }),
		Serials: each(r.GetSerials(), func(serial string) fleet.Serial { return fleet.Serial(serial) }),
		Key:     fleet.KeyID(r.GetSigningKeyId()),
		Reason:  fleet.RevocationReason(r.GetReason()), // both are RFC 5280's numbers
	})
	return &amporav1.RevokeCertificatesResponse{Certificates: each(revoked, certificate)}, err
}

// OfferCertificate begins anew with offering an agent another certificate.
func (s *certificates) OfferCertificate(ctx context.Context, r *amporav1.OfferCertificateRequest) (*amporav1.OfferCertificateResponse, error) {
	forgotten, reason, err := s.store.OfferAgain(ctx, auth.By(ctx), fleet.AgentID(r.GetAgentId()))
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, fault.New(fault.FailedPrecondition, reason, "%s", notOffered[reason])
	}
	return &amporav1.OfferCertificateResponse{Forgotten: count(forgotten)}, nil
}

// notOffered says why an agent is offered no certificate.
var notOffered = map[string]string{
	fleet.RefusedNotShown:    "the agent has never shown a certificate of its own",
	fleet.RefusedKeepsKey:    "the agent keeps its own key: its machine renews the certificate",
	fleet.RefusedNoSettings:  "the agent does not take connection settings, so it cannot be offered a certificate",
	fleet.RefusedQuarantined: "the agent is quarantined: release it first",
	fleet.RefusedRevoked:     "the agent's certificate was revoked: it comes back with a bootstrap token",
	fleet.RefusedExpired:     "the agent's certificate has ended: it comes back with a bootstrap token",
	fleet.RefusedNotOffered:  "the agent was offered no certificate in vain: it gets one when its own comes to its end",
}

func certificate(c fleet.Certificate) *amporav1.Certificate {
	return &amporav1.Certificate{
		Serial: string(c.Serial), Fingerprint: string(c.Fingerprint), AgentId: string(c.Agent), SigningKeyId: string(c.Key),
		NotBefore: moment(c.NotBefore), NotAfter: moment(c.NotAfter), CreatedAt: moment(c.CreatedAt), RevokedAt: moment(c.RevokedAt),
		RevocationReason: amporav1.RevocationReason(c.Reason), //nolint:gosec // RFC 5280 knows eleven
	}
}
