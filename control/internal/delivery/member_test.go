// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// member makes the agent one of a rollout that goes on: let in at the start, and pushed to then if it is further.
func member(state fleet.MemberState, edit ...func(*fleet.Member)) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		m := fleet.Member{Rollout: "r", Agent: s.Agent, Wave: 2, State: state, AdmittedAt: start, DeadlineAt: start.Add(fleet.DefaultDeadline)}
		if state != fleet.MemberAdmitted && state != fleet.MemberPending {
			m.PushedAt = start
		}
		for _, e := range edit {
			e(&m)
		}
		s.Member = &m
		s.Under = fleet.Under{State: fleet.RolloutInProgress, Generation: 3, Gates: fleet.DefaultGates()}
		s.Session = fleet.Session{Epoch: 1, GatewayLeaseUntil: start.Add(time.Hour)}
	}
}

func under(state fleet.RolloutState) func(*fleet.Situation) {
	return func(s *fleet.Situation) { s.Under.State = state }
}

func ended(after time.Duration, why string) func(*fleet.Situation) {
	return func(s *fleet.Situation) { s.Session.EndedAt, s.Session.EndReason = start.Add(after), why }
}

func wasGone(m *fleet.Member) { m.Gone = true }

func memberText(m *fleet.Member) string {
	if m == nil {
		return ""
	}
	words := []string{string(m.State)}
	for word, is := range map[string]bool{
		"gone": m.Gone, "unhealthy": m.Unhealthy, "mismatch": m.Mismatch, "health-counts": m.HealthCounts, "config-counts": m.ConfigCounts,
		"overdue": m.Overdue, "settled": !m.SettledAt.IsZero(), "pushed-at": !m.PushedAt.IsZero(), "look": !m.LookAt.IsZero(),
	} {
		if is {
			words = append(words, word)
		}
	}
	slices.Sort(words[1:])
	if m.Reason != "" {
		words = append(words, fmt.Sprintf("(%s)", m.Reason))
	}
	return strings.Join(words, " ")
}

func TestObserve(t *testing.T) {
	v1, v2, no := version(1), version(2), false
	ill := func(s *fleet.Situation) { s.Healthy = &no }
	drifts := func(s *fleet.Situation) { s.Mismatch = true }
	deliveredTo, applied := granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigApplied, v1, "", 2)
	after := func(s fleet.Situation, d time.Duration) string {
		step := delivery.Decide(s, start.Add(d))
		if step.Member != nil {
			if from, to := s.Member.State, step.Member.State; from != to && !slices.Contains(fleet.MemberTransitions[from], to) {
				t.Errorf("a member goes from %s to %s", from, to)
			}
			s.Member = step.Member
			if again := delivery.Decide(s, start.Add(d)); again.Member != nil {
				t.Errorf("observed twice, it is %s and then %s", memberText(step.Member), memberText(again.Member))
			}
		}
		return memberText(step.Member)
	}
	for _, c := range []struct {
		name  string
		given fleet.Situation
		after time.Duration
		want  string
	}{
		{"not let in", situation(member(fleet.MemberPending), held), 0, ""},
		{"let in", situation(member(fleet.MemberAdmitted)), time.Second, "admitted look"},
		{"let in, long ago", situation(member(fleet.MemberAdmitted)), time.Hour, "admitted overdue"},
		{"delivered", situation(member(fleet.MemberAdmitted), deliveredTo), time.Second, "pushed look pushed-at"},
		{"applying", situation(member(fleet.MemberPushed), deliveredTo, says(fleet.ConfigApplying, v1, "", 2)), time.Second, "applying look pushed-at"},
		{"applied", situation(member(fleet.MemberPushed), deliveredTo, applied), time.Second, "applied look pushed-at settled"},
		{"applied, and the windows are over", situation(member(fleet.MemberPushed), deliveredTo, applied), time.Hour, "applied config-counts health-counts pushed-at settled"},
		{"it was there already", situation(member(fleet.MemberAdmitted), applied), time.Second, "applied look pushed-at settled"},
		{"failed", situation(member(fleet.MemberPushed), deliveredTo, says(fleet.ConfigFailed, v1, "no such receiver", 2)), time.Second, "failed look pushed-at settled (no such receiver)"},
		{"failed before", situation(member(fleet.MemberAdmitted, func(m *fleet.Member) { m.AdmittedAt = start.Add(time.Second) }), attempted(v1, fleet.AttemptFailed)), 2 * time.Second, "failed settled (failed before: as said before)"},
		{"went back by itself", situation(member(fleet.MemberApplying), deliveredTo, func(s *fleet.Situation) { s.Grant.ApplyingAt = start }, says(fleet.ConfigApplied, v2, "", 2)), time.Second, "failed look pushed-at settled (the agent went back to its former configuration by itself)"},
		{"takes no configuration", situation(member(fleet.MemberAdmitted), func(s *fleet.Situation) { s.AcceptsConfig = &no }), time.Second, "skipped settled (the agent does not accept remote configuration)"},
		{"cannot be rendered", situation(member(fleet.MemberAdmitted), func(s *fleet.Situation) { s.Unrendered = "no such tag" }), time.Second, "skipped settled (no such tag)"},
		{"went away at once", situation(member(fleet.MemberPushed), deliveredTo, ended(time.Minute, "CLOSED")), time.Minute, "disconnected gone look pushed-at"},
		{"went away later", situation(member(fleet.MemberPushed), deliveredTo, ended(6*time.Minute, "CLOSED")), 6 * time.Minute, "pushed look pushed-at"},
		{"was away before", situation(member(fleet.MemberPushed), deliveredTo, ended(-time.Minute, "CLOSED")), time.Minute, "pushed look pushed-at"},
		{"is on its way to another gateway", situation(member(fleet.MemberPushed), deliveredTo, ended(time.Minute, fleet.EndDrained)), time.Minute, "pushed look pushed-at"},
		{"and does not arrive", situation(member(fleet.MemberPushed), deliveredTo, ended(time.Minute, fleet.EndDrained)), time.Minute + fleet.MoveGrace, "disconnected gone look pushed-at"},
		{"came back without it", situation(member(fleet.MemberDisconnected, wasGone), deliveredTo), time.Minute, "disconnected gone look pushed-at"},
		{"came back with it", situation(member(fleet.MemberDisconnected, wasGone), deliveredTo, applied), time.Minute, "applied look pushed-at settled"},
		{"applied it and went away", situation(member(fleet.MemberPushed), deliveredTo, applied, ended(time.Minute, "CLOSED")), time.Minute, "disconnected gone look pushed-at"},
		{"is ill", situation(member(fleet.MemberPushed), deliveredTo, applied, ill), time.Minute, "applied look pushed-at settled unhealthy"},
		{"drifts", situation(member(fleet.MemberPushed), deliveredTo, applied, drifts), time.Minute, "applied look mismatch pushed-at settled"},
		{"is still to apply it, so what it runs is of before", situation(member(fleet.MemberPushed), deliveredTo, drifts), time.Minute, "pushed look pushed-at"},
		{"lost it", situation(member(fleet.MemberApplied), met(v1)), time.Minute, "pushed look pushed-at"},
		{"the rollout is over, and it is ill", situation(member(fleet.MemberApplied), under(fleet.RolloutCompleted), met(v1), applied, ill), time.Hour, ""},
		{"the rollout is over, and it answers", situation(member(fleet.MemberPushed), under(fleet.RolloutCompleted), deliveredTo, applied), time.Hour, "applied config-counts health-counts pushed-at settled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, "member", after(c.given, c.after), c.want)
		})
	}
}
