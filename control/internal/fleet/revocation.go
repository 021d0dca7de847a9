// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Revocation says which certificates are not to be good any more: every one of agents, and single ones.
type Revocation struct {
	Agents  []AgentID
	Serials []Serial
	Reason  RevocationReason
}

// RevocationReason is a CRLReason by its number (RFC 5280, section 5.3.1). The zero value gives none.
type RevocationReason int

// The reasons that fit an agent.
const (
	ReasonUnspecified          RevocationReason = 0
	ReasonKeyCompromise        RevocationReason = 1
	ReasonAffiliationChanged   RevocationReason = 3
	ReasonSuperseded           RevocationReason = 4
	ReasonCessationOfOperation RevocationReason = 5
	ReasonPrivilegeWithdrawn   RevocationReason = 9
)

// Revoked is an entry of a revocation list.
type Revoked struct {
	Serial Serial
	At     time.Time
	Reason RevocationReason
}

// RevocationList is the newest list of a signing key (RFC 5280, section 5).
type RevocationList struct {
	Tenant     TenantID
	Key        KeyID
	Number     int64 // grows by one with each
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
}

// EndRevoked is why sessions end that were opened with a certificate which is revoked.
const EndRevoked = "REVOKED"
