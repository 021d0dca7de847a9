// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// gateways is store.Gateways.
var gateways = suite{
	"a join token is found by its hash, in whichever state":           joinTokenByHash,
	"a join token's scope names tenants that there are":               joinTokenScope,
	"join tokens are listed newest first, to who issued them":         joinTokensListed,
	"only a live join token can be revoked, by who issued it":         joinTokenRevoked,
	"a token makes a gateway, and is used then":                       joinOnce,
	"only a live token lets a gateway join":                           joinDead,
	"an answer that was lost is asked for again with the same key":    joinRepeated,
	"no answer is given again once the gateway is another":            joinRepeatedLate,
	"joining again replaces the gateway":                              joinAnew,
	"a tenant's token takes no gateway that serves others":            joinForeign,
	"a join is told to whom the gateway serves or served":             joinTold,
	"a certificate is renewed beside the one that is shown":           renewGateway,
	"gateways are listed to whom they serve, by id":                   gatewaysListed,
	"a gateway counts the sessions of the tenant that asks":           gatewaySessions,
	"a gateway that did not join serves everybody":                    gatewayUnjoined,
	"a registered gateway keeps its identity":                         registerKeeps,
	"a revoked gateway is refused, and its sessions end":              revokeGateway,
	"tokens of a revoked gateway are void":                            revokeTokens,
	"a gateway is revoked by whose alone it is":                       revokeForeign,
	"the operator revokes any, and every tenant of its scope is told": revokeByOperator,
}

// operator is by as the installation's operator.
func (w *world) operator() fleet.By { return fleet.System("", w.now) }

// newJoinToken is a token for a gateway of these tenants, or of the world's alone, that is live for an hour.
func (w *world) newJoinToken(gateway fleet.GatewayID, scope ...fleet.TenantID) fleet.JoinToken {
	id := newID[fleet.TokenID]()
	if scope == nil {
		scope = []fleet.TenantID{w.tenant}
	}
	return fleet.JoinToken{
		ID: id, Hash: sha256.Sum256([]byte(id)), Gateway: gateway, Scope: fleet.ScopeOf(scope...), Tenant: w.tenant,
		CreatedBy: "ci", CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
}

// joinToken issues a token of the tenant for a gateway of its own.
func (w *world) joinToken(gateway fleet.GatewayID) fleet.JoinToken {
	w.Helper()
	t := w.newJoinToken(gateway)
	w.must(w.IssueJoinToken(w.Context(), w.by(), t))
	return t
}

// sharedToken issues a token of the operator for a gateway of these tenants, of all if none.
func (w *world) sharedToken(gateway fleet.GatewayID, scope ...fleet.TenantID) fleet.JoinToken {
	w.Helper()
	t := w.newJoinToken(gateway, scope...)
	t.Tenant = ""
	if scope == nil {
		t.Scope = fleet.Scope{Every: true}
	}
	w.must(w.IssueJoinToken(w.Context(), w.operator(), t))
	return t
}

// joining is the use of a token with a key.
func (w *world) joining(t fleet.JoinToken, key string) store.Joining {
	serial := fleet.Serial(newID[string]())
	return store.Joining{
		Token: t.ID, PublicKey: sha256.Sum256([]byte(key)), Serial: serial, NotAfter: w.now.AddDate(0, 1, 0), At: w.now, Source: "192.0.2.9",
	}
}

func (w *world) join(t fleet.JoinToken) fleet.Gateway {
	w.Helper()
	g, err := w.Join(w.Context(), w.joining(t, string(t.ID)))
	w.must(err)
	return g
}

// wantTrail wants exactly these actions on record about an entity, newest first.
func (w *world) wantTrail(entity string, actions ...string) {
	w.Helper()
	if got := w.audited(entity); !slices.Equal(got, actions) {
		w.Errorf("%s has on record of %s %q, want %q", w.tenant, entity, got, actions)
	}
}

// foundGateway reads a gateway that is there.
func (w *world) foundGateway(id fleet.GatewayID) fleet.Gateway {
	w.Helper()
	g, err := w.Gateway(w.Context(), id)
	w.must(err)
	return g
}

func joinTokenByHash(w *world) {
	mine, shared, every := w.joinToken("gw"), w.newJoinToken("gw-2", "theirs", w.tenant), w.sharedToken("gw-3")
	w.in("theirs")
	shared.Tenant = ""
	w.must(w.IssueJoinToken(w.Context(), w.operator(), shared))
	j := w.joining(mine, "key")
	_, err := w.Join(w.Context(), j)
	w.must(err)
	mine.UsedAt, mine.PublicKey = w.now, j.PublicKey
	for _, want := range []fleet.JoinToken{mine, shared, every} {
		if found, err := w.JoinTokenByHash(w.Context(), want.Hash); err != nil || !reflect.DeepEqual(found, want) {
			w.Errorf("got %+v, %v, want %+v", found, err, want)
		}
	}
	_, err = w.JoinTokenByHash(w.Context(), sha256.Sum256([]byte("guess")))
	w.want(err, store.ErrNotFound)
}

func joinTokenScope(w *world) {
	t := w.newJoinToken("gw", w.tenant, "nobody")
	w.want(w.IssueJoinToken(w.Context(), w.by(), t), store.ErrNotFound)
	_, err := w.JoinTokenByHash(w.Context(), t.Hash)
	w.want(err, store.ErrNotFound)
	if words := w.audited(string(t.ID)); len(words) != 0 {
		w.Errorf("audited is %q", words)
	}
}

func joinTokensListed(w *world) {
	var want []fleet.TokenID
	for range 5 {
		want = append(want, w.joinToken("gw").ID) // of one moment: the id decides
	}
	w.in("theirs").joinToken("gw")
	operators := w.sharedToken("gw-2")
	slices.Sort(want)
	slices.Reverse(want)
	w.pass(time.Second)
	want = append([]fleet.TokenID{w.joinToken("gw").ID}, want...)
	of := func(tenant fleet.TenantID) []fleet.JoinToken {
		return pages(w, func(page fleet.Page) ([]fleet.JoinToken, string, error) {
			return w.JoinTokens(w.Context(), tenant, page)
		})
	}
	id := func(t fleet.JoinToken) fleet.TokenID { return t.ID }
	wantIDs(w, of(w.tenant), want, id)
	wantIDs(w, of(""), []fleet.TokenID{operators.ID}, id)
	w.wantAudit(string(want[0]), "join_token.issue")
}

func joinTokenRevoked(w *world) {
	t, operators, theirs := w.joinToken("gw"), w.sharedToken("gw-2"), w.in("theirs")
	for _, by := range []fleet.By{theirs.by(), w.operator()} {
		_, err := w.RevokeJoinToken(w.Context(), by, t.ID)
		w.want(err, store.ErrNotFound)
	}
	_, err := w.RevokeJoinToken(w.Context(), w.by(), "no id")
	w.want(err, store.ErrNotFound)
	revoked, err := w.RevokeJoinToken(w.Context(), w.by(), t.ID)
	w.must(err)
	if t.RevokedAt = w.now; !reflect.DeepEqual(revoked, t) {
		w.Errorf("got %+v, want %+v", revoked, t)
	}
	_, err = w.RevokeJoinToken(w.Context(), w.by(), t.ID)
	w.want(err, store.ErrState)
	w.wantTrail(string(t.ID), "join_token.revoke", "join_token.issue")
	_, err = w.RevokeJoinToken(w.Context(), w.operator(), operators.ID)
	w.must(err)
}

func joinOnce(w *world) {
	t := w.joinToken("gw")
	_, err := w.Gateway(w.Context(), "gw")
	w.want(err, store.ErrNotFound)
	w.pass(time.Minute)
	j := w.joining(t, "key")
	got, err := w.Join(w.Context(), j)
	w.must(err)
	want := fleet.Gateway{ID: "gw", Scope: fleet.ScopeOf(w.tenant), Serial: j.Serial, NotAfter: j.NotAfter, JoinedAt: w.now}
	if found := w.foundGateway("gw"); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(found, want) {
		w.Errorf("joined %+v, found %+v, want %+v", got, found, want)
	}
	if got.State(w.now) != fleet.GatewayJoined {
		w.Errorf("it is %s", got.State(w.now))
	}
	_, err = w.Join(w.Context(), w.joining(t, "another key"))
	w.want(err, store.ErrState)
	if found := w.foundGateway("gw"); !reflect.DeepEqual(found, want) {
		w.Errorf("a refused join changed it to %+v", found)
	}
}

func joinDead(w *world) {
	revoked, late := w.joinToken("gw-1"), w.joinToken("gw-2")
	_, err := w.RevokeJoinToken(w.Context(), w.by(), revoked.ID)
	w.must(err)
	unknown := w.newJoinToken("gw-3")
	for _, c := range []struct {
		token fleet.JoinToken
		after time.Duration
		want  error
	}{{revoked, 0, store.ErrState}, {unknown, 0, store.ErrNotFound}, {late, time.Hour, store.ErrState}} {
		w.pass(c.after)
		_, err := w.Join(w.Context(), w.joining(c.token, "key"))
		w.want(err, c.want)
		_, err = w.Gateway(w.Context(), c.token.Gateway)
		w.want(err, store.ErrNotFound)
	}
}

func joinRepeated(w *world) {
	t := w.joinToken("gw")
	first := w.join(t)
	w.pass(fleet.RedemptionWindow - time.Microsecond)
	again := w.joining(t, string(t.ID))
	got, err := w.Join(w.Context(), again)
	w.must(err)
	want := first
	want.Serial, want.NotAfter = again.Serial, again.NotAfter
	if !reflect.DeepEqual(got, want) {
		w.Errorf("the second answer is %+v, want %+v", got, want)
	}
	found, err := w.JoinTokenByHash(w.Context(), t.Hash)
	if err != nil || !found.UsedAt.Equal(first.JoinedAt) {
		w.Errorf("the token is used since %v, %v, first was %v", found.UsedAt, err, first.JoinedAt)
	}
	_, err = w.Join(w.Context(), w.joining(t, "another key"))
	w.want(err, store.ErrState)
	w.pass(time.Microsecond)
	_, err = w.Join(w.Context(), w.joining(t, string(t.ID)))
	w.want(err, store.ErrState)
}

func joinRepeatedLate(w *world) {
	for name, meanwhile := range map[string]func(g fleet.Gateway){
		"registered": func(g fleet.Gateway) { w.gateway(g.ID, 1) },
		"revoked":    func(g fleet.Gateway) { w.revoke(g.ID) },
		"joined":     func(g fleet.Gateway) { w.pass(time.Second); w.join(w.joinToken(g.ID)) },
	} {
		t := w.joinToken(fleet.GatewayID(name))
		meanwhile(w.join(t))
		before := w.foundGateway(t.Gateway)
		_, err := w.Join(w.Context(), w.joining(t, string(t.ID)))
		w.want(err, store.ErrState)
		if after := w.foundGateway(t.Gateway); !reflect.DeepEqual(after, before) {
			w.Errorf("%s: it changed to %+v", name, after)
		}
	}
}

func joinAnew(w *world) {
	w.join(w.joinToken("gw"))
	s := w.connect(w.enrol(), w.gateway("gw", 1))
	w.revoke("gw")
	w.pass(time.Second)
	g := w.join(w.joinToken("gw"))
	if g.State(w.now) != fleet.GatewayJoined || !g.JoinedAt.Equal(w.now) || g.Previous != "" || g.BootID != 0 {
		w.Errorf("it is %s: %+v", g.State(w.now), g)
	}
	w.want(w.renew(s.gateway, false), store.ErrLeaseLost)
	w.connect(s.agent, w.gateway("gw", 2))
}

func joinForeign(w *world) {
	theirs, both := w.in("theirs"), w.sharedToken("both", w.tenant, "theirs")
	w.join(theirs.joinToken("their-gw"))
	w.gateway("all-in-one", 7) // which never joined
	w.join(both)
	w.join(w.sharedToken("every"))
	for _, id := range []fleet.GatewayID{"their-gw", "all-in-one", "both", "every"} {
		before := w.foundGateway(id)
		_, err := w.Join(w.Context(), w.joining(w.joinToken(id), "key"))
		w.want(err, store.ErrState)
		if after := w.foundGateway(id); !reflect.DeepEqual(after, before) {
			w.Errorf("%s changed to %+v", id, after)
		}
		w.pass(time.Second)
		w.join(w.sharedToken(id, w.tenant)) // the operator may
		w.join(w.joinToken(id))             // and whose alone it is now
	}
}

func joinTold(w *world) {
	theirs, others := w.in("theirs"), w.in("others")
	told := func(mine, their, other int) {
		w.Helper()
		for _, c := range []struct {
			w    *world
			want int
		}{{w, mine}, {theirs, their}, {others, other}} {
			if got := c.w.audited("gw"); len(got) != c.want || c.want > 0 && got[0] != "gateway.join" {
				w.Errorf("%s was told %q, want %d joins", c.w.tenant, got, c.want)
			}
		}
	}
	w.join(w.joinToken("gw"))
	told(1, 0, 0)
	if got := w.lastAudit("gw"); got.ActorKind != fleet.PrincipalGateway || got.ActorID != "gw" || got.Source != "192.0.2.9" || !got.At.Equal(w.now) {
		w.Errorf("the join is told as %+v", got)
	}
	w.join(w.sharedToken("gw", "theirs")) // served acme before
	told(2, 1, 0)
	w.join(w.sharedToken("gw"))
	told(3, 2, 1)
}

func renewGateway(w *world) {
	joined := w.join(w.joinToken("gw"))
	first, later := joined.Serial, w.now.AddDate(0, 2, 0)
	renew := func(shown, next fleet.Serial) error { return w.RenewGateway(w.Context(), "gw", shown, next, later) }
	for _, step := range []struct{ shown, next, wantPrevious fleet.Serial }{
		{first, "2", first}, {first, "3", first}, // the answer was lost, or two processes share the certificate
		{"3", "4", "3"},
	} {
		w.must(renew(step.shown, step.next))
		want := joined
		want.Serial, want.Previous, want.NotAfter = step.next, step.wantPrevious, later
		if got := w.foundGateway("gw"); !reflect.DeepEqual(got, want) {
			w.Errorf("renewed it is %+v, want %+v", got, want)
		}
	}
	for _, stale := range []fleet.Serial{first, "2", ""} {
		w.want(renew(stale, "5"), store.ErrConflict)
	}
	w.want(w.RenewGateway(w.Context(), "gw-none", "4", "5", later), store.ErrConflict)
	w.revoke("gw")
	w.want(renew("4", "5"), store.ErrConflict)
}

func gatewaysListed(w *world) {
	theirs := w.in("theirs")
	w.join(w.joinToken("c"))
	w.join(theirs.joinToken("b"))
	w.join(w.sharedToken("a", w.tenant, "theirs"))
	w.join(w.sharedToken("d"))
	w.gateway("e", 1)
	w.revoke("c")
	for tenant, want := range map[fleet.TenantID][]fleet.GatewayID{
		w.tenant: {"a", "c", "d", "e"}, "theirs": {"a", "b", "d", "e"}, "others": {"d", "e"},
	} {
		list := pages(w, func(page fleet.Page) ([]fleet.Gateway, string, error) { return w.Gateways(w.Context(), tenant, page) })
		wantIDs(w, list, want, func(g fleet.Gateway) fleet.GatewayID { return g.ID })
		for _, id := range []fleet.GatewayID{"a", "b", "c", "d", "e", "f"} {
			one, err := w.GatewayOf(w.Context(), tenant, id)
			if i := slices.Index(want, id); i < 0 {
				w.want(err, store.ErrNotFound)
			} else if err != nil || !reflect.DeepEqual(one, list[i]) {
				w.Errorf("%s sees %+v, %v, listed is %+v", tenant, one, err, list[i])
			}
		}
	}
}

func gatewaySessions(w *world) {
	theirs, g := w.in("theirs"), w.gateway("gw", 1)
	ended := w.connect(w.enrol(), g)
	w.connect(w.enrol(), g)
	w.connect(w.enrol(), w.gateway("gw-2", 1))
	for range 3 {
		theirs.connect(theirs.enrol(), g)
	}
	w.record(fleet.Uplink{Ended: w.end(ended, "closed")})
	for tenant, want := range map[fleet.TenantID]int{w.tenant: 1, "theirs": 3, "others": 0} {
		if got, err := w.GatewayOf(w.Context(), tenant, "gw"); err != nil || got.Sessions != want {
			w.Errorf("%s has %d sessions, %v, want %d", tenant, got.Sessions, err, want)
		}
	}
	w.gateway("gw", 2)
	if got, err := w.GatewayOf(w.Context(), w.tenant, "gw"); err != nil || got.Sessions != 0 {
		w.Errorf("of another boot: %d sessions, %v", got.Sessions, err)
	}
}

func gatewayUnjoined(w *world) {
	g := w.gateway("gw", 1<<63+5)
	want := g
	want.Scope.Every = true
	if got := w.foundGateway("gw"); !reflect.DeepEqual(got, want) || got.State(w.now) != fleet.GatewayOnline {
		w.Errorf("it is %+v, want %+v", got, want)
	}
	if got := w.foundGateway("gw"); got.State(g.LeaseUntil) != fleet.GatewayAway {
		w.Errorf("without its lease it is %s", got.State(g.LeaseUntil))
	}
}

func registerKeeps(w *world) {
	want := w.join(w.joinToken("gw"))
	w.must(w.RenewGateway(w.Context(), "gw", want.Serial, "2", want.NotAfter))
	want.Previous, want.Serial = want.Serial, "2"
	w.pass(time.Minute)
	for boot := range uint64(2) {
		g := w.gateway("gw", boot+1)
		want.BootID, want.Version, want.StartedAt, want.LeaseUntil = g.BootID, g.Version, g.StartedAt, g.LeaseUntil
		if got := w.foundGateway("gw"); !reflect.DeepEqual(got, want) {
			w.Errorf("registered it is %+v, want %+v", got, want)
		}
	}
}

func (w *world) revoke(id fleet.GatewayID) fleet.Gateway {
	w.Helper()
	g, err := w.RevokeGateway(w.Context(), w.by(), id)
	w.must(err)
	return g
}

func revokeGateway(w *world) {
	joined := w.join(w.joinToken("gw"))
	g := w.gateway("gw", 1)
	s, elsewhere := w.connect(w.enrol(), g), w.connect(w.enrol(), w.gateway("gw-2", 1))
	w.ask(s)
	w.pass(time.Second)
	revoked := w.revoke("gw")
	if revoked.State(w.now) != fleet.GatewayRevoked || !revoked.RevokedAt.Equal(w.now) || !revoked.LeaseUntil.Equal(w.now) || revoked.Serial != joined.Serial {
		w.Errorf("revoked it is %+v", revoked)
	}
	if got := w.agent(s.id).Session; !got.EndedAt.Equal(w.now) || got.EndReason != "GATEWAY_REVOKED" {
		w.Errorf("its session is %+v", got)
	}
	if kinds := w.kinds(s.id); kinds[len(kinds)-1] != fleet.EventAgentDisconnected {
		w.Errorf("events are %v", kinds)
	}
	if got := w.agent(elsewhere.id).Session; !got.EndedAt.IsZero() {
		w.Errorf("a session of another gateway ended: %+v", got)
	}
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("due is %+v", due)
	}
	w.wantTrail("gw", "gateway.revoke", "gateway.join")
	if done := w.said(w.report(s, 9, "of the revoked", fleet.PartHealth)); done.Applied != 0 || len(w.parts(s.id)) != 0 {
		w.Errorf("what it says counts: %+v, %v", done, w.parts(s.id))
	}

	w.want(w.renew(g, false), store.ErrLeaseLost)
	g.BootID = 2
	w.want(w.RegisterGateway(w.Context(), g), store.ErrLeaseLost)
	for _, boot := range []uint64{1, 2} {
		c := w.claimOf(s.agent, g)
		c.BootID, c.At = boot, w.now.Add(-time.Millisecond) // by a clock that is a little behind
		_, err := w.claimAlone(c)
		w.want(err, store.ErrLeaseLost)
	}
	if got := w.foundGateway("gw"); !reflect.DeepEqual(got, revoked) {
		w.Errorf("afterwards it is %+v", got)
	}
	s = w.connect(s.agent, elsewhere.gateway)
	if due := w.dispatches(); len(due) != 1 || due[0].Agent != s.id {
		w.Errorf("due elsewhere is %+v", due)
	}
	_, err := w.RevokeGateway(w.Context(), w.by(), "gw")
	w.want(err, store.ErrState)
}

// revokeTokens: whoever has a token that was not used cannot undo a revocation with it.
func revokeTokens(w *world) {
	w.in("theirs")
	w.join(w.joinToken("gw"))
	mine, operators := w.joinToken("gw"), w.sharedToken("gw", w.tenant)
	shared, others := w.sharedToken("gw", w.tenant, "theirs"), w.joinToken("gw-2")
	w.revoke("gw")
	for _, dead := range []fleet.JoinToken{mine, operators} {
		_, err := w.Join(w.Context(), w.joining(dead, "key"))
		w.want(err, store.ErrState)
	}
	w.join(others)
	w.join(shared) // the operator's word that it serves others too
	w.join(w.joinToken("gw-2"))

	shared = w.sharedToken("gw")
	_, err := w.RevokeGateway(w.Context(), w.operator(), "gw")
	w.must(err)
	_, err = w.Join(w.Context(), w.joining(shared, "key"))
	w.want(err, store.ErrState)
	w.join(w.sharedToken("gw"))
}

func revokeForeign(w *world) {
	theirs := w.in("theirs")
	w.join(theirs.joinToken("their-gw"))
	w.join(w.sharedToken("both", w.tenant, "theirs"))
	w.join(w.sharedToken("every"))
	w.gateway("all-in-one", 1)
	for id, want := range map[fleet.GatewayID]error{
		"their-gw": store.ErrNotFound, "gw-none": store.ErrNotFound,
		"both": store.ErrState, "every": store.ErrState, "all-in-one": store.ErrState,
	} {
		_, err := w.RevokeGateway(w.Context(), w.by(), id)
		w.want(err, want)
	}
	if got := w.foundGateway("their-gw"); !got.RevokedAt.IsZero() {
		w.Errorf("it is %+v", got)
	}
}

func revokeByOperator(w *world) {
	theirs, others := w.in("theirs"), w.in("others")
	w.join(w.sharedToken("both", w.tenant, "theirs"))
	g := w.gateway("both", 1)
	mine, their := w.connect(w.enrol(), g), theirs.connect(theirs.enrol(), g)
	_, err := w.RevokeGateway(w.Context(), w.operator(), "both")
	w.must(err)
	for _, c := range []struct {
		w  *world
		id fleet.AgentID
	}{{w, mine.id}, {theirs, their.id}} {
		if got := c.w.agent(c.id).Session; got.EndReason != "GATEWAY_REVOKED" {
			w.Errorf("%s: the session is %+v", c.w.tenant, got)
		}
		c.w.wantTrail("both", "gateway.revoke", "gateway.join")
	}
	if words := others.audited("both"); len(words) != 0 {
		w.Errorf("who is not served was told %q", words)
	}
}
