// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"crypto/sha256"
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// newID is a fresh id of any kind: UUIDv7 text.
func newID[ID ~string]() ID { return ID(identity.NewAgentID()) }

// apiToken creates a token that is live for an hour.
func (w *world) apiToken(name string) fleet.APIToken {
	w.Helper()
	t := w.newAPIToken(name)
	w.must(w.CreateAPIToken(w.Context(), w.by(), t))
	return t
}

func (w *world) newAPIToken(name string) fleet.APIToken {
	id := newID[fleet.TokenID]()
	return fleet.APIToken{
		ID: id, Tenant: w.tenant, Name: name, Role: fleet.RoleAdmin, Hash: sha256.Sum256([]byte(id)),
		Procedures: []string{"/ampora.v1.AgentService/ListAgents"}, CreatedBy: "ci", CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
}

var access = suite{
	"a token is found by its hash, in whichever tenant and state": func(w *world) {
		theirs := w.in("theirs").apiToken("deploy")
		found, err := w.APITokenByHash(w.Context(), theirs.Hash)
		w.must(err)
		if !reflect.DeepEqual(found, theirs) {
			w.Errorf("got %+v, want %+v", found, theirs)
		}

		mine := w.apiToken("deploy")
		_, err = w.RevokeAPIToken(w.Context(), w.by(), mine.ID)
		w.must(err)
		found, err = w.APITokenByHash(w.Context(), mine.Hash)
		w.must(err)
		if found.State(w.now) != fleet.TokenRevoked || !found.RevokedAt.Equal(w.now) {
			w.Errorf("got %+v, want it revoked now", found)
		}

		_, err = w.APITokenByHash(w.Context(), sha256.Sum256([]byte("guess")))
		w.want(err, store.ErrNotFound)
	},
	"a token without procedures may call all of its role": func(w *world) {
		t := w.newAPIToken("all")
		t.Procedures = nil
		w.must(w.CreateAPIToken(w.Context(), w.by(), t))
		found, err := w.APITokenByHash(w.Context(), t.Hash)
		w.must(err)
		if len(found.Procedures) != 0 {
			w.Errorf("narrowed to %q", found.Procedures)
		}
	},
	"a live token holds its name, an expired or revoked one does not": func(w *world) {
		first := w.apiToken("deploy")
		w.want(w.CreateAPIToken(w.Context(), w.by(), w.newAPIToken("deploy")), store.ErrExists)
		w.in("theirs").apiToken("deploy")

		_, err := w.RevokeAPIToken(w.Context(), w.by(), first.ID)
		w.must(err)
		w.apiToken("deploy")
		w.pass(time.Hour)
		w.apiToken("deploy")
	},
	"of many that take a name at once, one gets it": func(w *world) {
		_, failures := race(6, func(int) (struct{}, error) {
			return struct{}{}, w.CreateAPIToken(w.Context(), w.by(), w.newAPIToken("deploy"))
		})
		if len(failures) != 5 {
			w.Errorf("%d of 6 failed", len(failures))
		}
		for _, err := range failures {
			w.want(err, store.ErrExists)
		}
	},
	"a token's id and hash are its own": func(w *world) {
		first := w.apiToken("one")
		second := w.newAPIToken("two")
		second.Hash = first.Hash
		w.want(w.CreateAPIToken(w.Context(), w.by(), second), store.ErrExists)
		second = w.newAPIToken("two")
		second.ID = first.ID
		w.want(w.CreateAPIToken(w.Context(), w.by(), second), store.ErrExists)
	},
	"a token needs a tenant": func(w *world) {
		nobody := w.by()
		nobody.Tenant = "nobody"
		w.want(w.CreateAPIToken(w.Context(), nobody, w.newAPIToken("deploy")), store.ErrNotFound)
	},
	"tokens are listed newest first": func(w *world) {
		var want []fleet.TokenID
		for i := range 5 {
			w.pass(time.Minute)
			want = append([]fleet.TokenID{w.apiToken(string(rune('a' + i))).ID}, want...)
		}
		w.in("theirs").apiToken("theirs")
		list := pages(w, func(page fleet.Page) ([]fleet.APIToken, string, error) {
			return w.APITokens(w.Context(), w.tenant, page)
		})
		wantIDs(w, list, want, func(t fleet.APIToken) fleet.TokenID { return t.ID })
	},
	"only a live token can be revoked": func(w *world) {
		t := w.apiToken("deploy")
		_, err := w.in("theirs").RevokeAPIToken(w.Context(), w.in("theirs").by(), t.ID)
		w.want(err, store.ErrNotFound)
		_, err = w.RevokeAPIToken(w.Context(), w.by(), "no id")
		w.want(err, store.ErrNotFound)

		revoked, err := w.RevokeAPIToken(w.Context(), w.by(), t.ID)
		w.must(err)
		if !revoked.RevokedAt.Equal(w.now) || revoked.Name != "deploy" {
			w.Errorf("got %+v", revoked)
		}
		_, err = w.RevokeAPIToken(w.Context(), w.by(), t.ID)
		w.want(err, store.ErrState)

		late := w.apiToken("late")
		w.pass(2 * time.Hour)
		_, err = w.RevokeAPIToken(w.Context(), w.by(), late.ID)
		w.want(err, store.ErrState)
	},
	"creating and revoking a token is audited without its secret": func(w *world) {
		t := w.apiToken("deploy")
		w.wantAudit(string(t.ID), "api_token.create")
		w.pass(time.Minute)
		_, err := w.RevokeAPIToken(w.Context(), w.by(), t.ID)
		w.must(err)
		w.wantAudit(string(t.ID), "api_token.revoke")
	},
}

// wantIDs compares a list by its ids.
func wantIDs[T any, ID comparable](w *world, list []T, want []ID, id func(T) ID) {
	w.Helper()
	var got []ID
	for _, item := range list {
		got = append(got, id(item))
	}
	if !reflect.DeepEqual(got, want) {
		w.Errorf("got %v, want %v", got, want)
	}
}
