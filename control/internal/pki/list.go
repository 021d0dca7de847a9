// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// ListLifetime is how long a revocation list is good for: long enough to outlast a key service that is away.
const ListLifetime = 24 * time.Hour

// ReasonUnknownKey says that the tenant has no key of that name that signs.
const ReasonUnknownKey = "SIGNING_KEY_UNKNOWN"

// listURL is where the list of a key is, as its leaves say and the list itself (RFC 5280, sections 4.2.1.13 and 5.2.5).
func (a *Authority) listURL(key fleet.KeyID) string {
	return a.config.PublicURL + "/pki/" + string(key) + "/crl.der"
}

// SigningKeys names the keys of a tenant whose certificates may be about, in ascending order. Errors as those of Bundle.
func (a *Authority) SigningKeys(ctx context.Context, tenant fleet.TenantID) ([]fleet.KeyID, error) {
	h, err := a.hierarchy(ctx, ofTenant(tenant))
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(h.issuers)), nil
}

// ActiveKey names the key that signs a tenant's certificates now. Errors as those of Bundle.
func (a *Authority) ActiveKey(ctx context.Context, tenant fleet.TenantID) (fleet.KeyID, error) {
	h, err := a.hierarchy(ctx, ofTenant(tenant))
	if err != nil {
		return "", err
	}
	return h.active.keyID, nil
}

// SignList signs the list with the number of what a key has revoked. It is ours and not the library's, which makes one
// list for each authority, signs it with whatever key is current, and reads all that was ever revoked under a lock. The
// error is a fault with [ReasonUnknownKey] for a key that does not sign. Signing may wait for a key service.
func (a *Authority) SignList(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID, number int64, revoked []fleet.Revoked, now time.Time) (fleet.RevocationList, error) {
	by, err := a.issuer(ctx, tenant, key)
	if err != nil {
		return fleet.RevocationList{}, err
	}
	entries := make([]x509.RevocationListEntry, len(revoked))
	for i, r := range revoked {
		serial, ok := new(big.Int).SetString(string(r.Serial), 16)
		if !ok {
			return fleet.RevocationList{}, fmt.Errorf("pki: serial %q is no number", r.Serial)
		}
		entries[i] = x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.At.UTC(), ReasonCode: int(r.Reason)}
	}
	l := fleet.RevocationList{Tenant: tenant, Key: key, Number: number, ThisUpdate: now.UTC().Truncate(time.Second)}
	l.NextUpdate = l.ThisUpdate.Add(ListLifetime)
	l.DER, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate, RevokedCertificateEntries: entries,
		ExtraExtensions: []pkix.Extension{distributionPoint(a.listURL(key))},
	}, by.certificate, by.signer)
	if err != nil {
		return fleet.RevocationList{}, fmt.Errorf("pki: sign the revocation list of key %s: %w", key, err)
	}
	return l, nil
}

// oidIssuingDistributionPoint is id-ce-issuingDistributionPoint (RFC 5280, section 5.2.5).
var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// distributionPoint says which certificates a list is about: those, of end entities, that name the URL. Without it the list
// of one key could be put in the place of another's under one name.
func distributionPoint(url string) pkix.Extension {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // distributionPoint
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // fullName
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) }) // a URI
			})
		})
		b.AddASN1(cbasn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) }) // onlyContainsUserCerts
	})
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: b.BytesOrPanic()}
}
