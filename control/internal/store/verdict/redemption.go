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
	Method        fleet.EnrolmentMethod
	QuarantinedAt time.Time
	// Shown is the certificate that it showed last; Certificates are those of it that are not over.
	Shown        fleet.Serial
	Certificates []fleet.Certificate
}

// OfReturn says why an identity may not come back by a token; empty: it may. Who replaces takes it from whoever has it. Else
// nobody may have it: what is lost are certificates that were offered to an agent in vain, which must not be good after it
// came back.
func OfReturn(on Returning, replaces bool) (reason string, lost []fleet.Serial) {
	switch {
	case on.Parent != "":
		return fleet.RefusedChild, nil
	case !on.QuarantinedAt.IsZero():
		return fleet.RefusedQuarantined, nil
	case replaces:
		return "", nil
	}
	for _, c := range on.Certificates {
		revoked := !c.RevokedAt.IsZero()
		switch {
		case revoked && c.Reason != fleet.ReasonSuperseded:
			return fleet.RefusedWasRevoked, nil
		case revoked, c.KeyRetired:
		case on.offeredInVain(c):
			lost = append(lost, c.Serial)
		default:
			reason = fleet.RefusedHasCertificate
		}
	}
	if reason != "" {
		return reason, nil
	}
	return "", lost
}

// offeredInVain: an agent whose keys the server makes has no key but those of certificates that it showed.
func (on *Returning) offeredInVain(c fleet.Certificate) bool {
	return on.Method == fleet.EnrolledByServerKey && on.Shown != "" && c.Serial != on.Shown
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
