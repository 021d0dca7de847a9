// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"reflect"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func TestScopes(t *testing.T) {
	every, none, both := fleet.Scope{Every: true}, fleet.ScopeOf(), fleet.ScopeOf("b", "a", "b")
	if want := (fleet.Scope{Tenants: []fleet.TenantID{"a", "b"}}); !reflect.DeepEqual(both, want) {
		t.Errorf("the scope is %+v, want %+v", both, want)
	}
	for name, c := range map[string]struct {
		scope         fleet.Scope
		serves, alone bool // a
	}{
		"every": {every, true, false}, "none": {none, false, false}, "both": {both, true, false},
		"it": {fleet.ScopeOf("a"), true, true}, "another": {fleet.ScopeOf("b"), false, false},
	} {
		if c.scope.Serves("a") != c.serves || c.scope.Alone("a") != c.alone {
			t.Errorf("%s: serves %v, alone %v", name, c.scope.Serves("a"), c.scope.Alone("a"))
		}
		if got := c.scope.With(every); !reflect.DeepEqual(got, every) {
			t.Errorf("%s with every is %+v", name, got)
		}
		if got := none.With(c.scope); !reflect.DeepEqual(got, c.scope) {
			t.Errorf("%s with none is %+v", name, got)
		}
	}
	if got := fleet.ScopeOf("b").With(fleet.ScopeOf("a")); !reflect.DeepEqual(got, both) {
		t.Errorf("together they are %+v", got)
	}
}

func TestGatewayState(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	for want, g := range map[fleet.GatewayState]fleet.Gateway{
		fleet.GatewayJoined:  {JoinedAt: now},
		fleet.GatewayOnline:  {BootID: 1, LeaseUntil: now.Add(1)},
		fleet.GatewayAway:    {BootID: 1, LeaseUntil: now},
		fleet.GatewayRevoked: {BootID: 1, LeaseUntil: now.Add(1), RevokedAt: now},
	} {
		if got := g.State(now); got != want {
			t.Errorf("%+v is %s, want %s", g, got, want)
		}
	}
}

func TestPresence(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	open := fleet.Session{Epoch: 1, GatewayLeaseUntil: now.Add(1)}
	ended := func(reason string, ago time.Duration) fleet.Session {
		return fleet.Session{Epoch: 1, GatewayLeaseUntil: now.Add(1), EndedAt: now.Add(-ago), EndReason: reason}
	}
	lost, unheard := open, open
	lost.GatewayLeaseUntil, unheard.GatewayBusLost = now, true
	for name, c := range map[string]struct {
		session fleet.Session
		want    fleet.Presence
	}{
		"never":            {fleet.Session{}, fleet.PresenceOffline},
		"open":             {open, fleet.PresenceOnline},
		"without a lease":  {lost, fleet.PresenceUnknown},
		"without the bus":  {unheard, fleet.PresenceUnknown},
		"closed":           {ended("closed", 0), fleet.PresenceOffline},
		"just drained":     {ended(fleet.EndDrained, 0), fleet.PresenceUnknown},
		"long on the way":  {ended(fleet.EndDrained, fleet.MoveGrace-1), fleet.PresenceUnknown},
		"never came again": {ended(fleet.EndDrained, fleet.MoveGrace), fleet.PresenceOffline},
	} {
		if got := c.session.Presence(now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
