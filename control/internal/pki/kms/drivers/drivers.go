// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package drivers has the key services that a program is built with. All of them are heavy, so only ampora-control and
// the tests import it. Build tags leave them out: noawskms, noazurekms, nocloudkms, nopkcs11; the last needs cgo.
//
// All but Vault Transit, which is ours, are adapters over go.step.sm/crypto/kms. Its key managers take no context and
// may hang; package kms bounds that.
package drivers

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/transit"
)

// registered are those of the library's adapters that this program is built with. Their files add them; build tags
// leave files out.
var registered []kms.Driver

// All returns the key services that this program is built with.
func All() []kms.Driver { return append([]kms.Driver{transit.Driver}, registered...) }

// adapter is a kms.Manager over a key manager of the library.
type adapter struct {
	library apiv1.KeyManager
	// named is the URI by which the library makes a key of a name.
	named func(name string) string
	level apiv1.ProtectionLevel
	check func(*uri.URI) error
}

var algorithms = map[kms.Algorithm]struct {
	signature apiv1.SignatureAlgorithm
	bits      int
}{
	kms.ECDSAP256: {apiv1.ECDSAWithSHA256, 0},
	kms.RSA3072:   {apiv1.SHA256WithRSA, 3072},
}

// Create implements kms.Manager.
func (a *adapter) Create(_ context.Context, name string, algorithm kms.Algorithm) (kms.Key, error) {
	as, ok := algorithms[algorithm]
	if !ok {
		return kms.Key{}, fmt.Errorf("no key service makes keys for %s", algorithm)
	}
	made, err := a.library.CreateKey(&apiv1.CreateKeyRequest{
		Name: a.named(name), SignatureAlgorithm: as.signature, Bits: as.bits, ProtectionLevel: a.level,
	})
	if err != nil {
		return kms.Key{}, fmt.Errorf("make a key: %w", err)
	}
	key := made.CreateSignerRequest.SigningKey
	u, err := uri.Parse(key)
	if err == nil {
		err = a.check(u)
	}
	if err != nil { // which would be stored
		return kms.Key{}, fmt.Errorf("the URI of the new key: %w", err)
	}
	return kms.Key{URI: key, Public: made.PublicKey}, nil
}

// Open implements kms.Manager.
func (a *adapter) Open(_ context.Context, key *uri.URI) (crypto.Signer, error) {
	return a.library.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: textOf(key)}) //nolint:wrapcheck // by the caller
}

// Close implements kms.Manager.
func (a *adapter) Close() error { return a.library.Close() } //nolint:wrapcheck // by the caller

// textOf writes a URI as it was read. Its String would encode a resource as if it were an attribute.
func textOf(u *uri.URI) string { return u.URL.String() }

// refused says of an error that trying again does not help, unless with other credentials: they may have been replaced.
func refused(transient func(error) bool) func(error) bool {
	return func(err error) bool { return !transient(err) }
}

// network says of an error that the way to the service is broken, or was for a moment.
func network(err error) bool {
	var broken net.Error
	return errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}

// newID is the id of a new object, in hex.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
