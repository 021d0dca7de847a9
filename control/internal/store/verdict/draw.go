// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// OfDraw decides whether a pool hands out a token at now, with so many of its tokens live. Of the pool's rate there is one
// number on record, the time until which what was drawn is paid for: each token is paid for with its share of the hour,
// and a burst may be owed. So nothing has to be counted, and a clock alone fills it up again.
func OfDraw(p fleet.TokenPool, live int, now time.Time) fleet.DrawVerdict {
	paid := now
	if p.DrawnUntil.After(now) {
		paid = p.DrawnUntil
	}
	paid = paid.Add(p.Share())
	over := paid.Sub(p.MostOwed(now))
	switch {
	case !p.DisabledAt.IsZero():
		return fleet.DrawVerdict{Reason: fleet.RefusedPoolDisabled}
	case p.LiveLimit > 0 && live >= p.LiveLimit:
		return fleet.DrawVerdict{Reason: fleet.RefusedPoolExhausted}
	case over > 0:
		return fleet.DrawVerdict{Reason: fleet.RefusedPoolRateLimited, RetryAfter: over}
	default:
		return fleet.DrawVerdict{DrawnUntil: paid}
	}
}
