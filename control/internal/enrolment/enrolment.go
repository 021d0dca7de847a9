// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package enrolment turns a bootstrap token and a certificate request into an identity, once, or brings one back that exists,
// and turns a certificate of an identity into its next one.
//
// The token is checked, the certificate is signed outside of any transaction (a key service may take seconds), and one
// transaction then consumes the token and records identity, certificate and audit. A crash in between leaves a
// certificate that was never recorded and is therefore never admitted. Until the identity is seen with it over mTLS, and
// for fleet.RedemptionWindow at most, the same token with the same public key is given the same certificate again:
// a lost answer costs the agent nothing. With any other key the token is dead.
package enrolment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/gather"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
)

// Reasons for which a token is refused. Gateways log and count them; agents are told nothing but 401.
const (
	ReasonMalformed = "TOKEN_MALFORMED"
	ReasonTruncated = "TOKEN_TRUNCATED"
	ReasonUnknown   = "TOKEN_UNKNOWN"
	ReasonExpired   = "TOKEN_EXPIRED"
	ReasonRevoked   = "TOKEN_REVOKED"
	ReasonRedeemed  = "TOKEN_REDEEMED"
	// ReasonElsewhere: the gateway may not serve the token's tenant.
	ReasonElsewhere = "TOKEN_OF_ANOTHER_TENANT"
)

// Store is what enrolment keeps.
type Store interface {
	store.Enrolment
	store.Certificates
	Agent(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (fleet.Agent, error)
	RecordRefusal(ctx context.Context, r fleet.Refusal) error
}

// Enrolment redeems bootstrap tokens. Those of a moment are looked up by one query and redeemed in one transaction:
// thousands of agents start at once.
type Enrolment struct {
	store  Store
	find   *gather.Gatherer[[sha256.Size]byte, *fleet.BootstrapToken]
	redeem *gather.Gatherer[store.Redemption, error]
	pki    *pki.Authority
	log    *slog.Logger
	now    func() time.Time
}

// New returns an Enrolment.
func New(s Store, authority *pki.Authority, log *slog.Logger, now func() time.Time) *Enrolment {
	find := func(ctx context.Context, hashes [][sha256.Size]byte) ([]*fleet.BootstrapToken, error) {
		found, err := s.BootstrapTokensByHash(ctx, hashes...)
		tokens := make([]*fleet.BootstrapToken, len(hashes))
		for i, hash := range hashes {
			if t, is := found[hash]; is {
				tokens[i] = &t
			}
		}
		return tokens, err
	}
	redeem := func(ctx context.Context, list []store.Redemption) ([]error, error) { return s.Redeem(ctx, list), nil }
	// Few calls at a time, which gather what comes meanwhile; who is alone waits for a moment that nobody notices.
	bound := gather.Bound{Waiting: 8192, Size: 250, Parallel: 2, Moment: time.Millisecond, Timeout: 10 * time.Second}
	return &Enrolment{store: s, find: gather.New(bound, find), redeem: gather.New(bound, redeem), pki: authority, log: log, now: now}
}

// Run looks up and redeems what Check and Enrol ask for until the context ends.
func (e *Enrolment) Run(ctx context.Context) error {
	return run.All(ctx, run.Task{Name: "find tokens", Run: e.find.Run}, run.Task{Name: "redeem tokens", Run: e.redeem.Run})
}

// Presented is a token and where it was presented.
type Presented struct {
	Secret  string // the token's text
	Gateway fleet.GatewayID
	Scope   fleet.Scope // of the gateway: a token of another tenant is none here
	Peer    string
}

// Request asks for an identity.
type Request struct {
	Presented
	CSR    []byte // PKCS #10, PEM
	Method fleet.EnrolmentMethod
}

// Identity is what an agent is given.
type Identity struct {
	Tenant   fleet.TenantID
	Agent    fleet.AgentID
	ChainPEM []byte
	CAPEM    []byte
	NotAfter time.Time
}

// Check says, while Run runs, for which tenant a token may enrol, without using it up. Errors are faults of kind Unauthenticated with
// one of this package's reasons, or with that for which the identity may not come back that the token is for.
func (e *Enrolment) Check(ctx context.Context, p Presented) (fleet.TenantID, error) {
	token, err := e.token(ctx, p)
	if err != nil {
		return "", err
	}
	return token.Tenant, nil
}

// Enrol redeems a token, while Run runs. Besides Check's errors it answers those of pki.CheckCSR and pki.Authority.Issue.
func (e *Enrolment) Enrol(ctx context.Context, r Request) (Identity, error) {
	token, err := e.token(ctx, r.Presented)
	if err != nil {
		return Identity{}, err
	}
	csr, err := pki.CheckCSR(r.CSR)
	if err != nil {
		e.recordRefusal(ctx, fleet.Refusal{
			By: e.by(token.Tenant, r.Presented, e.now()), Action: actionEnrol, Reason: fault.From(err).Reason, Entity: string(token.ID),
		})
		return Identity{}, err
	}
	key := csr.KeyHash()
	if token.State(e.now()) == fleet.TokenRedeemed {
		return e.again(ctx, token, key, r)
	}
	now := e.now()
	agent := cmp.Or(token.For, fleet.AgentID(identity.NewAgentID()))
	leaf, err := e.pki.Issue(ctx, pki.LeafRequest{Tenant: token.Tenant, Agent: agent, CSR: csr, Now: now})
	if err != nil {
		err = e.unsigned(ctx, fleet.Refusal{By: e.by(token.Tenant, r.Presented, now), Action: actionEnrol, Entity: string(token.ID)}, err)
		return Identity{}, fmt.Errorf("enrol: %w", err)
	}
	certificate := record(token.Tenant, agent, leaf, key, now)
	reason, err := e.record(ctx, token, store.Redemption{
		By: e.by(token.Tenant, r.Presented, now), Token: token.ID, Agent: agent, Method: r.Method, Certificate: certificate,
		Partition: bus.PartitionOf(identity.AgentID(agent)),
	})
	switch {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrState):
		// Somebody redeemed or revoked it while we signed. If that was the same agent asking twice, it gets what was recorded.
		if token, err = e.token(ctx, r.Presented); err != nil {
			return Identity{}, err
		}
		return e.again(ctx, token, key, r)
	case err != nil:
		return Identity{}, fmt.Errorf("enrol: %w", busy(err))
	case reason != "":
		return Identity{}, e.refuse(ctx, token, reason, r.Presented)
	}
	e.log.InfoContext(ctx, "agent enrolled", "tenant", token.Tenant, "agent", agent, "token", token.ID, "method", r.Method,
		"returned", token.For != "", "peer", r.Peer)
	return e.identity(ctx, certificate)
}

// record spends the token for a new identity, or for the one that it is for. The reason says why that may not come back.
func (e *Enrolment) record(ctx context.Context, token fleet.BootstrapToken, r store.Redemption) (reason string, err error) {
	if token.For != "" {
		return e.store.Return(ctx, r)
	}
	refused, err := e.redeem.Do(ctx, r)
	return "", cmp.Or(err, refused)
}

// busy says of a queue that is full what it means to callers: come again.
func busy(err error) error {
	if errors.Is(err, gather.ErrFull) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// record is a certificate as it is kept.
func record(tenant fleet.TenantID, agent fleet.AgentID, leaf pki.Leaf, key [sha256.Size]byte, now time.Time) fleet.Certificate {
	return fleet.Certificate{
		Tenant: tenant, Serial: leaf.Serial, Fingerprint: leaf.Fingerprint, Agent: agent, Key: leaf.KeyID,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, DER: leaf.CertificateDER, ChainPEM: leaf.ChainPEM, PublicKey: key, CreatedAt: now,
	}
}

// again answers a redeemed token: the recorded certificate for the same key, nothing for any other.
func (e *Enrolment) again(ctx context.Context, token fleet.BootstrapToken, key [sha256.Size]byte, r Request) (Identity, error) {
	if subtle.ConstantTimeCompare(token.PublicKey[:], key[:]) != 1 {
		return Identity{}, e.refuse(ctx, token, ReasonRedeemed, r.Presented)
	}
	certificate, err := e.store.Certificate(ctx, token.Tenant, token.Serial)
	if err != nil {
		return Identity{}, fmt.Errorf("enrol again: %w", err)
	}
	e.log.InfoContext(ctx, "agent is given its certificate again", "tenant", token.Tenant, "agent", token.Agent, "token", token.ID, "peer", r.Peer)
	return e.identity(ctx, certificate)
}

func (e *Enrolment) identity(ctx context.Context, c fleet.Certificate) (Identity, error) {
	bundle, err := e.pki.Bundle(ctx, c.Tenant)
	if err != nil {
		return Identity{}, fmt.Errorf("enrol: %w", err)
	}
	return Identity{Tenant: c.Tenant, Agent: c.Agent, ChainPEM: c.ChainPEM, CAPEM: bundle.PEM, NotAfter: c.NotAfter}, nil
}

// token finds the token behind a secret if it may still enrol: live, with the identity that it is for free to come back; or
// redeemed a moment ago by an agent that was not seen since.
func (e *Enrolment) token(ctx context.Context, p Presented) (fleet.BootstrapToken, error) {
	parsed, err := identity.ParseToken(identity.BootstrapToken, p.Secret)
	switch {
	case errors.Is(err, identity.ErrTokenTruncated):
		return fleet.BootstrapToken{}, refusal(ReasonTruncated)
	case err != nil:
		return fleet.BootstrapToken{}, refusal(ReasonMalformed)
	}
	hash := parsed.Hash()
	found, err := e.find.Do(ctx, hash)
	if err != nil {
		return fleet.BootstrapToken{}, fmt.Errorf("enrolment token: %w", busy(err))
	}
	if found == nil {
		return fleet.BootstrapToken{}, refusal(ReasonUnknown)
	}
	token := *found
	if subtle.ConstantTimeCompare(token.Hash[:], hash[:]) != 1 {
		return fleet.BootstrapToken{}, refusal(ReasonUnknown)
	}
	if !p.Scope.Serves(token.Tenant) {
		return fleet.BootstrapToken{}, e.refuse(ctx, token, ReasonElsewhere, p)
	}
	if reason, err := e.spent(ctx, token); err != nil || reason != "" {
		if err != nil {
			return fleet.BootstrapToken{}, err
		}
		return fleet.BootstrapToken{}, e.refuse(ctx, token, reason, p)
	}
	return token, nil
}

// spent names the reason why a token may not enrol any more, empty if it may.
func (e *Enrolment) spent(ctx context.Context, token fleet.BootstrapToken) (string, error) {
	now := e.now()
	switch token.State(now) {
	case fleet.TokenLive:
		return e.barred(ctx, token, now)
	case fleet.TokenExpired:
		return ReasonExpired, nil
	case fleet.TokenRevoked:
		return ReasonRevoked, nil
	case fleet.TokenRedeemed:
	}
	if !now.Before(token.RedeemedAt.Add(fleet.RedemptionWindow)) {
		return ReasonRedeemed, nil
	}
	agent, err := e.store.Agent(ctx, token.Tenant, token.Agent)
	if err != nil {
		return "", fmt.Errorf("enrolment token: %w", err)
	}
	if token.Seen(agent) {
		return ReasonRedeemed, nil
	}
	return "", nil
}

// barred names the reason why the identity that a live token is for may not come back, which costs no signature.
func (e *Enrolment) barred(ctx context.Context, token fleet.BootstrapToken, now time.Time) (string, error) {
	if token.For == "" {
		return "", nil
	}
	reason, err := e.store.Returnable(ctx, fleet.Return{Tenant: token.Tenant, Agent: token.For, Replaces: token.Replaces, At: now})
	if err != nil {
		return "", fmt.Errorf("enrolment token: %w", err)
	}
	return reason, nil
}

// refuse counts a refusal of a token that exists, and returns it.
func (e *Enrolment) refuse(ctx context.Context, token fleet.BootstrapToken, reason string, p Presented) error {
	e.recordRefusal(ctx, fleet.Refusal{By: e.by(token.Tenant, p, e.now()), Action: actionEnrol, Reason: reason, Entity: string(token.ID)})
	return refusal(reason)
}

// unsigned puts on record that nothing was signed because of the key service, and returns why.
func (e *Enrolment) unsigned(ctx context.Context, r fleet.Refusal, why error) error {
	r.Reason = fault.From(why).Reason
	if r.Reason == pki.ReasonKMSUnavailable || r.Reason == pki.ReasonKMSWrongKey {
		e.recordRefusal(ctx, r)
	}
	return why
}

// What is refused, in the audit log.
const (
	actionEnrol = "agent.enrol"
	actionRenew = "agent.renew_certificate"
)

// recordRefusal counts a refusal, which stands also where that fails.
func (e *Enrolment) recordRefusal(ctx context.Context, r fleet.Refusal) {
	if err := e.store.RecordRefusal(ctx, r); err != nil {
		e.log.WarnContext(ctx, "a refusal could not be recorded", "action", r.Action, "entity", r.Entity, "reason", r.Reason, "error", err)
	}
}

func (e *Enrolment) by(tenant fleet.TenantID, p Presented, now time.Time) fleet.By {
	return fleet.By{
		Principal: fleet.Principal{Kind: fleet.PrincipalGateway, ID: string(p.Gateway), Name: string(p.Gateway), Tenant: tenant},
		Tenant:    tenant, At: now, Source: p.Peer,
	}
}

func refusal(reason string) error {
	return fault.New(fault.Unauthenticated, reason, "the bootstrap token is not accepted")
}
