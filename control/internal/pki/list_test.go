// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestSignList(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	leaf, certificate := issue(t, authority, request(t, acme, start))
	revoked := []fleet.Revoked{{Serial: leaf.Serial, At: start.Add(time.Minute), Reason: fleet.ReasonKeyCompromise}, {Serial: "5e", At: start}}
	now := start.Add(time.Hour)
	list, err := authority.SignList(t.Context(), acme, leaf.KeyID, 7, revoked, now)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(list.DER)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := authority.Bundle(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.CheckSignatureFrom(bundle.Intermediates[0]); err != nil {
		t.Error(err)
	}
	if parsed.Number.Int64() != 7 || !parsed.ThisUpdate.Equal(now) || !parsed.NextUpdate.Equal(now.Add(pki.ListLifetime)) ||
		list.Number != 7 || !list.ThisUpdate.Equal(now) || !list.NextUpdate.Equal(parsed.NextUpdate) || list.Tenant != acme || list.Key != leaf.KeyID {
		t.Errorf("the list is %d, from %s to %s", parsed.Number, parsed.ThisUpdate, parsed.NextUpdate)
	}
	entries := parsed.RevokedCertificateEntries
	if len(entries) != 2 || entries[0].SerialNumber.Cmp(certificate.SerialNumber) != 0 || entries[0].ReasonCode != 1 ||
		!entries[0].RevocationTime.Equal(start.Add(time.Minute)) || entries[1].ReasonCode != 0 {
		t.Errorf("it names %+v", entries)
	}
	// The place that the leaf names is the one that the list is for.
	var found bool
	for _, extension := range parsed.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}) {
			continue
		}
		var point struct {
			Point struct {
				FullName []asn1.RawValue `asn1:"tag:0"`
			} `asn1:"tag:0"`
			OnlyUsers bool `asn1:"tag:1,optional"`
		}
		rest, err := asn1.Unmarshal(extension.Value, &point)
		found = err == nil && len(rest) == 0 && extension.Critical && point.OnlyUsers && len(point.Point.FullName) == 1 &&
			string(point.Point.FullName[0].Bytes) == certificate.CRLDistributionPoints[0]
	}
	if !found {
		t.Errorf("the extensions are %+v, the leaf names %v", parsed.Extensions, certificate.CRLDistributionPoints)
	}
}

func TestSignListOfAnotherKey(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	if _, err := authority.SignList(t.Context(), acme, "none", 1, nil, start); !fault.Is(err, pki.ReasonUnknownKey) {
		t.Errorf("an unknown key: %v", err)
	}
	key, err := authority.ActiveKey(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := authority.SigningKeys(t.Context(), acme); err != nil || len(keys) != 1 || keys[0] != key {
		t.Errorf("the keys are %v, %v; active is %s", keys, err, key)
	}
	if _, err := authority.SignList(t.Context(), "globex", key, 1, nil, start); !fault.Is(err, pki.ReasonNoAuthority) {
		t.Errorf("another tenant's key: %v", err)
	}
	if _, err := authority.SignList(t.Context(), acme, key, 1, []fleet.Revoked{{Serial: "no number"}}, start); err == nil {
		t.Error("a serial that is no number was signed")
	}
}

// BenchmarkSignList signs a list of 100 000 entries.
func BenchmarkSignList(b *testing.B) {
	authority := open(b, &memory{}, policy, acme)
	key, err := authority.ActiveKey(b.Context(), acme)
	if err != nil {
		b.Fatal(err)
	}
	revoked := make([]fleet.Revoked, 100_000)
	for i := range revoked {
		revoked[i] = fleet.Revoked{Serial: fleet.Serial(fmt.Sprintf("5e%030x", i)), At: start, Reason: fleet.ReasonKeyCompromise}
	}
	for b.Loop() {
		list, err := authority.SignList(b.Context(), acme, key, 1, revoked, start)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(list.DER)), "bytes")
	}
}
