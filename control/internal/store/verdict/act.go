// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Subject is an agent as far as what is done to many depends on it.
type Subject struct {
	ID       fleet.AgentID
	Tags     map[string]fleet.Tag
	Group    fleet.GroupID
	Open     bool // it has a session that has not ended
	Delivery fleet.DeliveryState
	Can      fleet.Capabilities
}

// Selected checks who was selected, ascending and each once, of whom one more was read than the act may be about.
func Selected(a fleet.Act, agents []fleet.AgentID) (mark string, err error) {
	if len(agents) > a.Most {
		return "", fmt.Errorf("select the agents: %w", store.ErrTooMany)
	}
	if mark = MarkOf(agents); a.Expect != "" && a.Expect != mark {
		return "", fmt.Errorf("select the agents: there are others than expected: %w", store.ErrConflict)
	}
	return mark, nil
}

// MarkOf names a selection: how many they are, and a digest of their ids.
func MarkOf(agents []fleet.AgentID) string {
	digest := sha256.New()
	for _, id := range agents {
		_, _ = fmt.Fprintln(digest, id)
	}
	return fmt.Sprintf("%d-%x", len(agents), digest.Sum(nil)[:12])
}

// OfAct parts the selected into those it is done to and the others. Of whom there is no subject there is no agent.
func OfAct(a fleet.Act, agents []fleet.AgentID, subjects map[fleet.AgentID]Subject) fleet.ActOutcome {
	outcome := fleet.ActOutcome{Skipped: map[fleet.Skip][]fleet.AgentID{}}
	for _, id := range agents {
		why := fleet.SkipUnknown
		if subject, there := subjects[id]; there {
			why = skip(a, subject)
		}
		if why == fleet.SkipNone {
			outcome.Done = append(outcome.Done, id)
		} else {
			outcome.Skipped[why] = append(outcome.Skipped[why], id)
		}
	}
	return outcome
}

func skip(a fleet.Act, s Subject) fleet.Skip {
	switch a.Kind {
	case fleet.ActTag:
		return skipTags(a.Tags.Of(s.Tags), s.Tags)
	case fleet.ActMove:
		return unless(s.Group != a.To, fleet.SkipUnchanged)
	case fleet.ActPush:
		return skipPush(s)
	case fleet.ActDrain:
		return unless(s.Open, fleet.SkipAway)
	case fleet.ActRestart:
		return cmp.Or(unless(s.Can.Has(fleet.AcceptsRestart), fleet.SkipNotCapable), unless(s.Open, fleet.SkipAway))
	default:
		return fleet.SkipNone
	}
}

func unless(done bool, why fleet.Skip) fleet.Skip {
	if done {
		return fleet.SkipNone
	}
	return why
}

func skipPush(s Subject) fleet.Skip {
	switch s.Delivery {
	case "", fleet.DeliveryNone:
		return fleet.SkipUnassigned
	case fleet.DeliveryFailed, fleet.DeliveryRolledBack:
		return fleet.SkipFailed
	case fleet.DeliverySkipped:
		return fleet.SkipNotCapable
	default:
		return unless(s.Open, fleet.SkipAway)
	}
}

func skipTags(next, now map[string]fleet.Tag) fleet.Skip {
	switch {
	case maps.Equal(next, now):
		return fleet.SkipUnchanged
	case len(next) > fleet.MaxTags && len(next) > len(now):
		return fleet.SkipTooManyTags
	default:
		return fleet.SkipNone
	}
}

// Spread are the times at which an act is done to so many, one after the other, from at on.
func Spread(a fleet.Act, at time.Time, n int) []time.Time {
	times := make([]time.Time, n)
	for i := range times {
		times[i] = at.Add(time.Duration(i) * (a.Each + a.Over/time.Duration(n)))
	}
	return times
}

// Named are the agents that an act names, ascending, each once.
func Named(agents []fleet.AgentID) []fleet.AgentID {
	return slices.Compact(slices.Sorted(slices.Values(agents)))
}
