// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"slices"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/control/internal/revocation"
	"gitlab.com/ampora/ampora/shared/fault"
)

// TestAKeyServiceThatHangsHoldsUpNoOtherList: keys in the database have theirs in time, whatever the others wait for; and
// those are not tried at every turn.
func TestAKeyServiceThatHangsHoldsUpNoOtherList(t *testing.T) {
	const limit = time.Second
	w := newWorld(t)
	server := kmstest.Vault(t, time.Hour)
	vault := server.Backend(t, drivers.All(), ";token-file="+server.TokenFile(t))
	config := policy
	config.KeyServices = vault.Open(t, limit)
	authority, err := pki.Open(t.Context(), config, w.db, w.ring)
	w.must(err)
	others := []fleet.TenantID{"globex", "initech", "umbrella"}
	for _, other := range others {
		_, err := w.db.EnsureTenant(t.Context(), fleet.Tenant{ID: other, CreatedAt: w.now, WrappedDataKey: []byte("k")})
		w.must(err)
		w.must(authority.EnsureTenant(t.Context(), other, w.now))
	}
	lists := w.of(authority)
	w.must(lists.Renew(t.Context()))
	numbers := func() (list []int64) {
		t.Helper()
		for _, of := range append([]fleet.TenantID{tenant}, others...) {
			key, err := authority.ActiveKey(t.Context(), of)
			w.must(err)
			stored, err := w.db.RevocationList(t.Context(), key)
			w.must(err)
			list = append(list, stored.Number)
		}
		return list
	}
	want := func(when string, wanted ...int64) {
		t.Helper()
		if got := numbers(); !slices.Equal(got, wanted) {
			t.Errorf("%s: the lists are %v, want %v", when, got, wanted)
		}
	}
	want("at first", 1, 1, 1, 1)

	vault.Slow(5 * limit)
	defer vault.Slow(0)
	w.now = w.now.Add(revocation.Renewal + time.Second)
	began := time.Now()
	if err := lists.Renew(t.Context()); !fault.Is(err, pki.ReasonKMSUnavailable) {
		t.Errorf("it hangs: %v", err)
	}
	if took := time.Since(began); took > 2*limit+time.Second {
		t.Errorf("it took %s", took)
	}
	want("while it hangs", 2, 1, 1, 1)
	vault.Slow(0)
	w.must(lists.Renew(t.Context()))
	want("a moment later", 2, 1, 1, 1)
	w.now = w.now.Add(30 * time.Second)
	w.must(lists.Renew(t.Context()))
	want("after the pause", 2, 2, 2, 2)
}
