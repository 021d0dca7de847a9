// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package upkeep keeps the certificates of agents from running out.
//
// An agent whose key the server made is offered another certificate in good time, over the connection it has: Decide says
// when, and what is left to do when it does not take it. Whoever has an agent's files renews them; of those it is told in
// time that they end. Nothing here makes a certificate or sees a key: an offer is a row of the outbox, and the gateway that
// holds the agent does the rest.
//
// Each offer costs the agent a connection. So offers are spread over time by what agents are called, and no more are made
// than Keeper says, however many are due.
package upkeep

import (
	"fmt"
	"hash/fnv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Policy is when certificates are replaced.
type Policy struct {
	// Before is how long before its end a certificate is replaced: at most half of its life, whatever this says.
	Before time.Duration
	// Window is over how long offers are spread when the key that signed the certificates was replaced.
	Window time.Duration
}

// Offers is how often another certificate is offered in the place of one.
const Offers = 3

// What is waited for after each offer, and the share of the period that this is at most: with the part of the period that
// first offers are spread over, the last is judged before a quarter of it is left.
var (
	waits  = [Offers]time.Duration{10 * time.Minute, time.Hour, 6 * time.Hour}
	shares = [Offers]time.Duration{10, 5, 5}
)

// Parts of the period: first offers are spread over the first, and when less than the other is left somebody must look.
const (
	spreadPart = 4
	alarmPart  = 4
)

// Longest times until it is looked again: nothing is due until a key is replaced, or an agent is due that may come back any
// time.
const (
	longestNap  = 3 * time.Hour
	longestWait = 15 * time.Minute
)

// Times before the end at which it is told again that a certificate is not renewed.
var warnings = []time.Duration{7 * 24 * time.Hour, 24 * time.Hour}

// plan is when things are to happen to a certificate.
type plan struct {
	begins time.Time // its period of renewal
	period time.Duration
	due    time.Time // the first offer
	alarm  time.Time
	nap    time.Duration // until it is looked again when nothing is due
	wait   time.Duration // when something is, for which the agent must come
}

func (p Policy) plan(u fleet.Upkeep) plan {
	period := min(p.Before, u.NotAfter.Sub(u.MadeAt)/2)
	of := plan{period: period, begins: u.NotAfter.Add(-period), alarm: u.NotAfter.Add(-period / alarmPart)}
	share := shareOf(u.Agent)
	of.due = of.begins.Add(part(period/spreadPart, share))
	if !u.RotatedAt.IsZero() {
		of.begins = earlier(of.begins, u.RotatedAt)
		of.due = earlier(of.due, u.RotatedAt.Add(part(p.Window, share)))
	}
	of.nap = max(min(longestNap, p.Window/8), time.Second)
	of.nap -= part(of.nap/4, share) // or all that were looked at together would be for ever
	of.wait = max(min(longestWait, period/16), time.Second)
	return of
}

// shareOf is a number from 0 to 1 that is the agent's own, the same in each process.
func shareOf(agent fleet.AgentID) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(agent))
	const odd = 0x9E3779B97F4A7C15 // spreads what FNV leaves in the low bits
	return float64(h.Sum64()*odd>>11) / (1 << 53)
}

func part(of time.Duration, share float64) time.Duration { return time.Duration(float64(of) * share) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Decide says what is done about the certificate of an agent at now.
func Decide(p Policy, u fleet.Upkeep, now time.Time) fleet.UpkeepStep {
	step := fleet.UpkeepStep{Told: u.Told}
	switch of := p.plan(u); {
	case u.Serial == "", !u.RevokedAt.IsZero():
		// Nothing keeps this one.
	case !now.Before(u.NotAfter):
		alarm(&step, u, now, fmt.Sprintf("its certificate ended on %s: it comes back with a new bootstrap token", day(u.NotAfter)))
	case offered(u):
		offer(&step, of, u, now)
	default:
		tell(&step, of, u, now)
	}
	return step
}

// offered says that the server makes this agent's keys. Who made its own key, or has it in files, keeps it to itself.
func offered(u fleet.Upkeep) bool { return u.Method == fleet.EnrolledByServerKey && u.TakesSettings }

// offer decides for an agent that is offered certificates. The three offers are made in sessions of their own: what an agent
// did not take it does not take by being asked again, and its gateway would not. One that polls has one session for good.
func offer(step *fleet.UpkeepStep, of plan, u fleet.Upkeep, now time.Time) {
	if now.Before(of.due) {
		step.LookAt = earlier(of.due, now.Add(of.nap))
		return
	}
	standing(step, u)
	step.LookAt = now.Add(of.wait)
	switch next := of.next(u); {
	case u.Pending:
	case now.Before(next):
		step.LookAt = earlier(next, now.Add(of.nap))
	case u.Offers >= Offers:
		step.LookAt = u.NotAfter
		alarm(step, u, now, fmt.Sprintf("it was offered a certificate %d times and has not taken it%s", u.Offers, words(u)))
	case u.Live && !u.Quarantined && (u.Offers == 0 || u.Epoch > u.OfferEpoch || u.Transport == fleet.TransportHTTP):
		step.Offer, step.LookAt = true, now.Add(of.after(u.Offers+1))
	case u.Offers > 0 && !now.Before(u.OfferedAt.Add(of.after(Offers))):
		alarm(step, u, now, "it was offered a certificate and has not taken it"+words(u))
	}
	if step.Remark == nil && !step.Offer && !now.Before(of.alarm) {
		alarm(step, u, now, fmt.Sprintf("its certificate ends on %s, and it has not taken another%s", day(u.NotAfter), words(u)))
	}
}

// next is when another offer may be made. An offer that was taken counts too: one who forgets what it took is offered it
// again, and no faster.
func (of plan) next(u fleet.Upkeep) time.Time {
	if u.OfferedAt.IsZero() {
		return time.Time{}
	}
	return u.OfferedAt.Add(of.after(max(u.Offers, 1)))
}

// standing keeps the remark that there is: it goes when another certificate is shown.
func standing(step *fleet.UpkeepStep, u fleet.Upkeep) {
	for _, remark := range u.Attention {
		if remark.Reason == fleet.AttentionCertificate {
			step.Remark = &remark
		}
	}
}

// after is how long it is waited after an offer, by its number.
func (of plan) after(offer int) time.Duration {
	i := min(offer, Offers) - 1
	return max(min(waits[i], of.period/shares[i]), time.Second)
}

// tell decides for an agent whose files somebody else keeps.
func tell(step *fleet.UpkeepStep, of plan, u fleet.Upkeep, now time.Time) {
	times := []time.Time{of.begins}
	for _, before := range warnings {
		times = append(times, later(of.begins, u.NotAfter.Add(-before)))
	}
	due := 0
	step.LookAt = now.Add(of.nap)
	for _, at := range append(times, of.alarm) {
		if now.Before(at) {
			step.LookAt = earlier(step.LookAt, at)
		}
	}
	for _, at := range times {
		if !now.Before(at) {
			due++
		}
	}
	step.Told = max(step.Told, due)
	if step.Told == 0 {
		return
	}
	message := fmt.Sprintf("its certificate ends on %s", day(u.NotAfter))
	switch {
	case u.Newer:
		message += ": it has another one and has not shown it yet"
	case u.Method == fleet.EnrolledByServerKey:
		message += ": it does not take connection settings, so it cannot be offered another"
	default:
		message += ": renew its files"
	}
	if due > u.Told {
		step.Events = append(step.Events, event(u, now, fleet.EventCertificateExpiring, message))
	}
	if !now.Before(of.alarm) {
		alarm(step, u, now, message)
		return
	}
	step.Remark = remark(u, now, fleet.AttentionCertificateExpiring, message)
}

// alarm says that somebody must look: once for each certificate.
func alarm(step *fleet.UpkeepStep, u fleet.Upkeep, now time.Time, message string) {
	step.Remark = remark(u, now, fleet.AttentionCertificate, message)
	for _, before := range u.Attention {
		if before.Reason == fleet.AttentionCertificate {
			return
		}
	}
	step.Events = append(step.Events, event(u, now, fleet.EventCertificateAttention, message))
}

// remark keeps since when it stands, whatever its words are by now.
func remark(u fleet.Upkeep, now time.Time, reason, message string) *fleet.Attention {
	made := fleet.Attention{Reason: reason, Message: message, Since: now.UTC()}
	for _, before := range u.Attention {
		if before.Reason == reason {
			made.Since = before.Since
		}
	}
	return &made
}

func event(u fleet.Upkeep, now time.Time, kind fleet.EventKind, message string) fleet.Event {
	return fleet.Event{
		Tenant: u.Tenant, Agent: u.Agent, At: now, Kind: kind, Message: message,
		Attributes: map[string]string{"serial": string(u.Serial), "not_after": u.NotAfter.UTC().Format(time.RFC3339)},
	}
}

// words are what was said against the last offer.
func words(u fleet.Upkeep) string {
	if u.Failure == "" {
		return ""
	}
	return ": " + u.Failure
}

func day(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
