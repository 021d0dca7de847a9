// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"time"
)

// Gateway is one gateway: who it is, if it joined over a network, and the process that runs as it.
type Gateway struct {
	ID GatewayID

	// Scope is the tenants it may serve. The gateway of the all-in-one program did not join and serves all.
	Scope Scope
	// Serial is that of its certificate, Previous of the one before: both are good until they expire.
	Serial, Previous Serial
	NotAfter         time.Time
	JoinedAt         time.Time
	RevokedAt        time.Time

	// BootID is 0 until a process registers.
	BootID     uint64
	Version    string
	StartedAt  time.Time
	LeaseUntil time.Time
	// BusLost says that the process cannot put onto the bus what agents say.
	BusLost bool

	Sessions int // open ones, read-only, derived, if they were asked for
}

// Scope is the tenants that a gateway may serve: all of them, or those named.
type Scope struct {
	Every   bool
	Tenants []TenantID // ascending; empty if Every
}

// ScopeOf is the scope of these tenants.
func ScopeOf(tenants ...TenantID) Scope {
	return Scope{Tenants: slices.Compact(slices.Sorted(slices.Values(tenants)))}
}

// Serves reports whether the tenant is in the scope.
func (s Scope) Serves(t TenantID) bool { return s.Every || slices.Contains(s.Tenants, t) }

// With is the scope with the tenants of another besides.
func (s Scope) With(other Scope) Scope {
	if s.Every || other.Every {
		return Scope{Every: true}
	}
	return ScopeOf(slices.Concat(s.Tenants, other.Tenants)...)
}

// Alone reports whether the scope is this tenant and no other: then its Admin decides over the gateway.
func (s Scope) Alone(t TenantID) bool { return !s.Every && len(s.Tenants) == 1 && s.Tenants[0] == t }

// GatewayState is derived from a gateway's times.
type GatewayState string

// The states of a gateway.
const (
	// GatewayJoined: it has its certificate, and no process has its lease.
	GatewayJoined GatewayState = "joined"
	// GatewayOnline: a process has its lease.
	GatewayOnline GatewayState = "online"
	// GatewayAway: the lease of its last process has run out.
	GatewayAway GatewayState = "away"
	// GatewayRevoked: it is refused whatever certificate it shows.
	GatewayRevoked GatewayState = "revoked"
)

// State is the gateway's state at now.
func (g Gateway) State(now time.Time) GatewayState {
	switch {
	case !g.RevokedAt.IsZero():
		return GatewayRevoked
	case g.BootID == 0:
		return GatewayJoined
	case now.Before(g.LeaseUntil):
		return GatewayOnline
	default:
		return GatewayAway
	}
}

// JoinToken lets one gateway join, once.
type JoinToken struct {
	ID   TokenID
	Hash [32]byte // SHA-256 of the whole secret text
	// Gateway is the name that joins with it, Scope what it may serve then.
	Gateway GatewayID
	Scope   Scope
	// Tenant whose Admin issued it; empty for the installation's operator.
	Tenant    TenantID
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt time.Time
	UsedAt    time.Time
	// PublicKey it was used with (SHA-256 of the SubjectPublicKeyInfo). The same token with the same key gets another
	// certificate until the gateway registers, for at most RedemptionWindow: an answer may be lost.
	PublicKey [32]byte
}

// State is the token's state at now.
func (t JoinToken) State(now time.Time) TokenState {
	return tokenState(now, t.RevokedAt, t.UsedAt, t.ExpiresAt)
}

// Bounds and default of a join token's life.
const (
	JoinTokenMinTTL     = 15 * time.Minute
	JoinTokenMaxTTL     = 7 * 24 * time.Hour
	JoinTokenDefaultTTL = 24 * time.Hour
)
