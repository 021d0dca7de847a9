// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// lists stores the next list of the key k1, and returns it with what it names.
func (w *world) lists() (fleet.RevocationList, []fleet.Revoked) {
	w.Helper()
	revoked, number, err := w.RevokedBy(w.Context(), w.tenant, "k1", w.now)
	w.must(err)
	l := fleet.RevocationList{
		Tenant: w.tenant, Key: "k1", Number: number + 1, DER: []byte("list after " + strconv.FormatInt(number, 10)), ThisUpdate: w.now, NextUpdate: w.now.Add(24 * time.Hour),
	}
	w.must(w.PutRevocationList(w.Context(), l, revoked))
	return l, revoked
}

// wantDue wants exactly these keys to be due for a list, those older than an hour among them.
func (w *world) wantDue(want ...fleet.KeyID) {
	w.Helper()
	due, err := w.DueLists(w.Context(), w.now.Add(-time.Hour))
	w.must(err)
	wantIDs(w, due, want, func(l fleet.RevocationList) fleet.KeyID { return l.Key })
}

var revocationLists = suite{
	"a list is due when something is revoked that none names, and when it is old": func(w *world) {
		a, other := w.enrol(), w.enrol()
		w.wantDue()
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}, Reason: fleet.ReasonSuperseded})
		w.wantDue("k1")
		first, named := w.lists()
		if want := []fleet.Revoked{{Serial: a.serial, At: w.now, Reason: fleet.ReasonSuperseded}}; !reflect.DeepEqual(named, want) || first.Number != 1 {
			w.Errorf("list %d names %+v, want %+v", first.Number, named, want)
		}
		w.wantDue()
		w.pass(time.Hour)
		w.wantDue("k1")
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{other.id}})
		w.wantDue("k1") // once
		if second, named := w.lists(); len(named) != 2 || second.Number != 2 {
			w.Errorf("list %d names %+v", second.Number, named)
		}
		w.wantDue()
	},
	"a list is due of each key that certifies agents and has none": func(w *world) {
		draft, retired := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyDraft), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyRetired)
		draft.ID = "k1"
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{draft, retired, w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)}))
		w.wantDue("k1")
		w.lists()
		w.wantDue()
	},
	"what expires is on one list at least": func(w *world) {
		a := w.enrol()
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}})
		w.pass(366 * 24 * time.Hour)
		if _, named := w.lists(); len(named) != 1 {
			w.Errorf("the first names %+v", named)
		}
		if _, named := w.lists(); len(named) != 0 {
			w.Errorf("the second names %+v", named)
		}
	},
	"one list follows another, and is found by its key alone": func(w *world) {
		_, err := w.RevocationList(w.Context(), "k1")
		w.want(err, store.ErrNotFound)
		first, _ := w.lists()
		second, _ := w.lists()
		for _, late := range []fleet.RevocationList{first, second} {
			w.want(w.PutRevocationList(w.Context(), late, nil), store.ErrConflict)
		}
		skipped := second
		skipped.Number += 2
		w.want(w.PutRevocationList(w.Context(), skipped, nil), store.ErrConflict)
		got, err := w.in("theirs").RevocationList(w.Context(), "k1")
		w.must(err)
		if !reflect.DeepEqual(got, second) {
			w.Errorf("got %+v, want %+v", got, second)
		}
	},
	"of many that sign at once, one list is stored": func(w *world) {
		w.lists()
		won, lost := race(8, func(i int) (int, error) {
			return i, w.PutRevocationList(w.Context(), fleet.RevocationList{
				Tenant: w.tenant, Key: "k1", Number: 2, DER: []byte{byte(i)}, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour),
			}, nil)
		})
		if len(won) != 1 {
			w.Fatalf("%d were stored", len(won))
		}
		for _, err := range lost {
			w.want(err, store.ErrConflict)
		}
	},
	"another tenant's revocations are on no list of this one": func(w *world) {
		theirs := w.in("theirs")
		a := theirs.enrol()
		theirs.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}})
		if _, named := w.lists(); len(named) != 0 {
			w.Errorf("it names %+v", named)
		}
		w.wantDue("k1") // of theirs
	},
}
