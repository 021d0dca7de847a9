// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import "gitlab.com/ampora/ampora/control/internal/fleet"

// Renewing is what is on record about a renewal.
type Renewing struct {
	// Shown is the certificate that the agent showed; nil if none is recorded under its serial.
	Shown *fleet.Certificate
	// Identity says when the agent was quarantined, if it was; nil if there is no such agent.
	Identity *Seat
	// Given is the newest certificate of the agent that is of the new key; nil if there is none.
	Given *fleet.Certificate
	// Recent is how many certificates were made for the agent within fleet.RenewalWindow.
	Recent int
	// Offered is the number of the offer that has no certificate yet; 0: there is none.
	Offered fleet.Generation
}

// OfRenewal decides whether an agent may have a certificate for a new key. A key that is as old as the certificate shown
// is no new one; one that was certified since then is that of an agent which did not hear the answer.
func OfRenewal(r fleet.CertificateRenewal, on Renewing) fleet.RenewalVerdict {
	if reason := credential(r.Agent, r.Fingerprint, on.Shown, on.Identity); reason != "" {
		return fleet.RenewalVerdict{Reason: reason}
	}
	over := func(c *fleet.Certificate) bool { return !r.At.Before(c.NotAfter) }
	switch {
	case over(on.Shown):
		return fleet.RenewalVerdict{Reason: fleet.RefusedExpired}
	case on.Given != nil && !on.Given.RevokedAt.IsZero():
		return fleet.RenewalVerdict{Reason: fleet.RefusedRevoked}
	case on.Given != nil && (on.Given.Serial == on.Shown.Serial || on.Given.CreatedAt.Before(on.Shown.CreatedAt) || over(on.Given)):
		return fleet.RenewalVerdict{Reason: fleet.RefusedKeyNotNew}
	case on.Given != nil:
		return fleet.RenewalVerdict{Given: on.Given}
	case r.Offer != 0 && r.Offer != on.Offered:
		return fleet.RenewalVerdict{Reason: fleet.RefusedNoOffer}
	case on.Recent >= fleet.RenewalLimit:
		return fleet.RenewalVerdict{Reason: fleet.RefusedTooOften}
	default:
		return fleet.RenewalVerdict{}
	}
}
