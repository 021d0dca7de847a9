// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package upkeep_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/upkeep"
)

const dayTime = 24 * time.Hour

var (
	made   = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	policy = upkeep.Policy{Before: 30 * dayTime, Window: dayTime}
)

// keyed is an agent whose key the server made, connected, with a certificate for a year.
func keyed() fleet.Upkeep {
	return fleet.Upkeep{
		Tenant: "t", Agent: "a", Method: fleet.EnrolledByServerKey, TakesSettings: true, Live: true, Epoch: 1,
		Transport: fleet.TransportWebSocket, Serial: "5e", MadeAt: made, NotAfter: made.AddDate(1, 0, 0),
	}
}

// filed is one whose files somebody else keeps.
func filed() fleet.Upkeep {
	u := keyed()
	u.Method = fleet.EnrolledByEST
	return u
}

// world plays the row, the store and the agent around Decide, until the certificate is over or nothing is to be looked at.
type world struct {
	fleet.Upkeep
	policy upkeep.Policy
	offers []time.Time
	events []fleet.EventKind
	looks  int
}

// run lets time pass from now on. before is called before each look.
func (w *world) run(t rapid.TB, now, until time.Time, before func(*world, time.Time)) {
	t.Helper()
	for !now.After(until) {
		before(w, now)
		step := upkeep.Decide(w.policy, w.Upkeep, now)
		if w.looks++; w.looks > 10_000 {
			t.Fatal("it looks and looks")
		}
		if !step.LookAt.IsZero() && !step.LookAt.After(now) {
			t.Fatalf("looked at %v, and again at %v", now, step.LookAt)
		}
		if step.Offer {
			w.offers = append(w.offers, now)
			w.Offers, w.Generation, w.OfferedAt, w.OfferEpoch = w.Offers+1, w.Generation+1, now, w.Epoch
		}
		for _, e := range step.Events {
			w.events = append(w.events, e.Kind)
		}
		w.Told, w.Attention = step.Told, fleet.WithUpkeep(w.Attention, step.Remark)
		if step.LookAt.IsZero() {
			return
		}
		now = step.LookAt
	}
}

func (w *world) reasons() (reasons []string) {
	for _, a := range w.Attention {
		reasons = append(reasons, a.Reason)
	}
	return reasons
}

func nothing(*world, time.Time) {}

func TestAnOfferIsMadeInTheFirstPartOfThePeriod(t *testing.T) {
	var due []time.Duration
	for i := range 400 {
		w := &world{Upkeep: keyed(), policy: policy}
		w.Agent = fleet.AgentID(fmt.Sprint("agent-", i))
		w.run(t, made, w.NotAfter, func(w *world, _ time.Time) {
			if w.Offers > 0 {
				w.Serial = "" // taken: what follows is about another one
			}
		})
		if len(w.offers) != 1 || len(w.events) != 0 {
			t.Fatalf("%s: offers at %v, events %v", w.Agent, w.offers, w.events)
		}
		due = append(due, w.offers[0].Sub(w.NotAfter.Add(-policy.Before)))
	}
	slices.Sort(due)
	spread := policy.Before / 4
	if due[0] < 0 || due[len(due)-1] > spread {
		t.Errorf("first offers from %v to %v of the period", due[0], due[len(due)-1])
	}
	// Evenly: no tenth of the time has more than twice its share.
	for i := range 10 {
		from, to := spread*time.Duration(i)/10, spread*time.Duration(i+1)/10
		in := 0
		for _, d := range due {
			if d >= from && d < to {
				in++
			}
		}
		if in > 80 || in < 15 {
			t.Errorf("%d of 400 offers within %v and %v", in, from, to)
		}
	}
}

func TestWhoIgnoresThreeOffersNeedsAttention(t *testing.T) {
	for name, u := range map[string]struct {
		life   time.Duration
		policy upkeep.Policy
	}{
		"a year":      {365 * dayTime, policy},
		"two minutes": {2 * time.Minute, policy},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{Upkeep: keyed(), policy: u.policy}
			w.NotAfter = w.MadeAt.Add(u.life)
			period := min(u.policy.Before, u.life/2)
			w.run(t, made, w.NotAfter.Add(-period/4), func(w *world, _ time.Time) { w.Epoch++ }) // it connects anew all the time
			if len(w.offers) != upkeep.Offers || !slices.Equal(w.events, []fleet.EventKind{fleet.EventCertificateAttention}) ||
				!slices.Equal(w.reasons(), []string{fleet.AttentionCertificate}) {
				t.Fatalf("offers at %v, events %v, remarks %v", w.offers, w.events, w.reasons())
			}
			first, second := w.offers[1].Sub(w.offers[0]), w.offers[2].Sub(w.offers[1])
			if first < min(10*time.Minute, period/10) || second < min(time.Hour, period/5) || second < first {
				t.Errorf("waited for %v and then for %v", first, second)
			}
			w.run(t, w.NotAfter.Add(-period/4), w.NotAfter.Add(dayTime), func(w *world, _ time.Time) { w.Epoch++ })
			if len(w.offers) != upkeep.Offers || len(w.events) != 1 {
				t.Errorf("offers at %v, events %v", w.offers, w.events)
			}
			if !strings.Contains(w.Attention[0].Message, "ended") {
				t.Errorf("at the end it says %q", w.Attention[0].Message)
			}
		})
	}
}

func TestOneSessionIsOfferedOnce(t *testing.T) {
	w := &world{Upkeep: keyed(), policy: policy}
	w.run(t, made, w.NotAfter, nothing)
	if len(w.offers) != 1 || !slices.Equal(w.reasons(), []string{fleet.AttentionCertificate}) {
		t.Errorf("offers at %v, remarks %v", w.offers, w.reasons())
	}
	w.Attention, w.Epoch = nil, 2
	if step := upkeep.Decide(policy, w.Upkeep, w.NotAfter.Add(-dayTime)); !step.Offer {
		t.Errorf("in its next session: %+v", step)
	}
	polling := &world{Upkeep: keyed(), policy: policy}
	polling.Transport = fleet.TransportHTTP // has one session for good
	polling.run(t, made, polling.NotAfter, nothing)
	if len(polling.offers) != upkeep.Offers {
		t.Errorf("one that polls is offered at %v", polling.offers)
	}
}

func TestWhatWasSaidAgainstAnOfferIsTold(t *testing.T) {
	u := keyed()
	u.Offers, u.OfferEpoch, u.OfferedAt, u.Failure = 3, 1, u.NotAfter.Add(-20*dayTime), "x509: unknown authority"
	step := upkeep.Decide(policy, u, u.NotAfter.Add(-19*dayTime))
	if step.Remark == nil || !strings.Contains(step.Remark.Message, u.Failure) || len(step.Events) != 1 || !strings.Contains(step.Events[0].Message, u.Failure) {
		t.Errorf("step %+v", step)
	}
}

func TestAReplacedKeyIsFollowedOverTheWindow(t *testing.T) {
	rotated := made.AddDate(0, 1, 0)
	var first, last time.Time
	for i := range 200 {
		w := &world{Upkeep: keyed(), policy: policy}
		w.Agent, w.RotatedAt = fleet.AgentID(fmt.Sprint("agent-", i)), rotated
		w.run(t, rotated, rotated.Add(2*policy.Window), func(w *world, _ time.Time) {
			if w.Offers > 0 {
				w.Serial = ""
			}
		})
		if len(w.offers) != 1 {
			t.Fatalf("%s is offered at %v", w.Agent, w.offers)
		}
		if at := w.offers[0]; first.IsZero() || at.Before(first) {
			first = at
		}
		if at := w.offers[0]; at.After(last) {
			last = at
		}
	}
	if first.Before(rotated) || first.After(rotated.Add(policy.Window/20)) || last.Before(rotated.Add(policy.Window*9/10)) || last.After(rotated.Add(policy.Window)) {
		t.Errorf("offers from %v to %v after the rotation at %v", first, last, rotated)
	}
}

func TestWhoKeepsFilesIsToldThreeTimes(t *testing.T) {
	w := &world{Upkeep: filed(), policy: policy}
	var told []time.Duration
	w.run(t, made, w.NotAfter.Add(-time.Second), func(w *world, now time.Time) {
		if len(told) < w.Told {
			told = append(told, w.NotAfter.Sub(now))
		}
	})
	want := []fleet.EventKind{
		fleet.EventCertificateExpiring, fleet.EventCertificateAttention, fleet.EventCertificateExpiring, fleet.EventCertificateExpiring,
	}
	if !slices.Equal(w.events, want) || len(w.offers) > 0 || !slices.Equal(w.reasons(), []string{fleet.AttentionCertificate}) {
		t.Errorf("events %v, offers %v, remarks %v", w.events, w.offers, w.reasons())
	}
	short := &world{Upkeep: filed(), policy: policy}
	short.NotAfter = made.Add(2 * time.Hour)
	short.run(t, made, short.NotAfter.Add(-time.Second), nothing)
	if !slices.Equal(short.events, []fleet.EventKind{fleet.EventCertificateExpiring, fleet.EventCertificateAttention}) {
		t.Errorf("of a short life: %v", short.events)
	}
}

func TestTheRemarkGoesWithTheCertificate(t *testing.T) {
	u := filed()
	u.Attention = []fleet.Attention{{Reason: fleet.AttentionNoAnswer}, {Reason: fleet.AttentionCertificate, Message: "m", Since: made}}
	step := upkeep.Decide(policy, u, made.Add(dayTime)) // a new one, far from its end
	if got := fleet.WithUpkeep(u.Attention, step.Remark); len(got) != 1 || got[0].Reason != fleet.AttentionNoAnswer {
		t.Errorf("remarks %+v", got)
	}
	u.RevokedAt = made.Add(time.Hour)
	if step = upkeep.Decide(policy, u, u.NotAfter.Add(-time.Hour)); step.Remark != nil || !step.LookAt.IsZero() || len(step.Events) > 0 {
		t.Errorf("of a revoked one: %+v", step)
	}
}

// TestWhateverHappens lets anything happen to an agent, and holds what is done to what is promised.
func TestWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{Upkeep: keyed(), policy: upkeep.Policy{
			Before: time.Duration(rapid.Int64Range(int64(time.Minute), int64(8*dayTime)).Draw(t, "before")),
			Window: time.Duration(rapid.Int64Range(int64(time.Hour), int64(3*dayTime)).Draw(t, "window")),
		}}
		w.Agent = fleet.AgentID(rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "agent"))
		w.NotAfter = w.MadeAt.Add(time.Duration(rapid.Int64Range(int64(time.Minute), int64(10*dayTime)).Draw(t, "life")))
		w.Method = rapid.SampledFrom([]fleet.EnrolmentMethod{fleet.EnrolledByServerKey, fleet.EnrolledByAgentCSR, fleet.EnrolledByEST}).Draw(t, "method")
		w.TakesSettings = rapid.Bool().Draw(t, "takes settings")
		if rapid.Bool().Draw(t, "rotated") {
			w.RotatedAt = w.MadeAt.Add(w.NotAfter.Sub(w.MadeAt) / 3)
		}
		attention := 0
		w.run(t, made, w.NotAfter.Add(time.Hour), func(w *world, now time.Time) {
			w.Live, w.Pending = rapid.Bool().Draw(t, "live"), rapid.IntRange(0, 4).Draw(t, "pending") == 0
			if rapid.Bool().Draw(t, "connects") {
				w.Epoch++
			}
			step := upkeep.Decide(w.policy, w.Upkeep, now)
			due := w.NotAfter.Add(-min(w.policy.Before, w.NotAfter.Sub(w.MadeAt)/2))
			if !w.RotatedAt.IsZero() && w.RotatedAt.Before(due) {
				due = w.RotatedAt
			}
			may := w.Method == fleet.EnrolledByServerKey && w.TakesSettings && w.Live && !w.Quarantined && !w.Pending &&
				w.Offers < upkeep.Offers && !now.Before(due) && now.Before(w.NotAfter)
			if step.Offer && !may {
				t.Fatalf("an offer at %v for %+v", now, w.Upkeep)
			}
			if step.Offer && w.Transport == fleet.TransportWebSocket && w.Offers > 0 && w.Epoch <= w.OfferEpoch {
				t.Fatalf("a second offer in one session: %+v", w.Upkeep)
			}
			for _, e := range step.Events {
				if e.Kind == fleet.EventCertificateAttention {
					attention++
				}
			}
			quarter := w.NotAfter.Add(-min(w.policy.Before, w.NotAfter.Sub(w.MadeAt)/2) / 4)
			if !now.Before(quarter) && !step.Offer && step.Remark == nil {
				t.Fatalf("less than a quarter is left at %v, and nobody is told: %+v", now, w.Upkeep)
			}
		})
		if attention > 1 || len(w.offers) > upkeep.Offers {
			t.Fatalf("attention %d times, offers at %v", attention, w.offers)
		}
	})
}
