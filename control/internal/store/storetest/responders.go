// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

func (w *world) responder(key fleet.KeyID, serial fleet.Serial) fleet.Responder {
	return fleet.Responder{
		Tenant: w.tenant, Key: key, Serial: serial, CertificateDER: []byte("der " + serial), SealedKey: []byte("sealed " + serial),
		NotAfter: w.now.Add(90 * 24 * time.Hour),
	}
}

// wantDueResponders wants exactly these to be due, of those that end within a day.
func (w *world) wantDueResponders(want ...fleet.Responder) {
	w.Helper()
	due, err := w.DueResponders(w.Context(), w.now.Add(24*time.Hour))
	w.must(err)
	if len(due) != len(want) || len(want) > 0 && !reflect.DeepEqual(due, want) {
		w.Errorf("due are %+v, want %+v", due, want)
	}
}

var responders = suite{
	"a responder is due of each key that certifies agents, and when its certificate ends": func(w *world) {
		active, retired := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyRetired)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{active, retired, w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)}))
		w.wantDueResponders(fleet.Responder{Tenant: w.tenant, Key: active.ID})
		w.must(w.PutResponder(w.Context(), w.responder(active.ID, "1"), ""))
		w.wantDueResponders()
		w.pass(89*24*time.Hour + time.Second)
		w.wantDueResponders(fleet.Responder{Tenant: w.tenant, Key: active.ID, Serial: "1"})
	},
	"one responder follows the one it was made for, and is found by its key alone": func(w *world) {
		_, err := w.Responder(w.Context(), "k1")
		w.want(err, store.ErrNotFound)
		w.must(w.PutResponder(w.Context(), w.responder("k1", "1"), ""))
		w.want(w.PutResponder(w.Context(), w.responder("k1", "2"), ""), store.ErrConflict)
		w.must(w.PutResponder(w.Context(), w.responder("k1", "2"), "1"))
		w.want(w.PutResponder(w.Context(), w.responder("k1", "3"), "1"), store.ErrConflict)
		got, err := w.in("theirs").Responder(w.Context(), "k1")
		w.must(err)
		if want := w.responder("k1", "2"); !reflect.DeepEqual(got, want) {
			w.Errorf("got %+v, want %+v", got, want)
		}
	},
	"of many that make one at once, one is stored": func(w *world) {
		won, lost := race(6, func(i int) (struct{}, error) {
			return struct{}{}, w.PutResponder(w.Context(), w.responder("k1", fleet.Serial(rune('a'+i))), "")
		})
		if len(won) != 1 {
			w.Errorf("%d were stored", len(won))
		}
		for _, err := range lost {
			w.want(err, store.ErrConflict)
		}
	},
}
