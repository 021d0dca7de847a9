// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/subtle"
	"time"
)

// TokenPool hands out bootstrap tokens to whoever has its secret, without an operator, within its limits.
type TokenPool struct {
	ID          PoolID
	Tenant      TenantID
	Name        string // unique among those not deleted
	Description string
	Group       GroupID       // joined by the agents; empty for none
	Tags        Tags          // of the agents
	TTL         time.Duration // of the tokens
	// LiveLimit is how many of its tokens may be live at once; 0 is no limit.
	LiveLimit int
	// PerHour is the rate of its tokens, Burst how many of them may be drawn at once.
	PerHour, Burst int

	Hash [32]byte // SHA-256 of the whole secret text
	// The secret before was or is good until then; zero: there is none. It is remembered, so that who still uses it is known.
	PreviousHash  [32]byte
	PreviousUntil time.Time
	RotatedAt     time.Time // when the present secret was made

	// DrawnUntil is when the rate will have made up for what was drawn, but for the burst: in the past, nothing is owed.
	DrawnUntil time.Time

	CreatedBy  string
	CreatedAt  time.Time
	DisabledAt time.Time
	DeletedAt  time.Time

	Live int // tokens that are live; where it says that they are counted
}

// Accepts says whether a secret of the hash opens the pool at now. It takes the same time for every hash.
func (p TokenPool) Accepts(hash [32]byte, now time.Time) bool {
	present := subtle.ConstantTimeCompare(p.Hash[:], hash[:])
	previous := subtle.ConstantTimeCompare(p.PreviousHash[:], hash[:])
	if !now.Before(p.PreviousUntil) {
		previous = 0
	}
	return present|previous == 1 && p.DeletedAt.IsZero()
}

// PoolChange is what an operator changes of a pool; nil leaves it as it is.
type PoolChange struct {
	Description *string
	Group       *GroupID
	Tags        *Tags // all of them
	TTL         *time.Duration
	LiveLimit   *int
	PerHour     *int
	Burst       *int
	Disabled    *bool
}

// Share is the time that one token takes up of the rate.
func (p TokenPool) Share() time.Duration { return time.Hour / time.Duration(p.PerHour) }

// MostOwed is until when the rate may be drawn on at now, the burst being what may be owed.
func (p TokenPool) MostOwed(now time.Time) time.Time {
	return now.Add(p.Share() * time.Duration(p.Burst))
}

// Of is the pool after the change at the time. It owes as many tokens as before, but no more than a burst.
func (c PoolChange) Of(p TokenPool, at time.Time) TokenPool {
	owed := max(0, float64(p.DrawnUntil.Sub(at))/float64(p.Share()))
	set(&p.Description, c.Description)
	set(&p.Group, c.Group)
	set(&p.Tags, c.Tags)
	set(&p.TTL, c.TTL)
	set(&p.LiveLimit, c.LiveLimit)
	set(&p.PerHour, c.PerHour)
	set(&p.Burst, c.Burst)
	switch {
	case c.Disabled == nil:
	case !*c.Disabled:
		p.DisabledAt = time.Time{}
	case p.DisabledAt.IsZero():
		p.DisabledAt = at
	}
	if owed > 0 {
		p.DrawnUntil = at.Add(time.Duration(min(owed, float64(p.Burst)) * float64(p.Share())))
	}
	return p
}

func set[T any](into, value *T) {
	if value != nil {
		*into = *value
	}
}

// Reasons for which a pool hands out no token.
const (
	RefusedPoolDisabled    = "POOL_DISABLED"
	RefusedPoolRateLimited = "POOL_RATE_LIMITED"
	RefusedPoolExhausted   = "POOL_EXHAUSTED"
)

// DrawVerdict is the answer to who wants a token of a pool: refused if it has a reason.
type DrawVerdict struct {
	Reason string
	// RetryAfter is when it is worth asking again; 0 if nobody knows.
	RetryAfter time.Duration
	// Token is what was handed out.
	Token BootstrapToken
	// DrawnUntil is that of the pool from then on.
	DrawnUntil time.Time
}

// Defaults of a pool.
const (
	PoolDefaultTTL     = time.Hour
	PoolDefaultPerHour = 60
	PoolDefaultBurst   = 10
)

// TokenRetention is how long after its end a bootstrap token is kept that enrolled nobody. One that did is kept as long as
// the agent's identity, which it explains.
const TokenRetention = 30 * 24 * time.Hour

// Draw completes a token that the pool hands out at the time.
func (p TokenPool) Draw(t BootstrapToken, at time.Time) BootstrapToken {
	t.Tenant, t.Pool, t.PoolName, t.Group, t.Tags = p.Tenant, p.ID, p.Name, p.Group, p.Tags
	t.CreatedAt, t.ExpiresAt = at, at.Add(p.TTL)
	return t
}
