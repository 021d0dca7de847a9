// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

func (w *world) restored() store.Restored {
	return store.Restored{At: w.now, Setting: "line", Line: []byte("another")}
}

var restoration = suite{
	"after a restore nothing is good that may have been handed out since the backup": func(w *world) {
		_, err := w.FixSetting(w.Context(), "line", []byte("one"))
		w.must(err)
		g := w.gateway("gw-1", 1)
		s, idle := w.connect(w.enrol(), g), w.enrol()
		live, theirs := w.token(""), w.in("theirs").token("")
		w.pass(time.Minute)
		v, err := w.VoidAfterBackup(w.Context(), w.restored())
		w.must(err)
		if v.Sessions != 1 || v.BootstrapTokens != 2 {
			w.Errorf("void are %+v", v)
		}
		for _, told := range []*world{w, w.in("theirs")} {
			if got := told.lastAudit(""); got.Action != "installation.after_restore" || got.ActorKind != fleet.PrincipalSystem {
				w.Errorf("the audit log says %+v", got)
			}
		}
		line, err := w.FixSetting(w.Context(), "line", []byte("one"))
		w.must(err)
		if string(line) != "another" {
			w.Errorf("the line is %s", line)
		}
		if got := w.agent(s.id).Session; got.EndedAt.IsZero() || got.EndReason != "RESTORED" {
			w.Errorf("the session is %+v", got)
		}
		for _, token := range []fleet.BootstrapToken{live, theirs} {
			got, err := w.tokenByHash(token.Hash)
			w.must(err)
			if got.State(w.now) != fleet.TokenRevoked {
				w.Errorf("a token is %+v", got)
			}
		}
		// Whoever comes gets an epoch that was never given, and is asked for its state.
		again := w.gateway("gw-1", 1)
		for _, a := range []agent{s.agent, idle} {
			got := w.claim(w.claimOf(a, again))
			if got.Outcome != fleet.ClaimClaimed || got.Epoch <= store.EpochLeap || got.StateKnown {
				w.Errorf("a claim gives %+v", got)
			}
		}
		w.pass(time.Minute)
		_, err = w.VoidAfterBackup(w.Context(), w.restored()) // once more
		w.must(err)
	},
	"while a replica runs nothing is made void": func(w *world) {
		token := w.token("")
		_, err := w.RenewReplica(w.Context(), fleet.Replica{ID: "r", StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}, w.now)
		w.must(err)
		_, err = w.VoidAfterBackup(w.Context(), w.restored())
		w.want(err, store.ErrState)
		got, err := w.tokenByHash(token.Hash)
		w.must(err)
		if got.State(w.now) != fleet.TokenLive {
			w.Errorf("the token is %+v", got)
		}
		w.pass(time.Minute)
		_, err = w.VoidAfterBackup(w.Context(), w.restored())
		w.must(err)
	},
	"what a published list names is revoked, and stays on further lists": func(w *world) {
		a, before := w.enrol(), w.enrol()
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{before.id}})
		w.lists()
		published := fleet.RevocationList{Tenant: w.tenant, Key: "k1", Number: 9, DER: []byte("published"), ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour)}
		names := []fleet.Revoked{
			{Serial: a.serial, At: w.now.Add(-time.Minute), Reason: fleet.ReasonKeyCompromise}, {Serial: before.serial, At: w.now}, {Serial: "5e", At: w.now, Reason: fleet.ReasonSuperseded},
		}
		for range 2 { // once more it changes nothing
			i, err := w.ImportRevocationList(w.Context(), w.by(), published, names)
			w.must(err)
			if i.Unknown != 1 || i.Revoked > 1 {
				w.Errorf("imported %+v", i)
			}
			w.wantAudit("k1", "revocation_list.import")
		}
		c, err := w.Certificate(w.Context(), w.tenant, a.serial)
		w.must(err)
		if !c.RevokedAt.Equal(names[0].At) || c.Reason != fleet.ReasonKeyCompromise {
			w.Errorf("it is %+v", c)
		}
		since, err := w.RevokedSince(w.Context(), w.tenant, 1, w.now, 10)
		w.must(err)
		if len(since.Serials) != 1 || since.Serials[0] != a.serial {
			w.Errorf("gateways are told %+v", since)
		}
		got, err := w.RevocationList(w.Context(), "k1")
		w.must(err)
		if !reflect.DeepEqual(got, published) {
			w.Errorf("the list is %+v", got)
		}
		next, named := w.lists()
		if next.Number != 10 || len(named) != 3 {
			w.Errorf("list %d names %+v", next.Number, named)
		}
		// An older one takes the place of none.
		_, err = w.ImportRevocationList(w.Context(), w.by(), published, nil)
		w.must(err)
		if got, err := w.RevocationList(w.Context(), "k1"); err != nil || got.Number != 10 {
			w.Errorf("the list is %+v, %v", got, err)
		}
	},
}
