// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

func hashOf(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// newPool is a pool that is good for a thousand tokens an hour, three at once.
func (w *world) newPool(name string) fleet.TokenPool {
	id := newID[fleet.PoolID]()
	return fleet.TokenPool{
		ID: id, Tenant: w.tenant, Name: name, Description: "for a test", Tags: fleet.Tags{"site": "paris", "rack": "7"}, TTL: time.Hour, PerHour: 1000, Burst: 3,
		Hash: hashOf(string(id)), RotatedAt: w.now, CreatedBy: "ci", CreatedAt: w.now,
	}
}

func (w *world) pool(name string, adjust ...func(*fleet.TokenPool)) fleet.TokenPool {
	w.Helper()
	p := w.newPool(name)
	for _, change := range adjust {
		change(&p)
	}
	created, err := w.CreateTokenPool(w.Context(), w.by(), p)
	w.must(err)
	return created
}

// draw wants a token of the pool.
func (w *world) draw(p fleet.TokenPool) fleet.DrawVerdict {
	w.Helper()
	v, err := w.tryDraw(p)
	w.must(err)
	return v
}

func (w *world) tryDraw(p fleet.TokenPool) (fleet.DrawVerdict, error) {
	by := w.by()
	by.Principal = fleet.Principal{Kind: fleet.PrincipalTokenPool, ID: string(p.ID), Name: p.Name, Tenant: w.tenant}
	id := newID[fleet.TokenID]()
	return w.DrawToken(w.Context(), by, p.ID, fleet.BootstrapToken{ID: id, Hash: hashOf(string(id)), Description: "i-0abc", CreatedBy: p.Name})
}

// wantDraw wants a draw to be refused for a reason, none if empty.
func (w *world) wantDraw(p fleet.TokenPool, reason string) fleet.DrawVerdict {
	w.Helper()
	v := w.draw(p)
	if v.Reason != reason {
		w.Errorf("draw: got %+v, want %q", v, reason)
	}
	return v
}

func (w *world) poolNow(p fleet.TokenPool) fleet.TokenPool {
	w.Helper()
	got, err := w.TokenPool(w.Context(), w.tenant, string(p.ID), w.now)
	w.must(err)
	return got
}

var tokenPools = suite{
	"a pool is found by id, name and hash": func(w *world) {
		group := w.group("web")
		p := w.newPool("asg")
		p.Group, p.LiveLimit = group.ID, 7
		created, err := w.CreateTokenPool(w.Context(), w.by(), p)
		w.must(err)
		w.wantAudit(string(p.ID), "token_pool.create")
		if !reflect.DeepEqual(created, p) {
			w.Errorf("created %+v, want %+v", created, p)
		}
		for _, key := range []string{string(p.ID), "asg"} {
			if got, err := w.TokenPool(w.Context(), w.tenant, key, w.now); err != nil || !reflect.DeepEqual(got, p) {
				w.Errorf("%s: got %+v, %v", key, got, err)
			}
			_, err := w.TokenPool(w.Context(), w.in("theirs").tenant, key, w.now)
			w.want(err, store.ErrNotFound)
		}
		if got, err := w.TokenPoolByHash(w.Context(), p.Hash); err != nil || !reflect.DeepEqual(got, p) {
			w.Errorf("by hash: got %+v, %v", got, err)
		}
		for _, none := range []string{"", "ASG", string(newID[fleet.PoolID]()), "x' OR 1=1 --"} {
			_, err := w.TokenPool(w.Context(), w.tenant, none, w.now)
			w.want(err, store.ErrNotFound)
		}
		_, err = w.TokenPoolByHash(w.Context(), hashOf("guess"))
		w.want(err, store.ErrNotFound)
		_, err = w.TokenPoolByHash(w.Context(), [32]byte{})
		w.want(err, store.ErrNotFound)
	},
	"pools are listed by name": func(w *world) {
		for _, name := range []string{"c", "a", "d", "b"} {
			w.pool(name)
		}
		w.in("theirs").pool("a")
		list := pages(w, func(page fleet.Page) ([]fleet.TokenPool, string, error) {
			return w.TokenPools(w.Context(), w.tenant, w.now, page)
		})
		wantIDs(w, list, []string{"a", "b", "c", "d"}, func(p fleet.TokenPool) string { return p.Name })
	},
	"a pool that is not deleted holds its name": func(w *world) {
		first := w.pool("asg")
		_, err := w.CreateTokenPool(w.Context(), w.by(), w.newPool("asg"))
		w.want(err, store.ErrExists)
		w.in("theirs").pool("asg")
		_, err = w.DeleteTokenPool(w.Context(), w.by(), first.ID)
		w.must(err)
		w.pool("asg")
	},
	"a pool's group must be one of the tenant that is not deleted": func(w *world) {
		theirs, gone := w.in("theirs").group("web"), w.group("gone")
		w.must(w.DeleteGroup(w.Context(), w.by(), gone.ID))
		kept := w.pool("kept")
		for _, group := range []fleet.GroupID{newID[fleet.GroupID](), theirs.ID, gone.ID} {
			p := w.newPool("asg")
			p.Group = group
			_, err := w.CreateTokenPool(w.Context(), w.by(), p)
			w.want(err, store.ErrNotFound)
			_, err = w.UpdateTokenPool(w.Context(), w.by(), kept.ID, fleet.PoolChange{Group: &group})
			w.want(err, store.ErrNotFound)
		}
		if p := w.poolNow(kept); p.Group != "" {
			w.Errorf("got %+v", p)
		}
	},
	"a token that was drawn is one like any other, of the pool's group and life": func(w *world) {
		group := w.group("web")
		p := w.pool("asg", func(p *fleet.TokenPool) { p.Group, p.TTL = group.ID, 20*time.Minute })
		v := w.wantDraw(p, "")
		token, err := w.tokenByHash(v.Token.Hash)
		w.must(err)
		if !reflect.DeepEqual(token, v.Token) || token.Group != group.ID || token.Pool != p.ID || token.PoolName != "asg" ||
			token.Description != "i-0abc" || !token.CreatedAt.Equal(w.now) || !token.ExpiresAt.Equal(w.now.Add(20*time.Minute)) {
			w.Errorf("stored %+v, told %+v", token, v.Token)
		}
		issued := w.lastAudit(string(token.ID))
		if issued.Action != "bootstrap_token.issue" || issued.ActorKind != fleet.PrincipalTokenPool || issued.ActorName != "asg" ||
			issued.Source != w.by().Source || !strings.Contains(string(issued.After), `"asg"`) {
			w.Errorf("audited %+v", issued)
		}
		if p := w.poolNow(p); p.Live != 1 {
			w.Errorf("%d are live", p.Live)
		}
		r := w.redemption(token.ID)
		w.must(w.redeem(r))
		if a := w.agent(r.Agent); a.Group != group.ID {
			w.Errorf("enrolled as %+v", a)
		}
		if enrolled := w.lastAudit(string(r.Agent)); !strings.Contains(string(enrolled.After), `"asg"`) {
			w.Errorf("the enrolment is audited as %+v", enrolled)
		}
		events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: r.Agent}, fleet.Page{Size: 1})
		w.must(err)
		if events[0].Attributes["pool"] != "asg" {
			w.Errorf("the event is %+v", events[0])
		}
		listed, _, err := w.BootstrapTokens(w.Context(), w.tenant, fleet.Page{Size: 10})
		w.must(err)
		if len(listed) != 1 || listed[0].PoolName != "asg" || listed[0].Pool != p.ID {
			w.Errorf("listed %+v", listed)
		}
	},
	"a pool hands out a burst, and then its rate": func(w *world) {
		p := w.pool("asg", func(p *fleet.TokenPool) { p.PerHour, p.Burst = 60, 2 })
		w.wantDraw(p, "")
		w.wantDraw(p, "")
		v := w.wantDraw(p, fleet.RefusedPoolRateLimited)
		if v.RetryAfter != time.Minute {
			w.Errorf("retry after %s", v.RetryAfter)
		}
		if refused := w.lastAudit(string(p.ID)); refused.RefusalReason != fleet.RefusedPoolRateLimited || refused.Action != "bootstrap_token.issue" {
			w.Errorf("audited %+v", refused)
		}
		w.pass(v.RetryAfter)
		w.wantDraw(p, "")
		w.wantDraw(p, fleet.RefusedPoolRateLimited)
	},
	"of many that draw at once, no more get one than may": func(w *world) {
		p := w.pool("asg", func(p *fleet.TokenPool) { p.PerHour, p.Burst = 1, 3 })
		limited := w.pool("limited", func(p *fleet.TokenPool) { p.Burst, p.LiveLimit = 100, 2 })
		for _, c := range []struct {
			pool   fleet.TokenPool
			reason string
			most   int
		}{{p, fleet.RefusedPoolRateLimited, 3}, {limited, fleet.RefusedPoolExhausted, 2}} {
			verdicts := atOnce(w, 10, func(int) (fleet.DrawVerdict, error) { return w.tryDraw(c.pool) })
			drawn := 0
			for _, v := range verdicts {
				if v.Reason == "" {
					drawn++
				} else if v.Reason != c.reason {
					w.Errorf("refused for %s", v.Reason)
				}
			}
			if live := w.poolNow(c.pool).Live; drawn != c.most || live != c.most {
				w.Errorf("%s: %d were drawn, %d are live, want %d", c.pool.Name, drawn, live, c.most)
			}
		}
	},
	"only live tokens count against the limit": func(w *world) {
		p := w.pool("asg", func(p *fleet.TokenPool) { p.Burst, p.LiveLimit = 100, 3 })
		first, second := w.draw(p).Token, w.draw(p).Token
		w.draw(p)
		w.wantDraw(p, fleet.RefusedPoolExhausted)
		w.must(w.redeem(w.redemption(first.ID)))
		w.wantDraw(p, "")
		w.wantDraw(p, fleet.RefusedPoolExhausted)
		_, err := w.RevokeBootstrapToken(w.Context(), w.by(), second.ID)
		w.must(err)
		w.wantDraw(p, "")
		w.pass(p.TTL)
		w.wantDraw(p, "")
		if live := w.poolNow(p).Live; live != 1 {
			w.Errorf("%d are live", live)
		}
	},
	"a change is for the tokens to come": func(w *world) {
		group := w.group("web")
		p := w.pool("asg", func(p *fleet.TokenPool) { p.PerHour, p.Burst = 1, 1 })
		before := w.draw(p).Token
		w.wantDraw(p, fleet.RefusedPoolRateLimited)
		description, ttl, limit, rate, burst := "changed", 15*time.Minute, 5, 3600, 2
		changed, err := w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{
			Description: &description, Group: &group.ID, TTL: &ttl, LiveLimit: &limit, PerHour: &rate, Burst: &burst, Tags: &fleet.Tags{"site": "rome"},
		})
		w.must(err)
		if audited := w.audited(string(p.ID)); !slices.Contains(audited, "token_pool.update") {
			w.Errorf("audited %v", audited)
		}
		if got := w.poolNow(p); !reflect.DeepEqual(got, changed) || got.Description != "changed" || got.Group != group.ID ||
			got.TTL != ttl || got.LiveLimit != 5 || got.PerHour != 3600 || got.Burst != 2 {
			w.Errorf("got %+v, told %+v", got, changed)
		}
		w.pass(time.Second) // of the new rate: what was owed at the old one is owed no more
		after := w.wantDraw(p, "").Token
		if after.Group != group.ID || after.Tags["site"] != "rome" || len(after.Tags) != 1 || !after.ExpiresAt.Equal(w.now.Add(ttl)) {
			w.Errorf("drawn %+v", after)
		}
		if stored, err := w.tokenByHash(before.Hash); err != nil || stored.Group != "" {
			w.Errorf("the one of before is %+v, %v", stored, err)
		}
		none := fleet.GroupID("")
		changed, err = w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{Group: &none})
		w.must(err)
		if changed.Group != "" || changed.Description != "changed" {
			w.Errorf("got %+v", changed)
		}
	},
	"a disabled pool hands out nothing, and what it handed out stays": func(w *world) {
		p := w.pool("asg")
		token := w.draw(p).Token
		yes, no := true, false
		disabled, err := w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{Disabled: &yes})
		w.must(err)
		w.wantDraw(p, fleet.RefusedPoolDisabled)
		w.pass(time.Minute)
		again, err := w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{Disabled: &yes})
		w.must(err)
		if !again.DisabledAt.Equal(disabled.DisabledAt) {
			w.Errorf("disabled at %s, then at %s", disabled.DisabledAt, again.DisabledAt)
		}
		w.must(w.redeem(w.redemption(token.ID)))
		_, err = w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{Disabled: &no})
		w.must(err)
		w.wantDraw(p, "")
	},
	"a former secret is good until it is told, and no longer": func(w *world) {
		p := w.pool("asg")
		first, second, third := p.Hash, hashOf("second"), hashOf("third")
		until := w.now.Add(time.Hour)
		rotated, err := w.RotateTokenPool(w.Context(), w.by(), p.ID, second, until)
		w.must(err)
		w.wantAudit(string(p.ID), "token_pool.rotate_secret")
		if rotated.Hash != second || rotated.PreviousHash != first || !rotated.PreviousUntil.Equal(until) || !rotated.RotatedAt.Equal(w.now) {
			w.Errorf("got %+v", rotated)
		}
		accepts := func(hash [32]byte) bool {
			w.Helper()
			found, err := w.TokenPoolByHash(w.Context(), hash)
			if err != nil {
				w.want(err, store.ErrNotFound)
				return false
			}
			if found.ID != p.ID {
				w.Errorf("found %+v", found)
			}
			return found.Accepts(hash, w.now)
		}
		if !accepts(first) || !accepts(second) {
			w.Error("one of two is refused during the overlap")
		}
		w.pass(time.Hour)
		if accepts(first) || !accepts(second) {
			w.Error("the former is accepted after the overlap, or the present is not")
		}
		_, err = w.RotateTokenPool(w.Context(), w.by(), p.ID, third, w.now.Add(time.Hour))
		w.must(err)
		fourth := hashOf("fourth")
		_, err = w.RotateTokenPool(w.Context(), w.by(), p.ID, fourth, time.Time{})
		w.must(err)
		if found, err := w.TokenPoolByHash(w.Context(), third); err != nil || found.ID != p.ID {
			w.Errorf("who still uses the former secret is not known: %+v, %v", found, err)
		}
		for hash, want := range map[[32]byte]bool{first: false, second: false, third: false, fourth: true} {
			if accepts(hash) != want {
				w.Errorf("accepts(%x): want %v", hash[:4], want)
			}
		}
		if accepts([32]byte{}) {
			w.Error("no secret at all is accepted")
		}
	},
	"deleting a pool revokes what nobody redeemed, and what it enrolled still names it": func(w *world) {
		p, other := w.pool("asg"), w.pool("other")
		used, unused, elsewhere := w.draw(p).Token, w.draw(p).Token, w.draw(other).Token
		operators := w.token("")
		w.must(w.redeem(w.redemption(used.ID)))
		_, err := w.in("theirs").DeleteTokenPool(w.Context(), w.in("theirs").by(), p.ID)
		w.want(err, store.ErrNotFound)
		revoked, err := w.DeleteTokenPool(w.Context(), w.by(), p.ID)
		w.must(err)
		if revoked != 1 {
			w.Errorf("%d were revoked", revoked)
		}
		w.wantAudit(string(p.ID), "token_pool.delete")
		for token, want := range map[fleet.TokenID]error{unused.ID: store.ErrState, elsewhere.ID: nil, operators.ID: nil} {
			w.want(w.redeem(w.redemption(token)), want)
		}
		stored, err := w.tokenByHash(used.Hash)
		w.must(err)
		if stored.PoolName != "asg" {
			w.Errorf("got %+v", stored)
		}

		_, err = w.tryDraw(p)
		w.want(err, store.ErrNotFound)
		_, err = w.TokenPool(w.Context(), w.tenant, "asg", w.now)
		w.want(err, store.ErrNotFound)
		_, err = w.DeleteTokenPool(w.Context(), w.by(), p.ID)
		w.want(err, store.ErrNotFound)
		_, err = w.UpdateTokenPool(w.Context(), w.by(), p.ID, fleet.PoolChange{})
		w.want(err, store.ErrNotFound)
		_, err = w.RotateTokenPool(w.Context(), w.by(), p.ID, hashOf("late"), time.Time{})
		w.want(err, store.ErrNotFound)
		if found, err := w.TokenPoolByHash(w.Context(), p.Hash); err != nil || found.Accepts(p.Hash, w.now) {
			w.Errorf("by hash: %+v, %v", found, err)
		}
		list, _, err := w.TokenPools(w.Context(), w.tenant, w.now, fleet.Page{Size: 10})
		w.must(err)
		wantIDs(w, list, []fleet.PoolID{other.ID}, func(p fleet.TokenPool) fleet.PoolID { return p.ID })
	},
	"a pool of another tenant is none": func(w *world) {
		p, theirs := w.pool("asg"), w.in("theirs")
		_, err := theirs.tryDraw(p)
		w.want(err, store.ErrNotFound)
		_, err = theirs.UpdateTokenPool(w.Context(), theirs.by(), p.ID, fleet.PoolChange{})
		w.want(err, store.ErrNotFound)
		_, err = theirs.RotateTokenPool(w.Context(), theirs.by(), p.ID, hashOf("theirs"), time.Time{})
		w.want(err, store.ErrNotFound)
		w.wantDraw(p, "")
	},
	"tokens that enrolled nobody are swept some time after their end, others stay": func(w *world) {
		p := w.pool("asg")
		redeemed := w.token("")
		w.must(w.redeem(w.redemption(redeemed.ID)))
		revoked := w.token("")
		_, err := w.RevokeBootstrapToken(w.Context(), w.by(), revoked.ID)
		w.must(err)
		w.token("")
		w.draw(p)
		w.in("theirs").token("")
		w.pass(time.Minute)
		late := w.token("")

		before := w.now.Add(time.Hour) // when the last one ends: that stays
		if n, err := w.SweepBootstrapTokens(w.Context(), before, 3); err != nil || n != 3 {
			w.Errorf("swept %d, %v", n, err)
		}
		if n, err := w.SweepBootstrapTokens(w.Context(), before, 3); err != nil || n != 1 {
			w.Errorf("swept %d, %v", n, err)
		}
		list, _, err := w.BootstrapTokens(w.Context(), w.tenant, fleet.Page{Size: 10})
		w.must(err)
		left := []fleet.TokenID{redeemed.ID, late.ID}
		got := []fleet.TokenID{}
		for _, t := range list {
			got = append(got, t.ID)
		}
		slices.Sort(left)
		slices.Sort(got)
		if !slices.Equal(got, left) {
			w.Errorf("left %v, want %v", got, left)
		}
		if theirs, _, err := w.BootstrapTokens(w.Context(), "theirs", fleet.Page{Size: 10}); err != nil || len(theirs) != 0 {
			w.Errorf("theirs: %v, %v", theirs, err)
		}
	},
}
