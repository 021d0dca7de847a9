// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package downlink_test

import (
	"crypto/ed25519"
	"testing"

	"gitlab.com/ampora/ampora/shared/downlink"
)

func TestSignature(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := key.Public().(ed25519.PublicKey)
	other := ed25519.NewKeyFromSeed([]byte("another seed of 32 bytes, exact!")).Public().(ed25519.PublicKey)
	signature := downlink.Sign(key, []byte("work"))
	for name, c := range map[string]struct {
		key             ed25519.PublicKey
		body, signature []byte
		want            bool
	}{
		"as signed":             {public, []byte("work"), signature, true},
		"altered":               {public, []byte("worl"), signature, false},
		"another key":           {other, []byte("work"), signature, false},
		"no key":                {nil, []byte("work"), signature, false},
		"no signature":          {public, []byte("work"), nil, false},
		"cut":                   {public, []byte("work"), signature[:63], false},
		"without its purpose":   {public, []byte("work"), ed25519.Sign(key, []byte("work")), false},
		"by the words of proto": {public, []byte("work"), ed25519.Sign(key, []byte("ampora downlink v1\x00work")), true},
	} {
		if got := downlink.Verify(c.key, c.body, c.signature); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
