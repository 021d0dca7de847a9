// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// contextOver is a context that is over already.
func contextOver(w *world) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	return ctx, cancel
}

func (w *world) signingKey(kind fleet.SigningKeyKind, state fleet.SigningKeyState) fleet.SigningKey {
	k := fleet.SigningKey{
		ID: newID[fleet.KeyID](), Tenant: w.tenant, State: state, Kind: kind, Algorithm: "ecdsa-p256", CertificateDER: []byte("der"),
		Parent: "parent", SealedKey: []byte("sealed"), CreatedAt: w.now,
	}
	if state == fleet.SigningKeyActive {
		k.ActivatedAt = w.now.Add(time.Second)
	}
	return k
}

var signingKeys = suite{
	"keys are listed oldest first, without those that are retired": func(w *world) {
		root := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)
		retired := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyRetired)
		w.pass(time.Second)
		trusted := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyTrusted)
		w.pass(time.Second)
		active := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{active, retired, trusted, root}))
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if want := []fleet.SigningKey{root, trusted, active}; !reflect.DeepEqual(keys, want) {
			w.Errorf("got %+v, want %+v", keys, want)
		}
	},
	"a tenant has one active key of a kind": func(w *world) {
		root, intermediate := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{root}))
		again := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)
		w.want(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{intermediate, again}), store.ErrExists)

		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 1 {
			w.Errorf("all or none: got %+v", keys)
		}
	},
	"a key that is not active may come beside one that is": func(w *world) {
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)}))
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyDraft)}))
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 2 {
			w.Errorf("got %+v", keys)
		}
	},
	"a key is here, in a key service or nowhere": func(w *world) {
		elsewhere, nowhere := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyTrusted)
		elsewhere.SealedKey, elsewhere.KeyURI = nil, "pkcs11:id=5e;object=ca"
		nowhere.SealedKey = nil
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{elsewhere, nowhere}))
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		for _, key := range keys {
			if want := map[fleet.KeyID]string{elsewhere.ID: elsewhere.KeyURI, nowhere.ID: ""}; len(key.SealedKey) != 0 || key.KeyURI != want[key.ID] {
				w.Errorf("got %+v", key)
			}
		}
		both := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyDraft)
		both.KeyURI = "pkcs11:id=5e;object=ca"
		if err := w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{both}); err == nil {
			w.Error("a key is in two places")
		}
	},
	"of many that create at once, one succeeds": func(w *world) {
		_, failures := race(6, func(int) (struct{}, error) {
			return struct{}{}, w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{
				w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive),
			})
		})
		if len(failures) != 5 {
			w.Errorf("%d of 6 failed", len(failures))
		}
		for _, err := range failures {
			w.want(err, store.ErrExists)
		}
	},
	"keys of a tenant and keys of none do not meet": func(w *world) {
		root, server := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyServerRoot, fleet.SigningKeyActive)
		server.Tenant = ""
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{root}))
		w.must(w.CreateSigningKeys(w.Context(), "", []fleet.SigningKey{server}))
		for tenant, want := range map[fleet.TenantID][]fleet.SigningKey{w.tenant: {root}, "": {server}, "theirs": nil} {
			keys, err := w.SigningKeys(w.Context(), tenant)
			w.must(err)
			if len(keys) != len(want) || (len(want) > 0 && !reflect.DeepEqual(keys, want)) {
				w.Errorf("of %q: got %+v, want %+v", tenant, keys, want)
			}
		}
	},
}
