// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package gateways is control as gateways see it: the internal service, for whatever must be answered and for every
// secret. Handlers decode, call and encode; errors are mapped by the interceptor they are served under.
package gateways

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/enrolment"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/outbox"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// leaseLife is how long a gateway may be silent before its sessions are unknown.
const leaseLife = 30 * time.Second

// maxBody bounds one body that a gateway may store: the largest message an agent may send.
const maxBody = 10 << 20

// Store is what the service reads and writes itself.
type Store interface {
	store.Sessions
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
	RevokedSerials(ctx context.Context, tenant fleet.TenantID, now time.Time) ([]fleet.Serial, error)
}

// Deps is what the service needs.
type Deps struct {
	Store       Store
	Enrolment   *enrolment.Enrolment
	Authority   *pki.Authority
	Content     *content.Content
	Signer      *outbox.Signer
	TrustDomain string
	Now         func() time.Time
}

// Service implements ampora.internal.v1.GatewayService.
type Service struct{ d Deps }

// New returns the service.
func New(d Deps) *Service { return &Service{d: d} }

// Register records the gateway process and gives it its lease.
func (s *Service) Register(ctx context.Context, r *internalv1.RegisterRequest) (*internalv1.RegisterResponse, error) {
	now := s.d.Now()
	err := s.d.Store.RegisterGateway(ctx, fleet.Gateway{
		ID: fleet.GatewayID(r.GetGatewayId()), BootID: r.GetBootId(), Version: r.GetVersion(), StartedAt: now, LeaseUntil: now.Add(leaseLife),
	})
	if err != nil {
		return nil, fmt.Errorf("register gateway: %w", err)
	}
	return &internalv1.RegisterResponse{Lease: durationpb.New(leaseLife)}, nil
}

// RenewLease prolongs the lease.
func (s *Service) RenewLease(ctx context.Context, r *internalv1.RenewLeaseRequest) (*internalv1.RenewLeaseResponse, error) {
	now := s.d.Now()
	if err := s.d.Store.RenewLease(ctx, fleet.GatewayID(r.GetGatewayId()), r.GetBootId(), now, now.Add(leaseLife)); err != nil {
		return nil, fmt.Errorf("renew lease: %w", err)
	}
	return &internalv1.RenewLeaseResponse{Lease: durationpb.New(leaseLife)}, nil
}

// CheckBootstrapToken says whether a token may enrol.
func (s *Service) CheckBootstrapToken(ctx context.Context, r *internalv1.CheckBootstrapTokenRequest) (*internalv1.CheckBootstrapTokenResponse, error) {
	tenant, err := s.d.Enrolment.Check(ctx, r.GetToken(), fleet.GatewayID(r.GetGatewayId()), r.GetPeer())
	if err != nil {
		return nil, err
	}
	return &internalv1.CheckBootstrapTokenResponse{Tenant: string(tenant)}, nil
}

// Enroll redeems a token.
func (s *Service) Enroll(ctx context.Context, r *internalv1.EnrollRequest) (*internalv1.EnrollResponse, error) {
	method, err := enrolmentMethod(r.GetMethod())
	if err != nil {
		return nil, err
	}
	id, err := s.d.Enrolment.Enrol(ctx, enrolment.Request{
		Secret: r.GetToken(), CSR: r.GetCsrPem(), Method: method, Gateway: fleet.GatewayID(r.GetGatewayId()), Peer: r.GetPeer(),
	})
	if err != nil {
		return nil, err
	}
	return &internalv1.EnrollResponse{
		AgentId: string(id.Agent), Tenant: string(id.Tenant), CertificateChainPem: id.ChainPEM, CaPem: id.CAPEM,
		NotAfter: timestamppb.New(id.NotAfter),
	}, nil
}

// ClaimSessions takes sessions: each result stands for itself, but a database that is away fails the call.
func (s *Service) ClaimSessions(ctx context.Context, r *internalv1.ClaimSessionsRequest) (*internalv1.ClaimSessionsResponse, error) {
	out := &internalv1.ClaimSessionsResponse{Results: make([]*internalv1.ClaimResult, len(r.GetClaims()))}
	var claims []fleet.Claim
	var places []int
	now := s.d.Now()
	for i, c := range r.GetClaims() {
		if len(c.GetInstanceUid()) != len(fleet.InstanceUID{}) {
			out.Results[i] = claimResult(fleet.ClaimResult{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedUIDLength})
			continue
		}
		claims, places = append(claims, claim(r, c, now)), append(places, i)
	}
	results, err := s.d.Store.Claim(ctx, claims)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	for i, place := range places {
		out.Results[place] = claimResult(results[i])
	}
	return out, nil
}

func claim(r *internalv1.ClaimSessionsRequest, c *internalv1.Claim, now time.Time) fleet.Claim {
	return fleet.Claim{
		Tenant: fleet.TenantID(c.GetTenant()), Identity: fleet.AgentID(c.GetAgentId()), Serial: fleet.Serial(c.GetSerial()),
		Fingerprint: fleet.Fingerprint(c.GetFingerprint()), UID: fleet.InstanceUID(c.GetInstanceUid()),
		Gateway: fleet.GatewayID(r.GetGatewayId()), BootID: r.GetBootId(), Transport: transport(c.GetTransport()),
		Peer: c.GetPeer(), Takeover: takeover(c.GetTakeover()), At: now,
	}
}

// FetchBody returns the clear bytes of a body: over this service alone, never over the bus.
func (s *Service) FetchBody(ctx context.Context, r *internalv1.FetchBodyRequest) (*internalv1.FetchBodyResponse, error) {
	hash, err := fleet.ContentHashFrom(r.GetHash())
	if err != nil {
		return nil, fault.New(fault.Invalid, "HASH_LENGTH", "a content hash has 32 bytes")
	}
	body, err := s.d.Content.Get(ctx, fleet.TenantID(r.GetTenant()), hash)
	if err != nil {
		return nil, fmt.Errorf("fetch body: %w", err)
	}
	return &internalv1.FetchBodyResponse{Body: body}, nil
}

// PutBodies stores bodies that reports name by hash.
func (s *Service) PutBodies(ctx context.Context, r *internalv1.PutBodiesRequest) (*internalv1.PutBodiesResponse, error) {
	for _, body := range r.GetBodies() {
		if len(body) > maxBody {
			return nil, fault.New(fault.Invalid, "BODY_TOO_LARGE", "a body has at most %d bytes", maxBody)
		}
	}
	if _, err := s.d.Content.Put(ctx, fleet.TenantID(r.GetTenant()), s.d.Now(), r.GetBodies()...); err != nil {
		return nil, fmt.Errorf("put bodies: %w", err)
	}
	return &internalv1.PutBodiesResponse{}, nil
}

// GetTrust returns what gateways verify with, or nothing but the version if they have it already.
func (s *Service) GetTrust(ctx context.Context, r *internalv1.GetTrustRequest) (*internalv1.GetTrustResponse, error) {
	tenants, err := s.d.Store.Tenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	out := &internalv1.GetTrustResponse{TrustDomain: s.d.TrustDomain, DownlinkKeys: s.d.Signer.Keys()}
	for _, t := range tenants {
		trust, err := s.tenantTrust(ctx, t.ID)
		if fault.Is(err, pki.ReasonNoAuthority) {
			continue // It has no agents that could come; the other tenants' must not wait for it.
		}
		if err != nil {
			return nil, fmt.Errorf("trust of tenant %s: %w", t.ID, err)
		}
		out.Tenants = append(out.Tenants, trust)
	}
	out.Version = trustVersion(out)
	if out.GetVersion() == r.GetVersion() {
		return &internalv1.GetTrustResponse{Version: out.GetVersion()}, nil
	}
	return out, nil
}

func (s *Service) tenantTrust(ctx context.Context, tenant fleet.TenantID) (*internalv1.TenantTrust, error) {
	bundle, err := s.d.Authority.Bundle(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	serials, err := s.d.Store.RevokedSerials(ctx, tenant, s.d.Now())
	if err != nil {
		return nil, fmt.Errorf("revoked serials: %w", err)
	}
	revoked := make([]string, 0, len(serials))
	for _, serial := range serials {
		revoked = append(revoked, string(serial))
	}
	slices.Sort(revoked)
	return &internalv1.TenantTrust{
		Tenant: string(tenant), RevokedSerials: revoked,
		RootsPem: pki.EncodePEM(bundle.Roots...), IntermediatesPem: pki.EncodePEM(bundle.Intermediates...),
	}, nil
}

// trustVersion is a digest of the content: equal content has one version on every replica.
func trustVersion(t *internalv1.GetTrustResponse) string {
	h := sha256.New()
	field := func(b []byte) { fmt.Fprintf(h, "%d:%s", len(b), b) }
	field([]byte(t.GetTrustDomain()))
	ids := make([]string, 0, len(t.GetDownlinkKeys()))
	for id := range t.GetDownlinkKeys() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		field([]byte(id))
		field(t.GetDownlinkKeys()[id])
	}
	for _, tenant := range t.GetTenants() {
		field([]byte(tenant.GetTenant()))
		field(bytes.Join([][]byte{tenant.GetRootsPem(), tenant.GetIntermediatesPem()}, []byte{0}))
		for _, serial := range tenant.GetRevokedSerials() {
			field([]byte(serial))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
