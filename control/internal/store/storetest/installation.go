// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

var installation = suite{
	"the first writer fixes a setting": func(w *world) {
		first, err := w.FixSetting(w.Context(), "trust_domain", []byte("example.org"))
		w.must(err)
		second, err := w.FixSetting(w.Context(), "trust_domain", []byte("example.com"))
		w.must(err)
		if string(first) != "example.org" || !bytes.Equal(first, second) {
			w.Errorf("got %q, then %q", first, second)
		}
	},
	"of many first writers one wins and all are told": func(w *world) {
		stored := atOnce(w, 8, func(i int) (string, error) {
			value, err := w.FixSetting(w.Context(), "key", []byte{byte(i)})
			return string(value), err
		})
		if len(stored) != 8 || len(slices.Compact(stored)) != 1 {
			w.Errorf("writers were told %q", stored)
		}
	},
	"the last writer puts a setting": func(w *world) {
		_, err := w.Setting(w.Context(), "certificate")
		w.want(err, store.ErrNotFound)
		for _, value := range []string{"first", "second"} {
			w.must(w.PutSetting(w.Context(), "certificate", []byte(value)))
			if stored, err := w.Setting(w.Context(), "certificate"); err != nil || string(stored) != value {
				w.Errorf("put %q, got %q, %v", value, stored, err)
			}
		}
		w.must(w.PutSetting(w.Context(), "key", []byte("put")))
		if fixed, err := w.FixSetting(w.Context(), "key", []byte("fixed")); err != nil || string(fixed) != "put" {
			w.Errorf("what is there is fixed: got %q, %v", fixed, err)
		}
	},
	"a tenant is created once": func(w *world) {
		again, err := w.EnsureTenant(w.Context(), fleet.Tenant{ID: w.tenant, CreatedAt: w.now.Add(time.Hour), WrappedDataKey: []byte("another")})
		w.must(err)
		stored, err := w.Tenant(w.Context(), w.tenant)
		w.must(err)
		if string(again.WrappedDataKey) != "wrapped" || !again.CreatedAt.Equal(w.now) || !bytes.Equal(again.WrappedDataKey, stored.WrappedDataKey) {
			w.Errorf("ensured %+v, stored %+v", again, stored)
		}
	},
	"tenants are listed by id": func(w *world) {
		w.in("zeta")
		w.in("beta")
		tenants, err := w.Tenants(w.Context())
		w.must(err)
		var ids []fleet.TenantID
		for _, t := range tenants {
			ids = append(ids, t.ID)
		}
		if !slices.Equal(ids, []fleet.TenantID{"acme", "beta", "zeta"}) {
			w.Errorf("got %v", ids)
		}
	},
	"no tenant is not found": func(w *world) {
		for _, id := range []fleet.TenantID{"nobody", "", "Not A Name", "x'; DROP TABLE tenants; --"} {
			_, err := w.Tenant(w.Context(), id)
			w.want(err, store.ErrNotFound)
		}
	},
	"the database answers": func(w *world) {
		w.must(w.Ping(w.Context()))
	},
}
