// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

// generate makes a key pair: in the key service that new keys are made in, of which uri then names the key, or here.
func (a *Authority) generate(ctx context.Context, r keyRequest) (pair crypto.Signer, uri string, err error) {
	services, algorithm := a.config.KeyServices, orDefault(r.algorithm, a.config.Algorithm)
	if !services.Makes() {
		pair, err = algorithm.newKey()
		return pair, "", err
	}
	key, err := services.Create(ctx, serviceName(r.tenant, r.kind), kms.Algorithm(algorithm))
	if err != nil {
		return nil, "", err //nolint:wrapcheck // by the caller
	}
	return services.Signer(key.URI, key.Public), key.URI, nil
}

// KeyServices says what is known of the key services.
func (a *Authority) KeyServices() []kms.State { return a.config.KeyServices.States() }

// maxTenantName is how much of a tenant's name fits into that of a key, for which Google leaves 63 characters.
const maxTenantName = 20

// serviceName names a new key for those who look into the key service. Nobody goes by it.
func serviceName(tenant fleet.TenantID, kind fleet.SigningKeyKind) string {
	var unique [6]byte
	rand.Read(unique[:]) // never fails, see crypto/rand
	name := "ampora-"
	if tenant != installation {
		name += string(tenant[:min(len(tenant), maxTenantName)]) + "-"
	}
	return name + string(kind) + "-" + hex.EncodeToString(unique[:])
}

// abandon tells of keys that were made in a key service and then not stored: nobody will ever use them.
func (a *Authority) abandon(keys ...fleet.SigningKey) {
	for _, key := range keys {
		if key.KeyURI != "" {
			a.config.KeyServices.Abandon(key.KeyURI)
		}
	}
}

// signerOf returns what signs with a key, from wherever it is kept.
func (a *Authority) signerOf(key parsedKey) (crypto.Signer, error) {
	switch {
	case key.KeyURI != "":
		return a.config.KeyServices.Signer(key.KeyURI, key.certificate.PublicKey), nil
	case len(key.SealedKey) == 0:
		return nil, fmt.Errorf("its private key is not here")
	default:
		return a.unsealKey(key.SigningKey)
	}
}
