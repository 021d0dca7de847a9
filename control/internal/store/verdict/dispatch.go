// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Addressee is an agent as far as what is to be sent to it depends on it.
type Addressee struct {
	Epoch     fleet.Epoch
	Gateway   fleet.GatewayID
	Transport fleet.Transport
	// Open says that it has a session that has not ended.
	Open bool
	// LeaseUntil is the lease of the gateway boot that holds the session; zero if that boot is none any more.
	LeaseUntil time.Time
	// Granted is the generation of its grant while that is open; 0 otherwise.
	Granted fleet.Generation
	// Rollout says how the rollout stands under which it was granted.
	Rollout GrantedUnder
}

// GrantedUnder is how what is granted stands with its rollout.
type GrantedUnder int

// The ways.
const (
	// MaySend: its rollout grants, or it was granted under none.
	MaySend GrantedUnder = iota
	// Deciding: somebody decides for its rollout at this moment.
	Deciding
	// Stopped: its rollout grants nothing. It falls due again when it goes on.
	Stopped
)

// UnderRollout says how what is granted under a rollout in a state stands with it.
func UnderRollout(s fleet.RolloutState) GrantedUnder {
	if s.Grants() {
		return MaySend
	}
	return Stopped
}

// Fate is what becomes of a row of the outbox that is due.
type Fate int

// The fates.
const (
	// Send: it is sent now.
	Send Fate = iota
	// PutOff: it is looked at again after a while.
	PutOff
	// Park: it waits until the agent has a session.
	Park
	// SendOnce: it is sent now, and forgotten before that.
	SendOnce
	// Drop: it is forgotten.
	Drop
)

// OfDispatch says what becomes of a row that is due; the zero Addressee stands for an agent that is gone. Between the end
// of a lease and the time at which nobody can have renewed it any more (store.LeaseGrace) the row is not parked: nothing
// would let it fall due again. A restart command does not wait for another session.
func OfDispatch(d fleet.Dispatch, to Addressee, now time.Time) Fate {
	once := d.Kind == fleet.DispatchRestart
	away := !to.Open || !to.LeaseUntil.After(now.Add(-store.LeaseGrace))
	switch {
	case !d.ExpiresAt.IsZero() && !d.ExpiresAt.After(now), once && away:
		return Drop
	case away, d.Kind == fleet.DispatchConfig && to.Rollout == Stopped:
		return Park
	case d.Kind == fleet.DispatchConfig && to.Rollout == Deciding:
		return PutOff
	case !to.LeaseUntil.After(now), d.Kind == fleet.DispatchConfig && d.Generation != to.Granted:
		return PutOff
	case once:
		return SendOnce
	default:
		return Send
	}
}
