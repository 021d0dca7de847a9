// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which nothing is done.
const (
	// ReasonInvalid: the definition contradicts itself.
	ReasonInvalid = "ROLLOUT_INVALID"
	// ReasonStale: the plan is not what it would be now. The metadata have "digest", that of the plan as it would be now,
	// numbers of agents ("of", "joined", "left", "moved", "reclassed", "turned"), "definition" if that is otherwise, and
	// "agent/<id>" with words for some agents.
	ReasonStale = "PLAN_STALE"
	// ReasonActive: another rollout is active in the group. The metadata have its "rollout".
	ReasonActive = "ROLLOUT_ACTIVE"
	// ReasonState: the rollout is not in a state that allows it. The metadata have the "state".
	ReasonState = "ROLLOUT_STATE"
	// ReasonBreached: a gate is breached, as the message says.
	ReasonBreached = "GATE_BREACHED"
)

func notPublished(what string) error {
	return fault.New(fault.FailedPrecondition, "WRONG_STATE", "%s is not published", what).WithCause(store.ErrState)
}

func wrongState(r fleet.Rollout, what string) *fault.Error {
	return fault.New(fault.FailedPrecondition, ReasonState, "the rollout is %s and cannot be %s", words(r.State), what).With("state", string(r.State)).WithCause(store.ErrState)
}

// words are a state for people.
func words(s fleet.RolloutState) string { return strings.ReplaceAll(string(s), "_", " ") }

func active(by fleet.Rollout) *fault.Error {
	return fault.New(fault.FailedPrecondition, ReasonActive, "rollout %s of %s@%d is %s in the group",
		by.ID, by.Definition.ConfigName, by.Definition.Version, words(by.State)).With("rollout", string(by.ID))
}

// sampled is how many agents a refusal names.
const sampled = 10

// stale says how the plan would be otherwise now.
func stale(delta fleet.PlanDelta, digest string) error {
	numbers := []struct {
		name, words string
		n           int
	}{
		{"joined", "joined", delta.Joined},
		{"left", "left", delta.Left},
		{"moved", "would be in another wave", delta.Moved},
		{"reclassed", "would be changed otherwise", delta.Reclassed},
		{"turned", "would be skipped, or not any more", delta.Turned},
	}
	err := fault.New(fault.FailedPrecondition, ReasonStale, "").With("digest", digest).With("of", strconv.Itoa(delta.Of))
	var said []string
	for _, about := range numbers {
		err = err.With(about.name, strconv.Itoa(about.n))
		if about.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", about.n, about.words))
		}
	}
	if len(delta.Definition) > 0 {
		otherwise := strings.Join(delta.Definition, "; ")
		err, said = err.With("definition", otherwise), append([]string{otherwise}, said...)
	}
	for _, change := range delta.Sample[:min(len(delta.Sample), sampled)] {
		err = err.With("agent/"+string(change.Agent), change.Words)
	}
	if len(said) == 0 {
		said = []string{"it is not the plan that was accepted"}
	}
	err.Message = fmt.Sprintf("the plan of %d agents is not what it would be now: %s", delta.Of, strings.Join(said, ", "))
	return err
}

// orActive is err, or the rollout of the group that is in the way.
func (r *Rollouts) orActive(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, err error) error {
	if !errors.Is(err, store.ErrExists) {
		return err
	}
	if in, found := r.activeIn(ctx, tenant, group); found {
		return active(in).WithCause(err)
	}
	return fault.New(fault.FailedPrecondition, ReasonActive, "another rollout is active in the group").WithCause(err)
}
