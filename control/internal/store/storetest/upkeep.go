// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// due is what is known of the certificates that are due.
func (w *world) due() []fleet.Upkeep {
	w.Helper()
	due, err := w.DueUpkeep(w.Context(), w.now, 100)
	w.must(err)
	return due
}

// dueAlone is the one that is due.
func (w *world) dueAlone() fleet.Upkeep {
	w.Helper()
	due := w.due()
	if len(due) != 1 {
		w.Fatalf("due are %+v, want one", due)
	}
	return due[0]
}

// keep does a step and says whether it was done.
func (w *world) keep(on fleet.Upkeep, step fleet.UpkeepStep) bool {
	w.Helper()
	done, err := w.ApplyUpkeep(w.Context(), on.Tenant, []store.UpkeepDecision{{On: on, Step: step}}, w.now)
	w.must(err)
	return done == 1
}

// offered makes an offer of a certificate to the agent that is due, and returns its number.
func (w *world) offered() fleet.Generation {
	w.Helper()
	if !w.keep(w.dueAlone(), fleet.UpkeepStep{Offer: true, LookAt: w.now}) {
		w.Fatal("the offer was left out")
	}
	return w.dueAlone().Generation
}

// given gives an agent another certificate, for an offer or because it asks, and returns the agent that shows it.
func (w *world) given(a agent, key string, offer fleet.Generation) (agent, fleet.RenewalVerdict) {
	w.Helper()
	r, c := w.renewal(a, key)
	r.Offer = offer
	v, err := w.Renew(w.Context(), w.by(), r, c)
	w.must(err)
	a.serial, a.fingerprint, a.key = c.Serial, c.Fingerprint, c.PublicKey
	return a, v
}

// word is the gateway's on an offer.
func (w *world) word(s session, offer fleet.Generation, outcome fleet.DeliveryOutcome, hash string) fleet.Uplink {
	return fleet.Uplink{Delivery: &fleet.DeliveryReport{
		Tenant: w.tenant, Agent: s.id, Epoch: s.epoch, Gateway: s.gateway.ID, BootID: s.gateway.BootID, Kind: fleet.DispatchRenew,
		Generation: offer, Outcome: outcome, Settings: []byte(hash), At: w.now,
	}}
}

// upkeep is store.Upkeep.
var upkeep = suite{
	"a certificate is looked at when it is shown, and what is known of it is told":   upkeepKnown,
	"a certificate is looked at again when a step says so":                           upkeepLater,
	"certificates of all tenants, those due longest first, at most as many as asked": upkeepOrder,
	"an agent behind another has no certificate to be looked at":                     upkeepChild,
	"an offer goes to the agent's gateway until that says what became of it":         upkeepOffered,
	"an offer that nobody answers is given up":                                       upkeepGivenUp,
	"a step that was decided on something else is left out":                          upkeepGuarded,
	"of many that offer at once, one does":                                           upkeepRace,
	"for one offer there is one certificate, and for none that was not made":         upkeepOneCertificate,
	"another certificate that is shown ends the offer, and is told":                  upkeepShown,
	"what an agent says against its offer is known, and of other settings is not":    upkeepFailed,
	"remarks on a certificate, events and audit go along, and leave others alone":    upkeepRemarks,
	"a replaced key is known, and since when":                                        upkeepRotated,
	"an agent that polls goes on in another session when it shows another":           upkeepPolling,
	"an offer for an agent that is away waits for it, unless it comes with another":  upkeepAway,
	"a certificate of the agent's that it has not shown is known while it stands":    upkeepNewer,
	"a certificate that is revoked is known as such":                                 upkeepRevoked,
	"offers that were made in vain are forgotten, and begin anew":                    upkeepAgain,
	"who is not to be offered a certificate is not, and the reason is told":          upkeepNotAgain,
}

func upkeepKnown(w *world) {
	a := w.enrol()
	if due := w.due(); len(due) != 0 {
		w.Errorf("due before it was shown: %+v", due)
	}
	s := w.connect(a, w.gateway("gw-1", 7))
	r := w.report(s, 1, "c", fleet.PartCapabilities)
	bits := fleet.AcceptsConnectionSettings | 1
	r.Summary.Capabilities = &bits
	w.said(r)
	want := fleet.Upkeep{
		Tenant: w.tenant, Agent: a.id, Version: 1, Method: fleet.EnrolledByAgentCSR, TakesSettings: true, Epoch: s.epoch,
		Transport: fleet.TransportWebSocket, Live: true, Serial: a.serial, MadeAt: w.now, NotAfter: w.now.AddDate(1, 0, 0), Attention: []fleet.Attention{},
	}
	got := w.dueAlone()
	got.Attention = append([]fleet.Attention{}, got.Attention...)
	if !reflect.DeepEqual(got, want) {
		w.Errorf("known is %+v, want %+v", got, want)
	}
	w.claim(w.takeover(w.claimOf(a, s.gateway), fleet.TakeoverRestart)) // the same certificate once more
	if got := w.dueAlone(); got.Version != 1 || got.Epoch != s.epoch+1 {
		w.Errorf("a new session changed %+v", got)
	}
	w.pass(2 * time.Minute)
	if got := w.dueAlone(); got.Live {
		w.Error("it lives at a gateway without a lease")
	}
}

func upkeepLater(w *world) {
	w.connected()
	w.keep(w.dueAlone(), fleet.UpkeepStep{LookAt: w.now.Add(time.Hour), Told: 2})
	if due := w.due(); len(due) != 0 {
		w.Errorf("due at once again: %+v", due)
	}
	w.pass(time.Hour)
	on := w.dueAlone()
	if on.Told != 2 || on.Version != 2 {
		w.Errorf("known is %+v", on)
	}
	w.keep(on, fleet.UpkeepStep{Told: 2})
	w.pass(10 * 365 * 24 * time.Hour)
	if due := w.due(); len(due) != 0 {
		w.Errorf("due, though nothing more is to be done: %+v", due)
	}
}

func upkeepOrder(w *world) {
	g, theirs := w.gateway("gw-1", 7), w.in("theirs")
	var want []fleet.AgentID
	for i := range 4 {
		in := w
		if i%2 == 1 {
			in = theirs
		}
		in.now = w.now
		want = append(want, in.connect(in.enrol(), g).id)
		w.pass(time.Second)
	}
	for most := range 6 {
		due, err := w.DueUpkeep(w.Context(), w.now, most)
		w.must(err)
		var got []fleet.AgentID
		for _, u := range due {
			got = append(got, u.Agent)
		}
		if !slices.Equal(got, want[:min(most, 4)]) {
			w.Errorf("of at most %d due are %v, want %v", most, got, want)
		}
	}
}

func upkeepChild(w *world) {
	parent := w.enrol()
	_, err := w.AllowChildren(w.Context(), w.by(), parent.id, 1)
	w.must(err)
	s := w.connect(parent, w.gateway("gw-1", 7))
	child := parent
	child.uid = newUID()
	if result := w.claim(w.claimOf(child, s.gateway)); result.Outcome != fleet.ClaimClaimed || result.Agent == parent.id {
		w.Fatalf("claim: %+v", result)
	}
	if on := w.dueAlone(); on.Agent != parent.id {
		w.Errorf("due is %+v", on)
	}
}

func upkeepOffered(w *world) {
	s := w.connected()
	w.sendsNothing()
	offer := w.offered()
	want := []fleet.Dispatch{{
		Tenant: w.tenant, Agent: s.id, Kind: fleet.DispatchRenew, Generation: offer, Gateway: s.gateway.ID, Transport: fleet.TransportWebSocket, Epoch: s.epoch, Tries: 1,
	}}
	if due := w.dispatches(); !slices.Equal(due, want) {
		w.Errorf("due is %+v, want %+v", due, want)
	}
	on := w.dueAlone()
	if !on.Pending || on.Offers != 1 || on.OfferEpoch != s.epoch || !on.OfferedAt.Equal(w.now) {
		w.Errorf("known is %+v", on)
	}
	w.record(w.word(s, offer-1, fleet.Delivered, "old"))
	if !w.dueAlone().Pending {
		w.Error("a word on another offer ended this one")
	}
	w.record(w.word(s, offer, fleet.Delivered, "hash"))
	w.record(w.word(s, offer, fleet.Refused, "")) // of another gateway that the agent polls
	if on := w.dueAlone(); on.Pending || on.Failure != "" {
		w.Errorf("known is %+v", on)
	}
	w.pass(time.Minute)
	w.gateway(s.gateway.ID, s.gateway.BootID)
	w.sendsNothing()
	offer = w.offered()
	w.record(w.word(s, offer, fleet.NotCapable, ""))
	if on := w.dueAlone(); on.Pending || on.Failure == "" || on.Offers != 2 {
		w.Errorf("known is %+v", on)
	}
	w.sendsNothing()
}

func upkeepGivenUp(w *world) {
	s := w.connected()
	w.offered()
	for range store.DispatchTries {
		w.pass(30 * time.Second)
		w.gateway(s.gateway.ID, s.gateway.BootID)
		due := w.dispatches()
		if len(due) != 1 {
			w.Fatalf("due is %+v", due)
		}
		w.must(w.MarkSent(w.Context(), due, w.now))
	}
	if w.dueAlone().Pending {
		w.Error("it is sent for ever")
	}
}

func upkeepGuarded(w *world) {
	s := w.connected()
	on := w.dueAlone()
	stale := on
	w.keep(on, fleet.UpkeepStep{LookAt: w.now, Told: 1})
	if w.keep(stale, fleet.UpkeepStep{Offer: true, Told: 3}) {
		w.Error("a step was done twice")
	}
	on = w.dueAlone()
	w.claim(w.takeover(w.claimOf(s.agent, s.gateway), fleet.TakeoverRestart))
	if w.keep(on, fleet.UpkeepStep{Offer: true, LookAt: w.now}) {
		w.Error("an offer was made in another session than was looked at")
	}
	on = w.dueAlone()
	s.epoch = on.Epoch
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	if w.keep(on, fleet.UpkeepStep{Offer: true, LookAt: w.now}) {
		w.Error("an offer was made to one who has gone")
	}
	if !w.keep(on, fleet.UpkeepStep{LookAt: w.now.Add(time.Hour)}) {
		w.Error("a look at one who has gone was left out")
	}
	if on := w.in("theirs"); on.keep(stale, fleet.UpkeepStep{Told: 9}) {
		w.Error("another tenant's agent was kept")
	}
	if due := w.due(); len(due) != 0 {
		w.Errorf("due are %+v", due)
	}
}

func upkeepRace(w *world) {
	w.connected()
	on := w.dueAlone()
	done, failed := race(8, func(int) (int, error) {
		return w.ApplyUpkeep(w.Context(), on.Tenant, []store.UpkeepDecision{{On: on, Step: fleet.UpkeepStep{Offer: true, LookAt: w.now}}}, w.now)
	})
	sum := 0
	for _, n := range done {
		sum += n
	}
	if sum != 1 || len(failed) > 0 || w.dueAlone().Offers != 1 {
		w.Errorf("done %v, failed %v, offers %d", done, failed, w.dueAlone().Offers)
	}
}

func upkeepOneCertificate(w *world) {
	s := w.connected()
	if _, v := w.given(s.agent, "unasked", 1); v.Reason != fleet.RefusedNoOffer {
		w.Errorf("for an offer that was not made: %+v", v)
	}
	offer := w.offered()
	if _, v := w.given(s.agent, "other", offer+1); v.Reason != fleet.RefusedNoOffer {
		w.Errorf("for a later offer: %+v", v)
	}
	a, v := w.given(s.agent, "first", offer)
	if !v.Open() {
		w.Fatalf("refused: %+v", v)
	}
	if _, v := w.given(s.agent, "second", offer); v.Reason != fleet.RefusedNoOffer {
		w.Errorf("a second one: %+v", v)
	}
	if _, v := w.given(s.agent, "first", offer); v.Given == nil || v.Given.Serial != a.serial {
		w.Errorf("the same key once more: %+v", v)
	}
	if _, v := w.given(s.agent, "own", 0); !v.Open() {
		w.Errorf("one who asks by itself is refused: %+v", v)
	}
}

func upkeepShown(w *world) {
	s := w.connected()
	offer := w.offered()
	a, _ := w.given(s.agent, "new", offer)
	w.keep(w.dueAlone(), fleet.UpkeepStep{LookAt: w.now.Add(time.Hour), Told: 1})
	w.pass(time.Second)
	result := w.claim(w.claimOf(a, s.gateway))
	if result.Outcome != fleet.ClaimHeld { // the session that got the offer is open
		w.Fatalf("claim: %+v", result)
	}
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	if result = w.claim(w.claimOf(a, s.gateway)); result.Outcome != fleet.ClaimClaimed || !result.AfterOffer {
		w.Fatalf("claim: %+v", result)
	}
	on := w.dueAlone()
	if on.Serial != a.serial || on.Offers != 0 || on.Pending || on.Told != 0 || on.Failure != "" || on.Generation <= offer || !on.OfferedAt.Before(w.now) {
		w.Errorf("known is %+v", on)
	}
	w.sendsNothing()
	if kinds := w.kinds(a.id); !slices.Equal(kinds[len(kinds)-2:], []fleet.EventKind{fleet.EventAgentConnected, fleet.EventCertificateInUse}) {
		w.Errorf("events %v", kinds)
	}
	s.epoch = result.Epoch
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	if result = w.claim(w.claimOf(s.agent, s.gateway)); result.AfterOffer || w.dueAlone().Serial != s.serial {
		w.Errorf("back with the former: %+v, %+v", result, w.dueAlone())
	}
	if got := w.agent(a.id).Serial; got != s.serial {
		w.Errorf("the agent shows %s", got)
	}
}

func upkeepFailed(w *world) {
	s := w.connected()
	offer := w.offered()
	w.record(w.word(s, offer, fleet.Delivered, "hash"))
	failed := func(sequence fleet.Sequence, hash string) {
		r := w.report(s, sequence, hash, fleet.PartConnectionStatus)
		r.SettingsFailed = &fleet.UpkeepOutcome{Hash: []byte(hash), Failure: "cannot use " + hash}
		w.said(r)
	}
	failed(1, "other")
	if on := w.dueAlone(); on.Failure != "" {
		w.Errorf("known is %+v", on)
	}
	failed(2, "hash")
	if on := w.dueAlone(); on.Failure != "cannot use hash" {
		w.Errorf("known is %+v", on)
	}
	failed(1, "hash") // of the past
	w.offered()
	if on := w.dueAlone(); on.Failure != "" || on.Offers != 2 {
		w.Errorf("known is %+v", on)
	}
}

func upkeepRemarks(w *world) {
	s := w.connected()
	for range fleet.CloneTakeovers {
		c := w.takeover(w.claimOf(s.agent, s.gateway), fleet.TakeoverClone)
		w.claim(c)
	}
	told := fleet.Event{Tenant: w.tenant, At: w.now, Kind: fleet.EventCertificateAttention, Agent: s.id, Message: "look at it"}
	remark := &fleet.Attention{Reason: fleet.AttentionCertificate, Message: "look at it", Since: w.now}
	w.keep(w.dueAlone(), fleet.UpkeepStep{LookAt: w.now, Remark: remark, Events: []fleet.Event{told}})
	on := w.dueAlone()
	if !on.Quarantined || len(on.Attention) != 2 || on.Attention[1] != *remark {
		w.Errorf("known is %+v", on)
	}
	if kinds := w.kinds(s.id); kinds[len(kinds)-1] != fleet.EventCertificateAttention {
		w.Errorf("events %v", kinds)
	}
	if words := w.audited(string(s.id)); !slices.Contains(words, "agent.certificate_attention") {
		w.Errorf("audit %v", words)
	}
	w.keep(on, fleet.UpkeepStep{LookAt: w.now})
	if list := w.agent(s.id).Attention; len(list) != 1 || list[0].Reason != fleet.AttentionQuarantined {
		w.Errorf("remarks %+v", list)
	}
}

func upkeepRotated(w *world) {
	former := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyTrusted)
	former.ID = "k1"
	next := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
	w.connected()
	w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{former, w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)}))
	if on := w.dueAlone(); !on.RotatedAt.IsZero() {
		w.Errorf("without a key in its place it was replaced at %v", on.RotatedAt)
	}
	w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{next}))
	if on := w.dueAlone(); !on.RotatedAt.Equal(next.ActivatedAt) {
		w.Errorf("replaced at %v, want %v", on.RotatedAt, next.ActivatedAt)
	}
}

func upkeepPolling(w *world) {
	a, g := w.enrol(), w.gateway("gw-1", 7)
	poll := func(a agent) fleet.ClaimResult {
		c := w.claimOf(a, g)
		c.Transport = fleet.TransportHTTP
		return w.claim(c)
	}
	first := poll(a)
	offer := w.offered()
	b, _ := w.given(a, "new", offer)
	if again := poll(a); !again.Shared || again.Epoch != first.Epoch {
		w.Errorf("with the former: %+v", again)
	}
	second := poll(b)
	if second.Outcome != fleet.ClaimClaimed || second.Shared || second.Epoch <= first.Epoch || !second.AfterOffer {
		w.Errorf("with another: %+v", second)
	}
	if got := w.agent(a.id).Serial; got != b.serial {
		w.Errorf("the agent shows %s", got)
	}
}

func upkeepAway(w *world) {
	s := w.connected()
	offer := w.offered()
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	w.sendsNothing()
	s = w.connect(s.agent, s.gateway)
	if due := w.dispatches(); len(due) != 1 || due[0].Generation != offer || due[0].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	a, _ := w.given(s.agent, "own", 0)
	w.connect(a, s.gateway)
	w.pass(10 * time.Second)
	w.sendsNothing()
}

func upkeepNewer(w *world) {
	s := w.connected()
	w.pass(time.Second)
	if w.dueAlone().Newer {
		w.Error("it has one certificate")
	}
	a, _ := w.given(s.agent, "own", 0)
	if !w.dueAlone().Newer {
		w.Error("it has another")
	}
	_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Serials: []fleet.Serial{a.serial}})
	w.must(err)
	if w.dueAlone().Newer {
		w.Error("the other one is revoked")
	}
}

func upkeepRevoked(w *world) {
	s := w.connected()
	_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Agents: []fleet.AgentID{s.id}})
	w.must(err)
	if on := w.dueAlone(); !on.RevokedAt.Equal(w.now) || on.Quarantined {
		w.Errorf("known is %+v", on)
	}
}

// serverKeyed is a new agent whose key the server made, with a session in which it said that it takes settings, or not.
func (w *world) serverKeyed(g fleet.Gateway, takes bool) session {
	w.Helper()
	r := w.redemption(w.token("").ID)
	r.Method = fleet.EnrolledByServerKey
	w.must(w.redeem(r))
	s := w.connect(agent{
		id: r.Agent, serial: r.Certificate.Serial, fingerprint: r.Certificate.Fingerprint, key: r.Certificate.PublicKey, uid: newUID(), partition: r.Partition,
	}, g)
	said := w.report(s, 1, "c", fleet.PartCapabilities)
	bits := fleet.Capabilities(1)
	if takes {
		bits |= fleet.AcceptsConnectionSettings
	}
	said.Summary.Capabilities = &bits
	w.said(said)
	return s
}

func upkeepAgain(w *world) {
	s := w.serverKeyed(w.gateway("gw-1", 7), true)
	offer := w.offered()
	w.record(w.word(s, offer, fleet.Delivered, "hash"), w.word(s, offer, fleet.Refused, ""))
	remark := fleet.Attention{Reason: fleet.AttentionCertificate, Message: "in vain", Since: w.now}
	w.keep(w.dueAlone(), fleet.UpkeepStep{LookAt: w.now.Add(time.Hour), Remark: &remark, Told: 2})
	w.pass(time.Second)
	before := w.agent(s.id)
	forgotten, reason, err := w.OfferAgain(w.Context(), w.by(), s.id)
	w.must(err)
	if forgotten != 1 || reason != "" || len(before.Attention) != 1 {
		w.Errorf("forgotten are %d, reason %q, it had the remarks %+v", forgotten, reason, before.Attention)
	}
	w.wantAudit(string(s.id), "agent.offer_certificate")
	if got := w.agent(s.id).Attention; len(got) != 0 {
		w.Errorf("its remarks are %+v", got)
	}
	on := w.dueAlone()
	if on.Offers != 0 || on.Pending || on.Failure != "" || !on.OfferedAt.IsZero() || on.Generation <= offer || on.Told != 2 {
		w.Errorf("known is %+v", on)
	}
	// What was forgotten makes no certificate, and words about it are none.
	if _, v := w.given(s.agent, "late", offer); v.Reason != fleet.RefusedNoOffer {
		w.Errorf("a certificate for the former offer: %+v", v)
	}
	w.record(w.word(s, offer, fleet.NotCapable, ""))
	if got := w.dueAlone(); got.Failure != "" {
		w.Errorf("known is %+v", got)
	}
	w.sendsNothing()
	next := w.offered()
	if _, v := w.given(s.agent, "next", next); !v.Open() {
		w.Errorf("a certificate for the next offer: %+v", v)
	}
	// One that is on its way is forgotten too, and with it that it was to be sent.
	forgotten, reason, err = w.OfferAgain(w.Context(), w.by(), s.id)
	w.must(err)
	if forgotten != 1 || reason != "" {
		w.Errorf("forgotten are %d, reason %q", forgotten, reason)
	}
	w.sendsNothing()
}

func upkeepNotAgain(w *world) {
	g := w.gateway("gw-1", 7)
	keeps, cannot, fine := w.connect(w.enrol(), g), w.serverKeyed(g, false), w.serverKeyed(g, true)
	over, revoked := w.serverKeyed(g, true), w.serverKeyed(g, true)
	w.revokes(fleet.Revocation{Agents: []fleet.AgentID{revoked.id}})
	for id, want := range map[fleet.AgentID]string{
		w.enrol().id: fleet.RefusedNotShown, keeps.id: fleet.RefusedKeepsKey, cannot.id: fleet.RefusedNoSettings,
		fine.id: fleet.RefusedNotOffered, revoked.id: fleet.RefusedRevoked,
	} {
		before := w.audited(string(id))
		_, reason, err := w.OfferAgain(w.Context(), w.by(), id)
		w.must(err)
		if reason != want || !slices.Equal(w.audited(string(id)), before) {
			w.Errorf("reason %q, want %q; audited %v", reason, want, w.audited(string(id)))
		}
	}
	_, _, err := w.OfferAgain(w.Context(), w.by(), newID[fleet.AgentID]())
	w.want(err, store.ErrNotFound)
	theirs := w.in("theirs")
	_, _, err = theirs.OfferAgain(w.Context(), theirs.by(), fine.id)
	w.want(err, store.ErrNotFound)
	w.pass(year)
	_, reason, err := w.OfferAgain(w.Context(), w.by(), over.id)
	w.must(err)
	if reason != fleet.RefusedExpired {
		w.Errorf("reason %q", reason)
	}
}
