// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Revocation says which certificates are not to be good any more: every one of agents, single ones, or those that a key has
// signed.
type Revocation struct {
	Agents  []AgentID
	Serials []Serial
	Key     KeyID // alone
	Reason  RevocationReason
}

// RevocationBatch is how many of a key's certificates are revoked at once.
const RevocationBatch = 1000

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

// Revocations are what was revoked of a tenant, in the order in which it was, up to and with that number Last.
type Revocations struct {
	Serials []Serial
	Last    int64
	More    bool // there are later ones
}

// Responder answers for a signing key whether single certificates of it are good (RFC 6960, section 2.6): a key of its own,
// so that the signing key, which may be in a key service, is not asked for each answer.
type Responder struct {
	Tenant         TenantID
	Key            KeyID  // that it answers for
	Serial         Serial // of its certificate
	CertificateDER []byte
	SealedKey      []byte // PKCS #8, wrapped under the master key
	NotAfter       time.Time
}
