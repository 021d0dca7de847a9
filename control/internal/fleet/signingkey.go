// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// SigningKeyState is where a key of the certificate authority stands.
type SigningKeyState string

// The states: Draft -> Active -> Trusted -> Retired. Active signs; Trusted still verifies; Retired leaves the bundle.
const (
	SigningKeyDraft   SigningKeyState = "draft"
	SigningKeyActive  SigningKeyState = "active"
	SigningKeyTrusted SigningKeyState = "trusted"
	SigningKeyRetired SigningKeyState = "retired"
)

// SigningKeyKind says what a key certifies.
type SigningKeyKind string

// The kinds.
const (
	SigningKeyRoot         SigningKeyKind = "root"
	SigningKeyIntermediate SigningKeyKind = "intermediate"
	// SigningKeyServerRoot certifies the development listener's own certificate; it belongs to no tenant.
	SigningKeyServerRoot SigningKeyKind = "server-root"
	// SigningKeyGatewayRoot certifies gateways and nobody else, SigningKeyControlRoot the control plane to them. Both
	// belong to no tenant.
	SigningKeyGatewayRoot SigningKeyKind = "gateway-root"
	SigningKeyControlRoot SigningKeyKind = "control-root"
)

// SigningKey is a key of the certificate authority.
type SigningKey struct {
	ID             KeyID
	Tenant         TenantID // empty for the roots of the installation
	State          SigningKeyState
	Kind           SigningKeyKind
	Algorithm      string // "ecdsa-p256" or "rsa-3072"
	CertificateDER []byte
	Parent         KeyID  // of an intermediate: its root
	SealedKey      []byte // PKCS #8, wrapped under the master key; empty if the key is elsewhere
	KeyURI         string // of a key in a key service, without secrets; empty for one that is here or not ours
	CreatedAt      time.Time
	ActivatedAt    time.Time // last
	TrustedAt      time.Time // last: since then another one signs
	RetiredAt      time.Time
	// Generation is the number, among all changes of signing keys, of the one that made this. A gateway that knows that many
	// knows the key.
	Generation int64
}

// KeyUse is what stands of a key, and who knows it. It is read-only, derived.
type KeyUse struct {
	SigningKey
	// Leaves are certificates that it has signed, neither revoked nor expired.
	Leaves int
	// Agents hold such a certificate, and have shown none of another key since; Online of them are there now.
	Agents, Online int
	// Gateways are those that serve the tenant now; Confirmed of them know the key.
	Gateways, Confirmed int
}

// KeyChange moves a signing key into another state: active, of a draft or a trusted one, which makes trusted the one that is
// active; or retired, of a draft or a trusted one.
type KeyChange struct {
	Key KeyID
	To  SigningKeyState
	// Force makes it although gateways do not know the key yet, or agents still hold certificates of it.
	Force bool
}

// Reasons for which a key is not changed.
const (
	KeyState        = "SIGNING_KEY_STATE"
	KeyNotConfirmed = "SIGNING_KEY_NOT_CONFIRMED"
	KeyInUse        = "SIGNING_KEY_IN_USE"
)

// EndKeyRetired is why sessions end that were opened with a certificate of a key which is retired.
const EndKeyRetired = "SIGNING_KEY_RETIRED"
