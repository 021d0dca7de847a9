// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrolment

import (
	"context"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Renewal asks for a certificate of a new key for an agent that showed one which the gateway verified.
type Renewal struct {
	Tenant      fleet.TenantID
	Agent       fleet.AgentID
	Serial      fleet.Serial
	Fingerprint fleet.Fingerprint
	CSR         []byte           // PKCS #10, PEM
	Offer       fleet.Generation // that it is for; 0: the agent asks by itself
	Gateway     fleet.GatewayID
	Peer        string
}

// Renew certifies a new key of an agent. The certificate that it showed stays good: the agent may lose the answer, and
// comes back with it. Errors are faults with the reasons of fleet.RenewalVerdict, those of pki.CheckCSR and of
// pki.Authority.Issue.
func (e *Enrolment) Renew(ctx context.Context, r Renewal) (Identity, error) {
	now := e.now()
	by := e.by(r.Tenant, Presented{Gateway: r.Gateway, Peer: r.Peer}, now)
	csr, err := pki.CheckCSR(r.CSR)
	if err != nil {
		e.recordRefusal(ctx, fleet.Refusal{By: by, Action: actionRenew, Reason: fault.From(err).Reason, Entity: string(r.Agent)})
		return Identity{}, err
	}
	asked := fleet.CertificateRenewal{
		Tenant: r.Tenant, Agent: r.Agent, Serial: r.Serial, Fingerprint: r.Fingerprint,
		PublicKey: csr.KeyHash(), Offer: r.Offer, At: now,
	}
	verdict, err := e.store.Renewable(ctx, asked)
	if err != nil {
		return Identity{}, fmt.Errorf("renew: %w", err)
	}
	if !verdict.Open() { // which costs no signature
		return e.renewed(ctx, by, asked, verdict)
	}
	leaf, err := e.pki.Issue(ctx, pki.LeafRequest{Tenant: r.Tenant, Agent: r.Agent, CSR: csr, Now: now})
	if err != nil {
		err = e.unsigned(ctx, fleet.Refusal{By: by, Action: actionRenew, Entity: string(r.Agent)}, err)
		return Identity{}, fmt.Errorf("renew: %w", err)
	}
	certificate := record(r.Tenant, r.Agent, leaf, asked.PublicKey, now)
	if verdict, err = e.store.Renew(ctx, by, asked, certificate); err != nil {
		return Identity{}, fmt.Errorf("renew: %w", err)
	}
	if !verdict.Open() {
		return e.renewed(ctx, by, asked, verdict)
	}
	e.log.InfoContext(ctx, "agent's certificate renewed", "tenant", r.Tenant, "agent", r.Agent, "serial", certificate.Serial,
		"shown", r.Serial, "not_after", certificate.NotAfter, "peer", r.Peer)
	return e.identity(ctx, certificate)
}

// renewed answers a renewal for which no certificate is made: the one that the key was given before, or a refusal.
func (e *Enrolment) renewed(ctx context.Context, by fleet.By, asked fleet.CertificateRenewal, verdict fleet.RenewalVerdict) (Identity, error) {
	if verdict.Given != nil {
		return e.identity(ctx, *verdict.Given)
	}
	e.recordRefusal(ctx, fleet.Refusal{By: by, Action: actionRenew, Reason: verdict.Reason, Entity: string(asked.Agent)})
	switch verdict.Reason {
	case fleet.RefusedKeyNotNew:
		return Identity{}, fault.New(fault.Invalid, verdict.Reason, "the key is not newer than the certificate: make a new one")
	case fleet.RefusedTooOften:
		return Identity{}, fault.New(fault.ResourceExhausted, verdict.Reason, "%d certificates were made for this agent within %s",
			fleet.RenewalLimit, fleet.RenewalWindow)
	case fleet.RefusedNoOffer:
		return Identity{}, fault.New(fault.FailedPrecondition, verdict.Reason, "no certificate is to be made for this offer, or it has one")
	default:
		return Identity{}, fault.New(fault.PermissionDenied, verdict.Reason, "the certificate does not stand")
	}
}
