// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// OfRedemption decides whether a token may be redeemed for an identity, empty for a new one: nil if it is live at the time,
// and for that.
func OfRedemption(t fleet.BootstrapToken, identity fleet.AgentID, at time.Time) error {
	switch state := t.State(at); {
	case state == fleet.TokenRedeemed:
		return fmt.Errorf("redeem a bootstrap token: %w", store.ErrConflict)
	case state != fleet.TokenLive, t.For != identity:
		return fmt.Errorf("redeem a bootstrap token: %w", store.ErrState)
	default:
		return nil
	}
}

// Returning is what is on record about an identity that is to come back.
type Returning struct {
	Parent        fleet.AgentID
	QuarantinedAt time.Time
	// Of its certificates that are not over, so many are good, and so many were revoked for another reason than that others
	// took their place.
	Good, Revoked int
}

// OfReturn says why an identity may not come back by a token; empty: it may. Who replaces takes it from whoever has it.
func OfReturn(on Returning, replaces bool) (reason string) {
	switch {
	case on.Parent != "":
		return fleet.RefusedChild
	case !on.QuarantinedAt.IsZero():
		return fleet.RefusedQuarantined
	case replaces:
		return ""
	case on.Revoked > 0:
		return fleet.RefusedWasRevoked
	case on.Good > 0:
		return fleet.RefusedHasCertificate
	default:
		return ""
	}
}

// Redeemed is a redemption that is to be, with its token as it was found.
type Redeemed struct {
	store.Redemption
	Of fleet.BootstrapToken
}

// OfRedemptions decides redemptions, one after the other, by OfRedemption: each finds the tokens as those before it left
// them. The results are in order; done are those that are to be written.
func OfRedemptions(list []store.Redemption, tokens []fleet.BootstrapToken) (results []error, done []Redeemed) {
	known := make(map[fleet.TokenID]*fleet.BootstrapToken, len(tokens))
	for _, t := range tokens {
		known[t.ID] = &t
	}
	results = make([]error, len(list))
	for i, r := range list {
		token := known[r.Token]
		if token == nil {
			results[i] = fmt.Errorf("redeem a bootstrap token: %w", store.ErrNotFound)
			continue
		}
		if results[i] = OfRedemption(*token, "", r.By.At); results[i] == nil {
			done = append(done, Redeemed{r, *token})
			token.RedeemedAt = r.By.At
		}
	}
	return results, done
}
