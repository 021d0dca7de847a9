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
	ActivatedAt    time.Time
}
