// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// envelopesOf reads a column of a tenant, or of the installation, page by page.
func (w *world) envelopesOf(c fleet.WrappedColumn, tenant fleet.TenantID) (all []fleet.Envelope) {
	w.Helper()
	for after := ""; ; after = all[len(all)-1].Key {
		page, err := w.Envelopes(w.Context(), c, tenant, after, 2)
		w.must(err)
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}

// caKeys stores keys of the tenant, one of them retired and one without anything wrapped, and returns the ids of what is.
func (w *world) caKeys() (wrapped []string) {
	w.Helper()
	var keys []fleet.SigningKey
	for _, state := range []fleet.SigningKeyState{fleet.SigningKeyActive, fleet.SigningKeyTrusted, fleet.SigningKeyRetired, fleet.SigningKeyDraft} {
		key := w.signingKey(fleet.SigningKeyRoot, state)
		key.SealedKey = []byte("sealed " + key.ID)
		wrapped = append(wrapped, string(key.ID))
		keys = append(keys, key)
	}
	elsewhere := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
	elsewhere.SealedKey = []byte{}
	w.must(w.CreateSigningKeys(w.Context(), w.tenant, append(keys, elsewhere)))
	slices.Sort(wrapped)
	return wrapped
}

var envelopes = suite{
	"what is wrapped is listed by key, of one tenant, retired keys too": func(w *world) {
		mine := w.caKeys()
		w.in("theirs").caKeys()
		got := w.envelopesOf(fleet.WrappedCAKey, w.tenant)
		wantIDs(w, got, mine, func(e fleet.Envelope) string { return e.Key })
		for _, e := range got {
			if e.Tenant != w.tenant || string(e.Value) != "sealed "+e.Key {
				w.Errorf("got %+v", e)
			}
		}
	},
	"the installation's keys are listed apart": func(w *world) {
		w.caKeys()
		server := w.signingKey(fleet.SigningKeyServerRoot, fleet.SigningKeyActive)
		server.Tenant = ""
		w.must(w.CreateSigningKeys(w.Context(), "", []fleet.SigningKey{server}))
		got := w.envelopesOf(fleet.WrappedCAKey, "")
		if want := []fleet.Envelope{{Key: string(server.ID), Value: server.SealedKey}}; !reflect.DeepEqual(got, want) {
			w.Errorf("got %+v, want %+v", got, want)
		}
		w.must(w.ReplaceEnvelope(w.Context(), fleet.System("", w.now), fleet.WrappedCAKey, got[0], []byte("anew")))
		if got := w.envelopesOf(fleet.WrappedCAKey, ""); string(got[0].Value) != "anew" {
			w.Errorf("got %+v", got)
		}
	},
	"a tenant's data key is one": func(w *world) {
		w.in("theirs")
		got := w.envelopesOf(fleet.WrappedDataKey, w.tenant)
		if want := []fleet.Envelope{{Tenant: w.tenant, Key: string(w.tenant), Value: []byte("wrapped")}}; !reflect.DeepEqual(got, want) {
			w.Errorf("got %+v, want %+v", got, want)
		}
	},
	"of the settings each stands alone": func(w *world) {
		for _, name := range []string{"trust_domain", fleet.WrappedDownlinkKey.Only, fleet.WrappedUplinkSecret.Only} {
			_, err := w.FixSetting(w.Context(), name, []byte(name))
			w.must(err)
		}
		got := w.envelopesOf(fleet.WrappedDownlinkKey, "")
		if want := []fleet.Envelope{{Key: "downlink_key", Value: []byte("downlink_key")}}; !reflect.DeepEqual(got, want) {
			w.Errorf("got %+v, want %+v", got, want)
		}
		w.must(w.ReplaceEnvelope(w.Context(), fleet.System("", w.now), fleet.WrappedDownlinkKey, got[0], []byte("anew")))
		for name, want := range map[string]string{"downlink_key": "anew", "uplink_secret": "uplink_secret", "trust_domain": "trust_domain"} {
			if stored, err := w.FixSetting(w.Context(), name, []byte("late")); err != nil || string(stored) != want {
				w.Errorf("%s is %q, %v", name, stored, err)
			}
		}
		if got := w.envelopesOf(fleet.WrappedKeyCheck, ""); len(got) != 0 {
			w.Errorf("nobody stored a check: %+v", got)
		}
	},
	"every wrapped column is read and replaced": func(w *world) {
		w.caKeys()
		w.must(w.PutResponder(w.Context(), w.responder("k1", "1"), ""))
		for _, c := range fleet.WrappedColumns {
			tenant := w.tenant
			if c.Tenant == "" {
				_, err := w.FixSetting(w.Context(), c.Only, []byte("sealed"))
				w.must(err)
				tenant = ""
			}
			got := w.envelopesOf(c, tenant)
			if len(got) == 0 {
				w.Errorf("%s: nothing is there", c.Purpose)
				continue
			}
			by := w.by()
			by.Tenant = tenant
			w.must(w.ReplaceEnvelope(w.Context(), by, c, got[0], []byte("anew")))
			if after := w.envelopesOf(c, tenant); string(after[0].Value) != "anew" {
				w.Errorf("%s: got %+v", c.Purpose, after)
			}
		}
	},
	"an envelope is replaced where it stood, and audited": func(w *world) {
		ids := w.caKeys()
		theirs := w.in("theirs").caKeys()
		before := w.envelopesOf(fleet.WrappedCAKey, "theirs")
		e := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[1]
		w.must(w.ReplaceEnvelope(w.Context(), w.by(), fleet.WrappedCAKey, e, []byte("anew")))
		for _, e := range w.envelopesOf(fleet.WrappedCAKey, w.tenant) {
			if anew := string(e.Value) == "anew"; anew != (e.Key == ids[1]) {
				w.Errorf("got %+v", e)
			}
		}
		w.wantAudit(ids[1], "master_key.rotate")
		if after := w.envelopesOf(fleet.WrappedCAKey, "theirs"); len(theirs) != len(after) || !reflect.DeepEqual(before, after) {
			w.Errorf("theirs were %+v and are %+v", before, after)
		}
	},
	"what was replaced meanwhile is not replaced, nor what is another's": func(w *world) {
		ids := w.caKeys()
		e := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[0]
		w.must(w.ReplaceEnvelope(w.Context(), w.by(), fleet.WrappedCAKey, e, []byte("first")))
		w.want(w.ReplaceEnvelope(w.Context(), w.by(), fleet.WrappedCAKey, e, []byte("second")), store.ErrConflict)
		if audited := w.audited(ids[0]); len(audited) != 1 {
			w.Errorf("audited %v", audited)
		}
		gone := fleet.Envelope{Tenant: w.tenant, Key: "nothing", Value: e.Value}
		w.want(w.ReplaceEnvelope(w.Context(), w.by(), fleet.WrappedCAKey, gone, []byte("second")), store.ErrConflict)
		now := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[0]
		w.want(w.ReplaceEnvelope(w.Context(), w.in("theirs").by(), fleet.WrappedCAKey, now, []byte("second")), store.ErrConflict)
		if after := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[0]; string(after.Value) != "first" {
			w.Errorf("got %+v", after)
		}
	},
	"of many that replace an envelope at once, one does": func(w *world) {
		w.caKeys()
		e := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[0]
		done, failures := race(6, func(i int) (byte, error) {
			return byte(i), w.ReplaceEnvelope(w.Context(), w.by(), fleet.WrappedCAKey, e, []byte{byte(i) + 1})
		})
		if len(done) != 1 {
			w.Fatalf("%d did", len(done))
		}
		for _, err := range failures {
			w.want(err, store.ErrConflict)
		}
		if after := w.envelopesOf(fleet.WrappedCAKey, w.tenant)[0]; after.Value[0] != done[0]+1 {
			w.Errorf("got %+v", after)
		}
	},
}
