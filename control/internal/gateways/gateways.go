// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package gateways is control as gateways see it: the internal service, for whatever must be answered and for every
// secret. Handlers decode, call and encode; errors are mapped by the interceptor they are served under.
//
// It guarantees that a gateway acts in its own name and for the tenants it may serve alone, whatever its requests say:
// who calls is known from its certificate, by the gate in front of the handlers ([Gate]; [InProcess] where gateway and
// control plane are one process).
package gateways

import (
	"context"
	"fmt"
	"log/slog"
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
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// leaseLife is how long a gateway may be silent before its sessions are unknown.
const leaseLife = 30 * time.Second

// maxBody bounds one body that a gateway may store: the largest message an agent may send.
const maxBody = 10 << 20

// Store is what the service reads and writes itself.
type Store interface {
	store.Sessions
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
	RevokedSince(ctx context.Context, tenant fleet.TenantID, number int64, now time.Time, max int) (fleet.Revocations, error)
}

// Deps is what the service needs.
type Deps struct {
	Store     Store
	Gateways  store.Gateways
	Enrolment *enrolment.Enrolment
	Authority *pki.Authority
	Content   *content.Content
	Signer    *outbox.Signer
	Bus       bus.Bus
	Log       *slog.Logger
	// UplinkKey is the key with which a gateway process seals what it says.
	UplinkKey   func(gateway fleet.GatewayID, boot uint64) uplink.Key
	TrustDomain string
	// Line names the count by which revocations are numbered.
	Line string
	Now  func() time.Time
}

// Service implements ampora.internal.v1.GatewayService.
type Service struct {
	d         Deps
	trustPage int
}

// New returns the service.
func New(d Deps) *Service { return &Service{d: d, trustPage: trustPage} }

// Register records the gateway process and gives it its lease.
func (s *Service) Register(ctx context.Context, r *internalv1.RegisterRequest) (*internalv1.RegisterResponse, error) {
	if _, err := as(ctx, r.GetGatewayId()); err != nil {
		return nil, err
	}
	now := s.d.Now()
	err := s.d.Store.RegisterGateway(ctx, fleet.Gateway{
		ID: fleet.GatewayID(r.GetGatewayId()), BootID: r.GetBootId(), Version: r.GetVersion(), StartedAt: now, LeaseUntil: now.Add(leaseLife),
	})
	if err != nil {
		return nil, fmt.Errorf("register gateway: %w", err)
	}
	key := s.d.UplinkKey(fleet.GatewayID(r.GetGatewayId()), r.GetBootId())
	return &internalv1.RegisterResponse{Lease: durationpb.New(leaseLife), UplinkKey: key[:], Now: timestamppb.New(now)}, nil
}

// RenewLease prolongs the lease.
func (s *Service) RenewLease(ctx context.Context, r *internalv1.RenewLeaseRequest) (*internalv1.RenewLeaseResponse, error) {
	if _, err := as(ctx, r.GetGatewayId()); err != nil {
		return nil, err
	}
	now := s.d.Now()
	err := s.d.Store.RenewLease(ctx, store.Renewal{
		Gateway: fleet.GatewayID(r.GetGatewayId()), BootID: r.GetBootId(), Now: now, Until: now.Add(leaseLife), BusLost: r.GetBusLost(), Trust: r.GetTrustGeneration(),
	})
	if err != nil {
		return nil, fmt.Errorf("renew lease: %w", err)
	}
	return &internalv1.RenewLeaseResponse{Lease: durationpb.New(leaseLife), Now: timestamppb.New(now)}, nil
}

// CheckBootstrapToken says whether a token may enrol.
func (s *Service) CheckBootstrapToken(ctx context.Context, r *internalv1.CheckBootstrapTokenRequest) (*internalv1.CheckBootstrapTokenResponse, error) {
	by, err := as(ctx, r.GetGatewayId())
	if err != nil {
		return nil, err
	}
	tenant, err := s.d.Enrolment.Check(ctx, enrolment.Presented{
		Secret: r.GetToken(), Gateway: fleet.GatewayID(r.GetGatewayId()), Scope: by.scope, Peer: r.GetPeer(),
	})
	if err != nil {
		return nil, err
	}
	return &internalv1.CheckBootstrapTokenResponse{Tenant: string(tenant)}, nil
}

// Enroll redeems a token.
func (s *Service) Enroll(ctx context.Context, r *internalv1.EnrollRequest) (*internalv1.EnrollResponse, error) {
	by, err := as(ctx, r.GetGatewayId())
	if err != nil {
		return nil, err
	}
	method, err := enrolmentMethod(r.GetMethod())
	if err != nil {
		return nil, err
	}
	id, err := s.d.Enrolment.Enrol(ctx, enrolment.Request{
		Presented: enrolment.Presented{Secret: r.GetToken(), Gateway: fleet.GatewayID(r.GetGatewayId()), Scope: by.scope, Peer: r.GetPeer()},
		CSR:       r.GetCsrPem(), Method: method,
	})
	if err != nil {
		return nil, err
	}
	return &internalv1.EnrollResponse{
		AgentId: string(id.Agent), Tenant: string(id.Tenant), CertificateChainPem: id.ChainPEM, CaPem: id.CAPEM,
		NotAfter: timestamppb.New(id.NotAfter),
	}, nil
}

// Renew certifies a new key of an agent.
func (s *Service) Renew(ctx context.Context, r *internalv1.RenewRequest) (*internalv1.RenewResponse, error) {
	if _, err := as(ctx, r.GetGatewayId()); err != nil {
		return nil, err
	}
	if err := in(ctx, r.GetTenant()); err != nil {
		return nil, err
	}
	id, err := s.d.Enrolment.Renew(ctx, enrolment.Renewal{
		Tenant: fleet.TenantID(r.GetTenant()), Agent: fleet.AgentID(r.GetAgentId()), Serial: fleet.Serial(r.GetSerial()),
		Fingerprint: fleet.Fingerprint(r.GetFingerprint()), CSR: r.GetCsrPem(), Offer: fleet.Generation(r.GetOffer()),
		Gateway: fleet.GatewayID(r.GetGatewayId()), Peer: r.GetPeer(),
	})
	if err != nil {
		return nil, err
	}
	return &internalv1.RenewResponse{CertificateChainPem: id.ChainPEM, CaPem: id.CAPEM, NotAfter: timestamppb.New(id.NotAfter)}, nil
}

// FetchBody returns the clear bytes of a body: over this service alone, never over the bus.
func (s *Service) FetchBody(ctx context.Context, r *internalv1.FetchBodyRequest) (*internalv1.FetchBodyResponse, error) {
	if err := in(ctx, r.GetTenant()); err != nil {
		return nil, err
	}
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
	if err := in(ctx, r.GetTenant()); err != nil {
		return nil, err
	}
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
