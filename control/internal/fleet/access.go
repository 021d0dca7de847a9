// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Role is what a principal may do inside one tenant; each includes the ones before it.
type Role int

// The roles, weakest first.
const (
	RoleNone Role = iota
	RoleViewer
	RoleOperator
	RoleAdmin
)

func (r Role) String() string {
	return [...]string{"none", "viewer", "operator", "admin"}[max(RoleNone, min(r, RoleAdmin))]
}

// PrincipalKind says what sort of actor a principal is.
type PrincipalKind string

// The kinds of principal.
const (
	PrincipalAPIToken    PrincipalKind = "api_token"
	PrincipalDevelopment PrincipalKind = "development"
	PrincipalAgent       PrincipalKind = "agent"
	PrincipalGateway     PrincipalKind = "gateway"
	PrincipalTokenPool   PrincipalKind = "token_pool"
	PrincipalSystem      PrincipalKind = "system"
)

// Principal is who acts.
type Principal struct {
	Kind   PrincipalKind
	ID     string
	Name   string
	Tenant TenantID
	Role   Role
	// Procedures narrows an API token to these full procedure names; empty means all its role may call.
	Procedures []string
}

// By says who caused a change, for which tenant, when and from where. Every store method that changes something takes
// one and writes the audit event out of it, in the transaction of the change.
type By struct {
	Principal Principal
	Tenant    TenantID
	At        time.Time
	// Source is the address of the caller, if it came over a network.
	Source  string
	TraceID string
	// Trace is where what follows from the change goes on, if it is recorded.
	Trace Traceparent
}

// System is the principal of what Ampora does by itself.
func System(tenant TenantID, at time.Time) By {
	return By{Principal: Principal{Kind: PrincipalSystem, ID: "ampora", Name: "ampora", Tenant: tenant, Role: RoleAdmin}, Tenant: tenant, At: at}
}

// Tenant is one isolated customer of the installation.
type Tenant struct {
	ID        TenantID
	CreatedAt time.Time
	// WrappedDataKey is the tenant's data key, wrapped under the master key.
	WrappedDataKey []byte
	// Revocations is the number of the last certificate that was revoked.
	Revocations int64
}

// TokenState is derived from a token's times.
type TokenState int

// The states of a token.
const (
	TokenLive TokenState = iota + 1
	TokenRedeemed
	TokenExpired
	TokenRevoked
)

// APIToken lets a program or a person call the API.
type APIToken struct {
	ID         TokenID
	Tenant     TenantID
	Name       string
	Role       Role
	Hash       [32]byte // SHA-256 of the whole secret text
	Procedures []string
	CreatedBy  string
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time
}

// State is the token's state at now.
func (t APIToken) State(now time.Time) TokenState {
	return tokenState(now, t.RevokedAt, time.Time{}, t.ExpiresAt)
}

// BootstrapToken enrols one agent, once.
type BootstrapToken struct {
	ID          TokenID
	Tenant      TenantID
	Hash        [32]byte // SHA-256 of the whole secret text
	Group       GroupID  // joined at enrolment; empty for none
	Tags        Tags     // of the agent, from its enrolment on
	Description string
	// For is the identity that comes back by the token; empty: it makes a new one. Replaces says that what is good of the
	// identity's certificates is revoked then.
	For      AgentID
	Replaces bool
	// Pool is the one that it was drawn from, with its name; empty if an operator issued it.
	Pool       PoolID
	PoolName   string
	CreatedBy  string
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time
	RedeemedAt time.Time
	// What it was redeemed for. The same token with the same public key gets the same certificate again until the identity
	// was seen with it, and for at most RedemptionWindow.
	Agent     AgentID
	PublicKey [32]byte // SHA-256 of the SubjectPublicKeyInfo
	Serial    Serial
}

// State is the token's state at now.
func (t BootstrapToken) State(now time.Time) TokenState {
	return tokenState(now, t.RevokedAt, t.RedeemedAt, t.ExpiresAt)
}

// Seen says of a redeemed token that its identity was seen over mTLS since then.
func (t BootstrapToken) Seen(a Agent) bool {
	if t.For == "" {
		return !a.FirstSeenAt.IsZero()
	}
	return a.Serial == t.Serial || a.Session.ConnectedAt.After(t.RedeemedAt)
}

// Return asks whether an identity may come back by a token at the time.
type Return struct {
	Tenant   TenantID
	Agent    AgentID
	Replaces bool
	At       time.Time
}

// Reasons for which no token brings an identity back, besides RefusedQuarantined.
const (
	// RefusedChild: another identity speaks for it, so it has no certificate of its own.
	RefusedChild = "AGENT_IS_CHILD"
	// RefusedHasCertificate: it has one that is good.
	RefusedHasCertificate = "AGENT_HAS_CERTIFICATE"
	// RefusedWasRevoked: its certificates were revoked before their end.
	RefusedWasRevoked = "AGENT_WAS_REVOKED"
)

func tokenState(now, revoked, redeemed, expires time.Time) TokenState {
	switch {
	case !redeemed.IsZero():
		return TokenRedeemed
	case !revoked.IsZero():
		return TokenRevoked
	case !now.Before(expires):
		return TokenExpired
	default:
		return TokenLive
	}
}

// RedemptionWindow is how long a redeemed bootstrap token gives the same certificate to the same key again.
const RedemptionWindow = 15 * time.Minute

// Bounds and default of a bootstrap token's life.
const (
	BootstrapTokenMinTTL     = 15 * time.Minute
	BootstrapTokenMaxTTL     = 7 * 24 * time.Hour
	BootstrapTokenDefaultTTL = 24 * time.Hour
)

// AuditEvent is one line of the audit log: who did what to which entity.
type AuditEvent struct {
	ID         int64
	At         time.Time
	Tenant     TenantID
	ActorKind  PrincipalKind
	ActorID    string
	ActorName  string
	Role       Role
	Action     string // "bootstrap_token.issue"
	EntityKind string
	EntityID   string
	Before     []byte // JSON object or nil; never secrets
	After      []byte
	Source     string
	TraceID    string
}

// Refusal is something that was asked for and not done. Refusals are counted per actor, action, reason and hour, so
// that they cannot flood the log.
type Refusal struct {
	By     By
	Action string
	Reason string // machine-readable
	Entity string // what it was about, if known
}

// AuditRecord is what reading the log yields: an event, or a counted refusal.
type AuditRecord struct {
	AuditEvent
	RefusalReason string
	Count         int64
}
