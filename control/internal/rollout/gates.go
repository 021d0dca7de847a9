// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// gate is one of the four, with what it counts.
type gate struct {
	field string // of the definition
	name  string
	gate  fleet.Gate
	count func(fleet.Counts) int
	when  string // the window in words, with its length in seconds
}

// gates are the four, in the order in which they are told.
func gates(g fleet.Gates) []gate {
	return []gate{
		{"apply_failed", "apply-failed", g.ApplyFailed, func(c fleet.Counts) int { return c.Failed }, ""},
		{"disconnect", "disconnect", g.Disconnect, func(c fleet.Counts) int { return c.Gone }, " within %d s"},
		{"mismatch", "effective-mismatch", g.Mismatch, func(c fleet.Counts) int { return c.Mismatch }, " after %d s"},
		{"unhealthy", "unhealthy", g.Unhealthy, func(c fleet.Counts) int { return c.Unhealthy }, " after %d s"},
	}
}

// breach is a gate that more agents have crossed than may.
type breach struct {
	gate  string
	words string
}

// breaches are the gates that stop the rollout now. What an operator took note of does not count any more.
func breaches(s fleet.RolloutSnapshot) []breach {
	def, accepted := s.Rollout.Definition.Gates, s.Rollout.Accepted
	var ofWave fleet.Counts
	if accepted.Wave == s.Rollout.Wave {
		ofWave = accepted.OfWave
	}
	var list []breach
	for _, g := range gates(def) {
		if g.gate.Off {
			continue
		}
		if words := breachOfWave(g, g.count(s.Wave)-g.count(ofWave), s.Wave.Agents, def.SmallWave); words != "" {
			list = append(list, breach{g.name, fmt.Sprintf("%s %s%s in wave %d", g.name, words, g.window(), s.Rollout.Wave)})
		}
		problems := g.count(s.SoFar) - g.count(accepted.SoFar)
		if s.SoFar.Touched >= def.SmallTotal && above(problems, s.SoFar.Touched, g.gate.Total) {
			list = append(list, breach{g.name, fmt.Sprintf("%s %s%s so far", g.name, ratio(problems, s.SoFar.Touched, g.gate.Total), g.window())})
		}
	}
	return list
}

// breachOfWave says in words that too many agents of a wave have a problem; empty: they have not.
func breachOfWave(g gate, problems, agents, small int) string {
	switch {
	case agents < small && problems > 0 && g.gate.Wave < 100:
		return fmt.Sprintf("%d of %d (one is enough of fewer than %d)", problems, agents, small)
	case agents >= small && above(problems, agents, g.gate.Wave):
		return ratio(problems, agents, g.gate.Wave)
	default:
		return ""
	}
}

func (g gate) window() string {
	if g.when == "" {
		return ""
	}
	return fmt.Sprintf(g.when, g.gate.Window/time.Second)
}

// above reports whether n of so many is strictly more than a percentage. What a percentage with decimals is off by as a
// binary fraction does not make it so.
func above(n, of int, percent float64) bool {
	return n > 0 && float64(n)*100 > percent*float64(of)+1e-6
}

// ratio is "12 of 100 (12 % > 10 %)".
func ratio(n, of int, limit float64) string {
	return fmt.Sprintf("%d of %d (%s %% > %s %%)", n, of, short(float64(n)*100/float64(of), limit), short(limit, -1))
}

// short is x with as many decimals as tell it from the other, two at least as far as they say something.
func short(x, other float64) string {
	for decimals := 2; ; decimals++ {
		a, b := strconv.FormatFloat(x, 'f', decimals, 64), strconv.FormatFloat(other, 'f', decimals, 64)
		if a != b || decimals == 8 {
			return strings.TrimSuffix(strings.TrimRight(a, "0"), ".")
		}
	}
}

// wordsOf joins breaches.
func wordsOf(list []breach) string {
	words := make([]string, len(list))
	for i, b := range list {
		words[i] = b.words
	}
	return strings.Join(words, "; ")
}
