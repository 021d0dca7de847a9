// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// OfRedemption decides whether a token may be redeemed: nil if it is live at the time.
func OfRedemption(t fleet.BootstrapToken, at time.Time) error {
	switch t.State(at) {
	case fleet.TokenLive:
		return nil
	case fleet.TokenRedeemed:
		return fmt.Errorf("redeem a bootstrap token: %w", store.ErrConflict)
	default:
		return fmt.Errorf("redeem a bootstrap token: %w", store.ErrState)
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
		if results[i] = OfRedemption(*token, r.By.At); results[i] == nil {
			done = append(done, Redeemed{r, *token})
			token.RedeemedAt = r.By.At
		}
	}
	return results, done
}
