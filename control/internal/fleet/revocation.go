// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

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

// EndRevoked is why sessions end that were opened with a certificate which is revoked.
const EndRevoked = "REVOKED"
