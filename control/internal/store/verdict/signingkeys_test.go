// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestOfKeyChange(t *testing.T) {
	const (
		draft, active, trusted, retired = fleet.SigningKeyDraft, fleet.SigningKeyActive, fleet.SigningKeyTrusted, fleet.SigningKeyRetired
	)
	known, unknown := fleet.KeyUse{Gateways: 2, Confirmed: 2}, fleet.KeyUse{Gateways: 2, Confirmed: 1}
	used := fleet.KeyUse{Gateways: 2, Confirmed: 2, Agents: 1}
	for _, c := range []struct {
		from, to fleet.SigningKeyState
		use      fleet.KeyUse
		want     string // without force; "" with it, unless the state forbids it
	}{
		{draft, active, known, ""},
		{draft, active, unknown, fleet.KeyNotConfirmed},
		{draft, active, fleet.KeyUse{}, ""}, // there is no gateway to know it
		{draft, retired, known, ""},
		{draft, trusted, known, fleet.KeyState},
		{draft, draft, known, fleet.KeyState},
		{active, active, known, fleet.KeyState},
		{active, retired, known, fleet.KeyState},
		{active, trusted, known, fleet.KeyState},
		{trusted, active, used, ""}, // back
		{trusted, retired, known, ""},
		{trusted, retired, used, fleet.KeyInUse},
		{retired, active, known, fleet.KeyState},
		{retired, trusted, known, fleet.KeyState},
		{retired, retired, known, fleet.KeyState},
	} {
		use := c.use
		use.State, use.Kind = c.from, fleet.SigningKeyIntermediate
		if got := verdict.OfKeyChange(fleet.KeyChange{To: c.to}, use); got != c.want {
			t.Errorf("%s to %s with %+v: %q, want %q", c.from, c.to, c.use, got, c.want)
		}
		forced := c.want
		if forced != fleet.KeyState {
			forced = ""
		}
		if got := verdict.OfKeyChange(fleet.KeyChange{To: c.to, Force: true}, use); got != forced {
			t.Errorf("%s to %s by force: %q, want %q", c.from, c.to, got, forced)
		}
		use.Kind = fleet.SigningKeyRoot
		if got := verdict.OfKeyChange(fleet.KeyChange{To: c.to, Force: true}, use); got != fleet.KeyState {
			t.Errorf("a root: %q", got)
		}
	}
}
