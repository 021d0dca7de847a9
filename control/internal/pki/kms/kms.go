// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package kms keeps the keys of certificate authorities in key services: HSMs behind PKCS #11, and the key services of
// AWS, Azure, Google Cloud and Vault.
//
// What is guaranteed:
//   - Nothing is asked of a key service before a key is made or signs: who opens a [Services] or a [Signer] does not
//     notice that one is away.
//   - No call takes longer than its limit, whether the key service hangs or not, and no more than [maxCalls] of one
//     service hang at once. What may go better the second time is tried again within the limit, nothing else is.
//   - What comes back was signed with the key that was asked for: it is verified with the public key that we have.
//   - No secret is in a URI, and none is logged or stored.
//
// The adapters are in packages below, so that a program carries those alone that it is given ([Driver]).
package kms

import (
	"context"
	"crypto"
	"fmt"

	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Algorithm is the kind and size of a key.
type Algorithm string

// The algorithms that every key service has.
const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	RSA3072   Algorithm = "rsa-3072"
)

// Reasons of the faults that this package returns.
const (
	// ReasonUnavailable: the key service is away, hangs or refuses us. Nothing was signed.
	ReasonUnavailable = "KMS_UNAVAILABLE"
	// ReasonWrongKey: the key service has another key in the place of ours.
	ReasonWrongKey = "KMS_WRONG_KEY"
)

// Key is a key in a key service.
type Key struct {
	// URI names the key to the key service for good, its version included. It holds no secret, and nothing of where
	// the key service is.
	URI    string
	Public crypto.PublicKey
}

// Manager is an open key service. It may be used by several goroutines. Its methods may hang: the context is for those
// adapters that can heed it.
type Manager interface {
	// Create makes a key that can be used but not taken away. The name is for people, and new.
	Create(ctx context.Context, name string, algorithm Algorithm) (Key, error)
	// Open returns what signs with a key of this service.
	Open(ctx context.Context, key *uri.URI) (crypto.Signer, error)
	// Close gives back what the service holds; nothing is under way then.
	Close() error
}

// Driver opens key services of one kind.
type Driver struct {
	// Scheme of its URIs.
	Scheme string
	// CheckService refuses a service's URI that cannot work, and CheckKey a key's, with a sentence and without asking
	// anybody.
	CheckService, CheckKey func(*uri.URI) error
	// Open opens the service. It may hang.
	Open func(ctx context.Context, service *uri.URI) (Manager, error)
	// Transient says of an error of a manager, or of opening one, that the same call may work in a moment.
	Transient func(error) bool
	// Stale says of such an error that the service must be closed and opened anew before it can work again: a session is
	// lost, or credentials were replaced.
	Stale func(error) bool
}

// unavailable is the fault for a call that did not happen.
func unavailable(scheme string, cause error) error {
	return fault.New(fault.Unavailable, ReasonUnavailable, "the key service cannot be used now").With("service", scheme).
		WithCause(fmt.Errorf("key service %s: %w", scheme, cause))
}

// wrongKey is the fault for a key that is not the one we know.
func wrongKey(scheme string, cause error) error {
	return fault.New(fault.FailedPrecondition, ReasonWrongKey, "the key service has another key than the certificate").
		With("service", scheme).WithCause(fmt.Errorf("key service %s: %w", scheme, cause))
}
