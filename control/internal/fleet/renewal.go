// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// CertificateRenewal is an agent's wish for a certificate of a new key, with the one that it showed.
type CertificateRenewal struct {
	Tenant      TenantID
	Agent       AgentID
	Serial      Serial // of the certificate it showed
	Fingerprint Fingerprint
	PublicKey   [32]byte // SHA-256 of the new key's SubjectPublicKeyInfo
	// Offer is the number of the offer that it is for; 0: the agent asks by itself.
	Offer Generation
	At    time.Time
}

// Limits on renewals: an agent that asks in a loop gets no more certificates than these within the window.
const (
	RenewalLimit  = 10
	RenewalWindow = 24 * time.Hour
)

// Reasons for which a renewal is refused, besides those of a claim.
const (
	RefusedExpired   = "CERTIFICATE_EXPIRED"
	RefusedKeyNotNew = "KEY_NOT_NEW"
	RefusedTooOften  = "RENEWED_TOO_OFTEN"
	// RefusedNoOffer: the offer was not asked for, or has its certificate.
	RefusedNoOffer = "OFFER_NOT_OPEN"
)

// RenewalVerdict is the answer to a renewal: refused if it has a reason, answered already if it has a certificate, and
// else to be had.
type RenewalVerdict struct {
	Reason string
	Given  *Certificate // what the same key was given before
}

// Open says that a certificate may be made.
func (v RenewalVerdict) Open() bool { return v == RenewalVerdict{} }
