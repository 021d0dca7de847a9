// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Steer implements store.Rollouts.
func (s *Store) Steer(
	ctx context.Context, by fleet.By, id fleet.RolloutID, action string, decide func(fleet.RolloutSnapshot) (fleet.RolloutStep, error),
) (steered fleet.Rollout, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		was, err := rollout(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		snapshot, err := readSnapshot(ctx, tx, was, by.At)
		if err != nil {
			return err
		}
		step, err := decide(snapshot)
		if err != nil {
			return err
		}
		if steered, err = takeStep(ctx, tx, was, step, by); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.RolloutSteered(action, was, steered))
	})
	if err != nil {
		return fleet.Rollout{}, err
	}
	return steered, nil
}

// AdvanceRollouts implements store.Rollouts. There is one writer: nobody grants or sends while something is closed.
func (s *Store) AdvanceRollouts(ctx context.Context, now time.Time, most int, d store.Deciding) (n int, err error) {
	type dueRollout struct {
		tenant fleet.TenantID
		id     fleet.RolloutID
	}
	var due []dueRollout
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, func(row scanner) (r dueRollout, err error) {
			err = row.Scan(&r.tenant, &r.id)
			return r, err
		}, `SELECT tenant_id, id FROM rollouts WHERE wake_at <= ?1 ORDER BY wake_at LIMIT ?2`, moment(now), most)
		return fail("find due rollouts", err)
	})
	if err != nil {
		return 0, err
	}
	var failures []error
	for _, r := range due {
		advanced, err := s.advanceRollout(ctx, r.tenant, r.id, now, d)
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("rollout %s: %w", r.id, err), s.putOff(ctx, r.tenant, r.id, now, err))
		case advanced:
			n++
		}
	}
	return n, errors.Join(failures...)
}

// putOff lets a rollout be looked at again after a while whose step failed, if it would fail again at once.
func (s *Store) putOff(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, now time.Time, failure error) error {
	if !verdict.FailsAgain(failure) {
		return nil
	}
	return s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE rollouts SET wake_at = ?3 WHERE tenant_id = ?1 AND id = ?2 AND wake_at <= ?4`,
			tenant, id, moment(now.Add(store.RolloutPause)), moment(now))
		return fail("put a rollout off", err)
	})
}

// advanceRollout decides for a rollout that is still due and does it.
func (s *Store) advanceRollout(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, now time.Time, d store.Deciding) (advanced bool, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, scanRollout, "SELECT "+rolloutColumns+" FROM rollouts WHERE tenant_id = ?1 AND id = ?2 AND wake_at <= ?3", tenant, id, moment(now))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fail("find a rollout", err)
		}
		if err := elapse(ctx, tx, r, now, d); err != nil {
			return err
		}
		snapshot, err := readSnapshot(ctx, tx, r, now)
		if err != nil {
			return err
		}
		advanced = true
		_, err = takeStep(ctx, tx, r, d.Decide(snapshot, now), fleet.System(tenant, now))
		return err
	})
	return advanced, err
}

// elapse writes what time alone has made of members.
func elapse(ctx context.Context, tx *sql.Tx, r fleet.Rollout, now time.Time, d store.Deciding) error {
	due, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = ?1 AND m.rollout_id = ?2 AND m.look_at <= ?3
		ORDER BY m.look_at LIMIT ?4`, r.Tenant, r.ID, moment(now), fleet.CandidateLimit)
	if err != nil {
		return fail("find members that time changes", err)
	}
	changes := make([]verdict.MemberChange, len(due))
	for i, m := range due {
		changes[i] = verdict.Changed(m, d.Elapse(m, r.Definition, now))
	}
	return changeMembers(ctx, tx, r.Tenant, changes, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State})
}

// readSnapshot reads what is known of a rollout when something is decided for it.
func readSnapshot(ctx context.Context, tx *sql.Tx, r fleet.Rollout, now time.Time) (fleet.RolloutSnapshot, error) {
	waves, err := readWaves(ctx, tx, r.Tenant, r.ID)
	if err != nil {
		return fleet.RolloutSnapshot{}, err
	}
	s := verdict.Counted(r, waves)
	next, err := list(ctx, tx, scanAgentID, `
		SELECT agent_id FROM rollout_members WHERE tenant_id = ?1 AND rollout_id = ?2 AND state = 'pending' AND wave BETWEEN 1 AND ?3
		ORDER BY wave, position LIMIT ?4`, r.Tenant, r.ID, r.Wave, fleet.CandidateLimit)
	if err != nil {
		return s, fail("read who is next", err)
	}
	for _, agent := range next {
		s.Next = append(s.Next, fleet.NextCandidate{Agent: agent})
	}
	err = tx.QueryRowContext(ctx, `
		SELECT min(look_at) FROM rollout_members WHERE tenant_id = ?1 AND rollout_id = ?2 AND look_at IS NOT NULL`, r.Tenant, r.ID).Scan((*instant)(&s.LookAt))
	if err != nil {
		return s, fail("read when time changes members", err)
	}
	if s.Undoing, err = undoing(ctx, tx, r.Tenant, r.ID); err != nil {
		return s, err
	}
	if s.Schedules, err = readSchedules(ctx, tx, r.Tenant, r.Definition.Group); err != nil {
		return s, err
	}
	s.Budgets, err = readBudgets(ctx, tx, r.Tenant, now, s.Next)
	return s, err
}

// takeStep does what was decided for a rollout.
func takeStep(ctx context.Context, tx *sql.Tx, was fleet.Rollout, step fleet.RolloutStep, by fleet.By) (fleet.Rollout, error) {
	is, err := verdict.OfRolloutStep(was, step)
	if err != nil {
		return was, err
	}
	if err := letIn(ctx, tx, is, step, by); err != nil {
		return was, err
	}
	if is, err = settleRollout(ctx, tx, was, is, step.Close, by); err != nil {
		return was, err
	}
	for _, e := range step.Events {
		if err := appendEvent(ctx, tx, trail.OfRollout(is, e)); err != nil {
			return was, err
		}
	}
	return is, nil
}

// letIn lets pending members in and wakes the engine for them.
func letIn(ctx context.Context, tx *sql.Tx, r fleet.Rollout, step fleet.RolloutStep, by fleet.By) error {
	if len(step.Admit) == 0 {
		return nil
	}
	in, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m
		WHERE m.tenant_id = ?1 AND m.rollout_id = ?3 AND m.agent_id `+among+` AND m.state = 'pending'`, r.Tenant, asJSON(step.Admit), r.ID)
	if err != nil {
		return fail("find who is let in", err)
	}
	changes, agents := make([]verdict.MemberChange, len(in)), make([]fleet.AgentID, len(in))
	for i, m := range in {
		changes[i], agents[i] = verdict.LetIn(m, by.At, step.DeadlineAt), m.Agent
	}
	if err := changeMembers(ctx, tx, r.Tenant, changes, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State}); err != nil {
		return err
	}
	return wakeBy(ctx, tx, by, agents...)
}

// settleRollout writes what a rollout has become, and what goes with that: the grants that it closes, its waves, and the
// agents that it leaves behind at its end.
func settleRollout(ctx context.Context, tx *sql.Tx, was, is fleet.Rollout, closes bool, by fleet.By) (fleet.Rollout, error) {
	if closes {
		back, inFlight, err := closeGrants(ctx, tx, is, by)
		if err != nil {
			return was, err
		}
		is.Reason = verdict.WithInFlight(is.Reason, inFlight)
		if back > 0 {
			is.FilledAt = time.Time{}
		}
	}
	if err := putRollout(ctx, tx, is); err != nil {
		return was, err
	}
	if is.Wave != was.Wave {
		if err := openWave(ctx, tx, is); err != nil {
			return was, err
		}
	}
	if is.State == was.State {
		return is, nil
	}
	var err error
	switch {
	case is.State == fleet.RolloutInProgress:
		err = resumeSending(ctx, tx, is, by.At)
	case is.State.Over():
		err = letGo(ctx, tx, is, by.At)
	}
	if err == nil && is.State == fleet.RolloutCompleted {
		err = leaveBehind(ctx, tx, is, by)
	}
	return is, err
}

// openWave notes that a wave was opened, and that those before it have ended.
func openWave(ctx context.Context, tx *sql.Tx, r fleet.Rollout) error {
	for _, note := range []string{
		"UPDATE rollout_waves SET ended_at = ?4 WHERE tenant_id = ?1 AND rollout_id = ?2 AND wave BETWEEN 1 AND ?3 - 1 AND ended_at IS NULL",
		"UPDATE rollout_waves SET opened_at = ?4 WHERE tenant_id = ?1 AND rollout_id = ?2 AND wave = ?3",
	} {
		if _, err := tx.ExecContext(ctx, note, r.Tenant, r.ID, r.Wave, moment(r.WaveOpenedAt)); err != nil {
			return fail("open a wave", err)
		}
	}
	return nil
}

// resumeSending lets fall due what was put off while the rollout stood still.
func resumeSending(ctx context.Context, tx *sql.Tx, r fleet.Rollout, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = min(due_at, ?3) WHERE tenant_id = ?1 AND kind = 'config' AND agent_id IN (
			SELECT agent_id FROM grants WHERE tenant_id = ?1 AND rollout_id = ?2 AND state = 'open')`, r.Tenant, r.ID, moment(at))
	return fail("let dispatches fall due", err)
}

// letGo lets the agents of a rollout that is over go, and the rollout be looked at that it undid. Budgets count those that
// may be in the middle of it, until their deadline.
func letGo(ctx context.Context, tx *sql.Tx, r fleet.Rollout, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE rollout_members SET watched = false, disturbed = disturbed AND state IN ('admitted', 'pushed', 'applying'), look_at = NULL
		WHERE tenant_id = ?1 AND rollout_id = ?2 AND (watched OR disturbed OR look_at IS NOT NULL)`, r.Tenant, r.ID)
	if err != nil {
		return fail("let members go", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE rollout_waves SET ended_at = ?4 WHERE tenant_id = ?1 AND rollout_id = ?2 AND wave = ?3 AND ended_at IS NULL`,
		r.Tenant, r.ID, r.Wave, moment(at))
	if err != nil {
		return fail("end a wave", err)
	}
	if r.Kind != fleet.RolloutRollback {
		return nil
	}
	return letDue(ctx, tx, r.Tenant, []fleet.RolloutID{r.Of}, at)
}

// leaveBehind lets members of a completed rollout wait for a catch-up that it did not reach: those that are away and have
// not answered, whose grants are closed if nothing was sent, and of a forward one those that it left out.
func leaveBehind(ctx context.Context, tx *sql.Tx, r fleet.Rollout, by fleet.By) error {
	left, err := list(ctx, tx, scanAgentID, `
		INSERT INTO agents_waiting (tenant_id, agent_id, group_id, since)
		SELECT m.tenant_id, m.agent_id, a.group_id, ?4
		FROM rollout_members m JOIN agents a ON a.tenant_id = m.tenant_id AND a.id = m.agent_id
		LEFT JOIN assignments o ON o.tenant_id = ?1 AND o.target = 'agent' AND o.target_id = m.agent_id
		WHERE m.tenant_id = ?1 AND m.rollout_id = ?2 AND a.group_id = ?3 AND o.target_id IS NULL
			AND (m.state IN ('admitted', 'pushed', 'applying', 'disconnected') AND NOT (a.epoch > 0 AND a.ended_at IS NULL) OR m.state = 'skipped' AND ?5)`+
		onWaiting+` RETURNING agent_id`,
		r.Tenant, r.ID, r.Definition.Group, moment(by.At), r.Kind == fleet.RolloutForward)
	if err != nil {
		return fail("let agents wait that were not reached", err)
	}
	_, err = closeUnsent(ctx, tx, r, left, by)
	return err
}

// closeGrants closes what was granted under a rollout and neither sent nor taken up to be sent, and lets those members be
// pending again that were let in and have nothing. It says how many these were, and who has been sent something.
func closeGrants(ctx context.Context, tx *sql.Tx, r fleet.Rollout, by fleet.By) (back int, inFlight []fleet.AgentID, err error) {
	granted, err := list(ctx, tx, scanAgentID, `
		SELECT agent_id FROM grants WHERE tenant_id = ?1 AND rollout_id = ?2 AND state = 'open' ORDER BY agent_id`, r.Tenant, r.ID)
	if err != nil {
		return 0, nil, fail("find what was granted", err)
	}
	if inFlight, err = closeUnsent(ctx, tx, r, granted, by); err != nil {
		return 0, nil, err
	}
	admitted, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m
		WHERE m.tenant_id = ?1 AND m.rollout_id = ?3 AND m.state = 'admitted' AND m.agent_id NOT `+among+` ORDER BY m.agent_id`,
		r.Tenant, asJSON(append([]fleet.AgentID{}, inFlight...)), r.ID)
	if err != nil {
		return 0, nil, fail("find who was let in", err)
	}
	changes := make([]verdict.MemberChange, len(admitted))
	for i, m := range admitted {
		changes[i] = verdict.PutBack(m)
	}
	return len(changes), inFlight, changeMembers(ctx, tx, r.Tenant, changes, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State})
}

// closeUnsent closes those grants of agents under a rollout that were neither sent nor taken up to be sent, and returns the
// others. The engine is woken: it says what becomes of these agents.
func closeUnsent(ctx context.Context, tx *sql.Tx, r fleet.Rollout, agents []fleet.AgentID, by fleet.By) (others []fleet.AgentID, err error) {
	if len(agents) == 0 {
		return nil, nil
	}
	if err := wakeBy(ctx, tx, by, agents...); err != nil {
		return nil, err
	}
	var unsent []fleet.AgentID
	_, err = list(ctx, tx, func(row scanner) (id fleet.AgentID, err error) {
		var taken bool
		if err = row.Scan(&id, &taken); taken {
			others = append(others, id)
		} else {
			unsent = append(unsent, id)
		}
		return id, err
	}, `
		SELECT g.agent_id, g.sent_at IS NOT NULL OR coalesce(o.tries, 0) > 0
		FROM grants g LEFT JOIN outbox o ON o.tenant_id = g.tenant_id AND o.agent_id = g.agent_id AND o.kind = 'config'
		WHERE g.tenant_id = ?1 AND g.agent_id `+among+` AND g.rollout_id = ?3 AND g.state = 'open' ORDER BY g.agent_id`, r.Tenant, asJSON(agents), r.ID)
	if err != nil {
		return nil, fail("find what was sent", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE grants SET state = 'closed', generation = generation + 1, settled_at = ?3, message = ?4 WHERE tenant_id = ?1 AND agent_id `+among,
		r.Tenant, asJSON(unsent), moment(by.At), fmt.Sprintf("its rollout is %s: %s", r.State, r.Reason))
	if err != nil {
		return nil, fail("close what was granted", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id `+among+` AND kind = 'config'`, r.Tenant, asJSON(unsent))
	return others, fail("withdraw what was granted", err)
}
