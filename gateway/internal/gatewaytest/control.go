// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package gatewaytest gives tests the two sides that a gateway stands between: a
// control plane and agents.
//
// [Control] is an implementation of the internal service in memory. It stands at a
// process boundary and keeps state, to be looked at; it does not record calls. It is
// not the control plane: it decides as the contract in gateway.proto says and knows
// nothing beyond it. The real one meets the gateway in the end-to-end tests of
// loadtest. [Agent] speaks OpAMP over a real socket, byte for byte, so that it can
// also speak it badly.
package gatewaytest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectinprocess"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/downlink"
	"gitlab.com/ampora/ampora/shared/identity"
)

// TrustDomain is that of every identity here.
const TrustDomain = "ampora.test"

// Session is what the control plane has of a session.
type Session struct {
	Epoch     uint64
	Gateway   string
	UID       identity.InstanceUID
	Transport internalv1.Transport
	Takeover  internalv1.Takeover
	Serial    string
	Sequence  uint64
	Known     bool
}

// Control is a control plane in memory.
type Control struct {
	internalv1connect.UnimplementedGatewayServiceHandler

	t       testing.TB
	signing ed25519.PrivateKey
	secret  []byte // of uplink keys

	mu        sync.Mutex
	bus       bus.Bus // nil: no marks are read, and nobody is pinged
	ahead     time.Duration
	boots     map[string]uint64 // by gateway
	busLost   map[string]bool   // by gateway
	down      bool
	lease     time.Duration
	onClaim   func() // before the next claims are answered
	told      int    // the version last given out
	failing   int    // claims that fail
	lost      bool
	expelled  bool // every lease is refused
	contested int  // claims that found a session open
	renewals  int
	offers    map[string]bool // agent/number, that have their certificate
	onRenew   func()          // before the next renewals are answered
	version   int
	epoch     uint64
	tenants   map[identity.TenantID]*Authority
	revoked   map[identity.TenantID][]string
	recorded  map[string]bool // tenant/serial
	tokens    map[string]*token
	sessions  map[string]*Session // tenant/agent
	children  map[string]identity.AgentID
	parents   map[identity.AgentID]bool
	uids      map[identity.InstanceUID]string
	bodies    map[[32]byte][]byte
}

type token struct {
	tenant identity.TenantID
	key    []byte // of the request that redeemed it
	issued *internalv1.EnrollResponse
}

// NewControl makes a control plane without tenants.
func NewControl(t testing.TB) *Control {
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Control{
		t: t, signing: signing, secret: []byte(rand.Text()), lease: 30 * time.Second, version: 1,
		offers: make(map[string]bool), boots: make(map[string]uint64), busLost: make(map[string]bool),
		tenants: make(map[identity.TenantID]*Authority), revoked: make(map[identity.TenantID][]string),
		recorded: make(map[string]bool), tokens: make(map[string]*token), sessions: make(map[string]*Session),
		children: make(map[string]identity.AgentID), parents: make(map[identity.AgentID]bool),
		uids: make(map[identity.InstanceUID]string), bodies: make(map[[32]byte][]byte),
	}
}

// Client calls the control plane in process, through the generated code.
func (c *Control) Client() internalv1connect.GatewayServiceClient {
	server := connect.NewServer()
	internalv1connect.RegisterGatewayServiceHandler(server, c)
	return internalv1connect.NewGatewayServiceClient(connect.NewClient(connectinprocess.New(server)))
}

// AddTenant gives a tenant an authority of its own, or another one.
func (c *Control) AddTenant(id identity.TenantID) *Authority {
	authority := NewAuthority(c.t, string(id))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenants[id] = authority
	c.version++
	return authority
}

// Authority is the authority of a tenant.
func (c *Control) Authority(id identity.TenantID) *Authority {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tenants[id]
}

// AddAgent records an agent and returns its certificate.
func (c *Control) AddAgent(tenant identity.TenantID) (identity.Agent, tls.Certificate) {
	agent := identity.Agent{TrustDomain: TrustDomain, Tenant: tenant, ID: identity.NewAgentID()}
	return agent, c.Certify(agent, time.Hour)
}

// Certify records another certificate of an agent, valid for as long as is said.
func (c *Control) Certify(agent identity.Agent, valid time.Duration) tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	certificate := c.tenants[agent.Tenant].Issue(agent.URI(), valid)
	c.recorded[record(agent.Tenant, certificate)] = true
	return certificate
}

// Strike takes a certificate off the record.
func (c *Control) Strike(tenant identity.TenantID, certificate tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.recorded, record(tenant, certificate))
}

func record(tenant identity.TenantID, certificate tls.Certificate) string {
	return string(tenant) + "/" + string(identity.SerialOf(certificate.Leaf.SerialNumber))
}

// AllowChildren lets an identity carry agents beside itself.
func (c *Control) AllowChildren(agent identity.Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parents[agent.ID] = true
}

// AddToken issues a bootstrap token.
func (c *Control) AddToken(tenant identity.TenantID) identity.Token {
	issued := identity.NewToken(identity.BootstrapToken)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[issued.Reveal()] = &token{tenant: tenant}
	return issued
}

// Revoke puts a serial on the tenant's list.
func (c *Control) Revoke(tenant identity.TenantID, certificate tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked[tenant] = append(c.revoked[tenant], string(identity.SerialOf(certificate.Leaf.SerialNumber)))
	c.version++
}

// OnClaim sets what happens once between the next claim and its answer.
func (c *Control) OnClaim(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onClaim = do
}

// FailClaims makes the next calls for claims fail.
func (c *Control) FailClaims(calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = calls
}

// Told says whether the present trust was given out.
func (c *Control) Told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told == c.version
}

// SetDown makes every call fail with UNAVAILABLE, or ends that.
func (c *Control) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// Session returns what is recorded of an agent's session.
func (c *Control) Session(agent identity.Agent) (Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[string(agent.Tenant)+"/"+string(agent.ID)]
	if s == nil {
		return Session{}, false
	}
	return *s, true
}

// SetState records that an agent's state is known up to a sequence number.
func (c *Control) SetState(agent identity.Agent, sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[string(agent.Tenant)+"/"+string(agent.ID)] = &Session{Sequence: sequence, Known: true}
}

// EndSession forgets that a session is open.
func (c *Control) EndSession(agent identity.Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sessions[string(agent.Tenant)+"/"+string(agent.ID)]; s != nil {
		s.Gateway = ""
	}
}

// Body returns a stored body.
func (c *Control) Body(hash []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodies[[32]byte(hash)]
}

// AddBody stores a body and returns its hash.
func (c *Control) AddBody(body []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := sha256.Sum256(body)
	c.bodies[hash] = body
	return hash[:]
}

// ReplaceBody stores a body under a hash that is not its own.
func (c *Control) ReplaceBody(hash, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies[[32]byte(hash)] = body
}

// Sign makes a downlink as it stands in a gateway's stream.
func (c *Control) Sign(asked *relayv1.Downlink) []byte {
	payload, err := proto.Marshal(asked)
	if err != nil {
		c.t.Fatal(err)
	}
	signed, err := proto.Marshal(&relayv1.SignedDownlink{
		Downlink: payload, KeyId: "k1", Signature: downlink.Sign(c.signing, payload),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return signed
}

func (c *Control) enter() (func(), error) {
	c.mu.Lock()
	if c.down {
		c.mu.Unlock()
		return nil, connect.NewError(connect.CodeUnavailable, "down")
	}
	return c.mu.Unlock, nil
}

var errToken = connect.NewError(connect.CodeUnauthenticated, "the token is not valid")

// CheckBootstrapToken implements the service.
func (c *Control) CheckBootstrapToken(_ context.Context, r *internalv1.CheckBootstrapTokenRequest) (*internalv1.CheckBootstrapTokenResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	known := c.tokens[r.GetToken()]
	if known == nil {
		return nil, errToken
	}
	return &internalv1.CheckBootstrapTokenResponse{Tenant: string(known.tenant)}, nil
}

// Enroll implements the service.
func (c *Control) Enroll(_ context.Context, r *internalv1.EnrollRequest) (*internalv1.EnrollResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	known := c.tokens[r.GetToken()]
	if known == nil {
		return nil, errToken
	}
	request, err := parseRequest(r.GetCsrPem())
	if err != nil {
		return nil, err
	}
	switch {
	case known.issued != nil && string(known.key) == string(request.RawSubjectPublicKeyInfo):
		return known.issued, nil
	case known.issued != nil:
		return nil, errToken
	}
	agent := identity.Agent{TrustDomain: TrustDomain, Tenant: known.tenant, ID: identity.NewAgentID()}
	authority := c.tenants[known.tenant]
	leaf := authority.sign(request.PublicKey, agent.URI(), time.Hour)
	c.recorded[string(known.tenant)+"/"+string(identity.SerialOf(leaf.SerialNumber))] = true
	known.key = request.RawSubjectPublicKeyInfo
	known.issued = &internalv1.EnrollResponse{
		AgentId: string(agent.ID), Tenant: string(agent.Tenant), NotAfter: timestamppb.New(leaf.NotAfter),
		CertificateChainPem: encode(leaf.Raw), CaPem: authority.RootPEM(),
	}
	return known.issued, nil
}

func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, "no PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, "no certificate request")
	}
	if request.CheckSignature() != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, "not signed by its key")
	}
	return request, nil
}

// OnRenew lets something happen before each renewal from now on is answered.
func (c *Control) OnRenew(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onRenew = do
}

// Renewals is how many certificates agents were given in the place of others.
func (c *Control) Renewals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewals
}

// Renew implements the service. For an offer there is one certificate. A certificate that was struck off the record renews nothing.
func (c *Control) Renew(_ context.Context, r *internalv1.RenewRequest) (*internalv1.RenewResponse, error) {
	c.mu.Lock()
	before := c.onRenew
	c.mu.Unlock()
	if before != nil {
		before()
	}
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	request, err := parseRequest(r.GetCsrPem())
	if err != nil {
		return nil, err
	}
	if !c.recorded[r.GetTenant()+"/"+r.GetSerial()] {
		return nil, connect.NewError(connect.CodePermissionDenied, "the certificate does not stand")
	}
	offer := fmt.Sprint(r.GetAgentId(), "/", r.GetOffer())
	if r.GetOffer() > 0 && c.offers[offer] {
		return nil, connect.NewError(connect.CodeFailedPrecondition, "it has its certificate")
	}
	c.offers[offer] = true
	c.renewals++
	agent := identity.Agent{TrustDomain: TrustDomain, Tenant: identity.TenantID(r.GetTenant()), ID: identity.AgentID(r.GetAgentId())}
	authority := c.tenants[agent.Tenant]
	leaf := authority.sign(request.PublicKey, agent.URI(), time.Hour)
	c.recorded[r.GetTenant()+"/"+string(identity.SerialOf(leaf.SerialNumber))] = true
	return &internalv1.RenewResponse{CertificateChainPem: encode(leaf.Raw), CaPem: authority.RootPEM(), NotAfter: timestamppb.New(leaf.NotAfter)}, nil
}

// FetchBody implements the service.
func (c *Control) FetchBody(_ context.Context, r *internalv1.FetchBodyRequest) (*internalv1.FetchBodyResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	body, found := c.bodies[[32]byte(r.GetHash())]
	if !found {
		return nil, connect.NewError(connect.CodeNotFound, "no such body")
	}
	return &internalv1.FetchBodyResponse{Body: body}, nil
}

// PutBodies implements the service.
func (c *Control) PutBodies(_ context.Context, r *internalv1.PutBodiesRequest) (*internalv1.PutBodiesResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	for _, body := range r.GetBodies() {
		c.bodies[sha256.Sum256(body)] = body
	}
	return &internalv1.PutBodiesResponse{}, nil
}

// GetTrust implements the service.
func (c *Control) GetTrust(_ context.Context, r *internalv1.GetTrustRequest) (*internalv1.GetTrustResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	c.told = c.version
	response := &internalv1.GetTrustResponse{Version: fmt.Sprint(c.version), TrustDomain: TrustDomain}
	if r.GetVersion() == response.GetVersion() {
		return response, nil
	}
	response.DownlinkKeys = map[string][]byte{"k1": c.signing.Public().(ed25519.PublicKey)}
	for id, authority := range c.tenants {
		response.Tenants = append(response.Tenants, &internalv1.TenantTrust{Tenant: string(id), RootsPem: authority.RootPEM(), RevokedSerials: c.revoked[id], Whole: true})
	}
	return response, nil
}
