// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package explore_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

// bound is how many states are looked at; AMPORA_EXPLORE_STATES says otherwise.
func bound(t *testing.T) int {
	text := os.Getenv("AMPORA_EXPLORE_STATES")
	if text == "" {
		return 12_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("AMPORA_EXPLORE_STATES=%s is no number of states", text)
	}
	return n
}

// worlds are all beginnings: nobody, or one agent, cannot run the new version.
func worlds(agents int, left faults) []world {
	list := []world{newWorld(agents, nil, left)}
	for i := range agents {
		list = append(list, newWorld(agents, []int{i}, left))
	}
	return list
}

// TestExplore: whatever happens in whatever order, nothing that must not be comes to be.
func TestExplore(t *testing.T) {
	for _, c := range []struct {
		name    string
		agents  int
		engines int
		left    faults
	}{
		{"nothing goes wrong but configurations", 2, 1, faults{ticks: 2}},
		{"two engines", 2, 2, faults{ticks: 1}},
		{"an operator", 2, 1, faults{operator: 2, ticks: 1}},
		{"two engines, an operator and a crash", 2, 2, faults{operator: 1, crashes: 1}},
		{"agents that come and go, and say things twice", 2, 1, faults{leaves: 1, duplicates: 1, ticks: 1}},
		{"everything", 2, 2, faults{operator: 1, crashes: 1, duplicates: 1, leaves: 1, ticks: 1}},
		{"three agents", 3, 1, faults{operator: 1, ticks: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			f := explore(rules{agents: c.agents, engines: c.engines, decide: rollout.Decide}, worlds(c.agents, c.left), bound(t))
			t.Logf("%s; faults %+v; %s", f, c.left, time.Since(began).Round(time.Millisecond))
			if f.broken != "" {
				t.Errorf("%s:\n  %s", f.broken, f.trace())
			}
		})
	}
}

// TestFindsMistakes: the search finds what it is to find, if it is put there.
func TestFindsMistakes(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules rules
		left  faults
		want  string
	}{
		{
			name: "a decision that does not look at the gates", want: "is opened although a gate is crossed",
			rules: rules{agents: 2, engines: 1, decide: func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
				off := fleet.Gate{Off: true}
				s.Rollout.Definition.Gates = fleet.Gates{ApplyFailed: off, Disconnect: off, Mismatch: off, Unhealthy: off}
				return rollout.Decide(s, now)
			}},
			left: faults{ticks: 2},
		},
		{
			name: "a decision that stops, and closes nothing", want: "is open and not claimed under a rollout that is paused",
			rules: rules{agents: 3, engines: 1, decide: func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
				step := rollout.Decide(s, now)
				step.Close = false
				return step
			}},
			left: faults{ticks: 1},
		},
		{
			name: "a grant that is opened without a look at the rollout's generation", want: "is granted to a under a rollout that is paused",
			rules: rules{agents: 2, engines: 2, decide: rollout.Decide, unguarded: true}, left: faults{operator: 1},
		},
		{
			name: "an offer that is claimed without a look at the rollout's state", want: "is claimed under a rollout that is paused",
			rules: rules{agents: 2, engines: 2, decide: rollout.Decide, unchecked: true}, left: faults{operator: 1, crashes: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := explore(c.rules, worlds(c.rules.agents, c.left), 200_000)
			if !strings.Contains(f.broken, c.want) {
				t.Fatalf("found %q after %s, want %q", f.broken, f, c.want)
			}
			t.Logf("%s, after %d states:\n  %s", f.broken, f.states, f.trace())
		})
	}
}
