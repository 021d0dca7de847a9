// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// ErrInvalid is what errors about a definition or an argument wrap; their text names the field.
var ErrInvalid = errors.New("not valid")

// Longest is how long a dwell, a window or a deadline may be.
const Longest = 31 * 24 * time.Hour

// Check says what of a definition cannot be, or contradicts itself.
func Check(def fleet.RolloutDefinition) error {
	switch {
	case def.Group == "":
		return invalid("group", "is missing")
	case def.Config == "" || def.Version < 1:
		return invalid("version", "is missing")
	case def.Late != fleet.LateFreeze && def.Late != fleet.LateJoin:
		return invalid("late", "is freeze or join")
	case def.Deadline <= 0 || def.Deadline > Longest:
		return invalid("deadline", "is more than nothing and at most %s", Longest)
	case def.RollBack && def.Gates.ApplyFailed.Off && def.Gates.Disconnect.Off && def.Gates.Mismatch.Off && def.Gates.Unhealthy.Off:
		return invalid("roll_back", "needs a gate, and all are off")
	}
	for _, check := range []error{checkStrategy(def.Strategy), checkAdvance(def), checkOrder(def.Order), checkGates(def.Gates)} {
		if check != nil {
			return check
		}
	}
	return nil
}

func checkStrategy(s fleet.Strategy) error {
	byShares := s.Kind == fleet.StrategyPercentage || s.Kind == fleet.StrategyCanary
	switch {
	case s.Kind != fleet.StrategyImmediate && s.Kind != fleet.StrategyBatch && !byShares:
		return invalid("strategy.kind", "is immediate, batch, percentage or canary")
	case s.Kind == fleet.StrategyBatch && s.Size < 1:
		return invalid("strategy.size", "is at least 1 for a batch")
	case s.Kind != fleet.StrategyBatch && s.Size != 0:
		return invalid("strategy.size", "is for batch only")
	case !byShares && len(s.Steps) > 0:
		return invalid("strategy.steps", "are for percentage and canary only")
	case s.Dwell < 0 || s.Dwell > Longest:
		return invalid("strategy.dwell", "is at most %s", Longest)
	case byShares:
		return checkSteps(s.Steps)
	}
	return nil
}

func checkSteps(steps []fleet.WaveStep) error {
	before := 0.0
	for i, step := range steps {
		field := fmt.Sprintf("strategy.steps[%d]", i)
		switch {
		case !(step.Percent > before && step.Percent <= 100):
			return invalid(field+".percent", "is more than the one before and at most 100")
		case step.Dwell < 0 || step.Dwell > Longest:
			return invalid(field+".dwell", "is at most %s", Longest)
		}
		before = step.Percent
	}
	if before != 100 {
		return invalid("strategy.steps", "end with 100 percent")
	}
	return nil
}

func checkAdvance(def fleet.RolloutDefinition) error {
	switch {
	case def.Advance != fleet.AdvanceAutomatic && def.Advance != fleet.AdvanceManual:
		return invalid("advance", "is automatic or manual")
	case def.Advance == fleet.AdvanceManual && def.Strategy.Kind == fleet.StrategyCanary:
		return invalid("advance", "of a canary is automatic; percentage is the same with an operator who advances")
	}
	return nil
}

func checkOrder(o fleet.Order) error {
	switch o.Kind {
	case fleet.OrderRandom, fleet.OrderHostName, fleet.OrderLastSeen:
		if o.Label != "" {
			return invalid("order.label", "is for spread only")
		}
	case fleet.OrderSpread:
		if o.Label == "" {
			return invalid("order.label", "is missing: spread over what?")
		}
	default:
		return invalid("order.kind", "is random, host_name, last_seen or spread")
	}
	return nil
}

func checkGates(g fleet.Gates) error {
	for _, is := range gates(g) {
		field := "gates." + is.field
		switch {
		case !percent(is.gate.Wave):
			return invalid(field+".wave", "is a percentage from 0 to 100")
		case !percent(is.gate.Total):
			return invalid(field+".total", "is a percentage from 0 to 100")
		case is.gate.Window < 0 || is.gate.Window > Longest:
			return invalid(field+".window", "is at most %s", Longest)
		}
	}
	switch {
	case g.ApplyFailed.Window != 0:
		return invalid("gates.apply_failed.window", "is none: a failure counts at once")
	case !g.Disconnect.Off && g.Disconnect.Window == 0:
		return invalid("gates.disconnect.window", "is missing: without one nothing counts")
	case g.SmallWave < 0:
		return invalid("gates.small_wave", "is not negative")
	case g.SmallTotal < 0:
		return invalid("gates.small_total", "is not negative")
	}
	return nil
}

func percent(p float64) bool { return p >= 0 && p <= 100 }

func invalid(field, words string, args ...any) error {
	return fmt.Errorf("%w: %s %s", ErrInvalid, field, fmt.Sprintf(words, args...))
}
