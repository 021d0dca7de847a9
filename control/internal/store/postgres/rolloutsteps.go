// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Steer implements store.Rollouts.
func (s *Store) Steer(
	ctx context.Context, by fleet.By, id fleet.RolloutID, action string, decide func(fleet.RolloutSnapshot) (fleet.RolloutStep, error),
) (steered fleet.Rollout, err error) {
	err = s.bulkInTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockAdvisory(ctx, tx, lockAlone, id); err != nil {
			return err
		}
		was, err := lockRollout(ctx, tx, by.Tenant, id)
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

// AdvanceRollouts implements store.Rollouts.
func (s *Store) AdvanceRollouts(ctx context.Context, now time.Time, most int, d store.Deciding) (n int, err error) {
	type dueRollout struct {
		tenant fleet.TenantID
		id     fleet.RolloutID
	}
	var due []dueRollout
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		due, err = list(ctx, tx, func(row pgx.Row) (r dueRollout, err error) {
			err = row.Scan(&r.tenant, &r.id)
			return r, err
		}, `SELECT tenant_id, id FROM rollouts WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2`, moment(now), most)
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
	return s.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE rollouts SET wake_at = $3 WHERE tenant_id = $1 AND id = $2 AND wake_at <= $4`,
			tenant, id, moment(now.Add(store.RolloutPause)), moment(now))
		return fail("put a rollout off", err)
	})
}

// errAlone says that a step is to be decided and done by somebody who has the rollout alone.
var errAlone = errors.New("the rollout must be locked against whoever grants")

// advanceRollout decides for a rollout and does it. What closes something is done by a second transaction, which locks
// whoever grants or sends out before it locks a row.
func (s *Store) advanceRollout(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, now time.Time, d store.Deciding) (advanced bool, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) (err error) {
		advanced, err = advanceLocked(ctx, tx, tenant, id, now, d, "FOR NO KEY UPDATE SKIP LOCKED")
		return err
	})
	if errors.Is(err, errAlone) {
		err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) (err error) {
			if err = lockAdvisory(ctx, tx, lockAlone, id); err == nil {
				advanced, err = advanceLocked(ctx, tx, tenant, id, now, d, "FOR NO KEY UPDATE")
			}
			return err
		})
	}
	return advanced, err
}

// advanceLocked decides for a rollout that is due, under a lock that is named; one that is passed over is not advanced.
func advanceLocked(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.RolloutID, now time.Time, d store.Deciding, lock string) (bool, error) {
	r, err := one(ctx, tx, scanRollout, "SELECT "+rolloutColumns+" FROM rollouts WHERE tenant_id = $1 AND id = $2 AND wake_at <= $3 "+lock, tenant, id, moment(now))
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fail("lock a rollout", err)
	}
	if err := elapse(ctx, tx, r, now, d); err != nil {
		return false, err
	}
	snapshot, err := readSnapshot(ctx, tx, r, now)
	if err != nil {
		return false, err
	}
	step := d.Decide(snapshot, now)
	ends := step.Rollout != nil && step.Rollout.State.Over()
	if alone := lock == "FOR NO KEY UPDATE"; !alone && (step.Close || ends) {
		return false, errAlone
	}
	_, err = takeStep(ctx, tx, r, step, fleet.System(tenant, now))
	return err == nil, err
}

// elapse writes what time alone has made of members. Who is being decided for at this moment is left for later.
func elapse(ctx context.Context, tx pgx.Tx, r fleet.Rollout, now time.Time, d store.Deciding) error {
	due, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = $1 AND m.rollout_id = $2 AND m.look_at <= $3
		ORDER BY m.look_at LIMIT $4 FOR UPDATE SKIP LOCKED`, r.Tenant, r.ID, moment(now), fleet.CandidateLimit)
	if err != nil || len(due) == 0 {
		return fail("find members that time changes", err)
	}
	changes := array(due, func(m fleet.Member) verdict.MemberChange { return verdict.Changed(m, d.Elapse(m, r.Definition, now)) })
	var batch pgx.Batch
	queueMembersOf(&batch, r.Tenant, r.ID, array(changes, func(c verdict.MemberChange) fleet.Member { return c.Is }), r.State)
	queueCounts(&batch, r.Tenant, verdict.Deltas(changes))
	return fail("write what time makes of members", tx.SendBatch(ctx, &batch).Close())
}

// readSnapshot reads what is known of a rollout when something is decided for it.
func readSnapshot(ctx context.Context, tx pgx.Tx, r fleet.Rollout, now time.Time) (fleet.RolloutSnapshot, error) {
	waves, err := readWaves(ctx, tx, r.Tenant, r.ID)
	if err != nil {
		return fleet.RolloutSnapshot{}, err
	}
	s := verdict.Counted(r, waves)
	var next fleet.AgentID
	var look time.Time
	err = pipelined(ctx, tx, "read what is next", func(q *pipeline) {
		q.ask(func() error {
			s.Next = append(s.Next, fleet.NextCandidate{Agent: next})
			return nil
		}, []any{&next}, `
			SELECT agent_id FROM rollout_members WHERE tenant_id = $1 AND rollout_id = $2 AND state = 'pending' AND wave BETWEEN 1 AND $3
			ORDER BY wave, position LIMIT $4`, r.Tenant, r.ID, r.Wave, fleet.CandidateLimit)
		q.ask(func() error {
			s.LookAt = look
			return nil
		}, []any{(*instant)(&look)}, `
			SELECT look_at FROM rollout_members WHERE tenant_id = $1 AND rollout_id = $2 AND look_at IS NOT NULL ORDER BY look_at LIMIT 1`,
			r.Tenant, r.ID)
	})
	if err != nil {
		return s, err
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

// takeStep does what was decided for a rollout whose row is locked, if it closes or ends something against whoever grants.
func takeStep(ctx context.Context, tx pgx.Tx, was fleet.Rollout, step fleet.RolloutStep, by fleet.By) (fleet.Rollout, error) {
	is, err := verdict.OfRolloutStep(was, step)
	if err != nil {
		return was, err
	}
	all, err := letIn(ctx, tx, is, step, by)
	if err != nil {
		return was, err
	}
	if !all {
		is.WakeAt = by.At // the others are being decided for at this moment
	}
	if is, err = settleRollout(ctx, tx, was, is, step.Close, by); err != nil {
		return was, err
	}
	events := array(step.Events, func(e fleet.Event) fleet.Event { return trail.OfRollout(is, e) })
	return is, appendEvents(ctx, tx, events)
}

// letIn lets pending members in and wakes the engine for them. It passes over who is being decided for at this moment,
// and says whether there was none.
func letIn(ctx context.Context, tx pgx.Tx, r fleet.Rollout, step fleet.RolloutStep, by fleet.By) (all bool, err error) {
	if len(step.Admit) == 0 {
		return true, nil
	}
	var changes []verdict.MemberChange
	var m fleet.Member
	var id fleet.AgentID
	var mine bool
	item := map[fleet.AgentID]bool{} // whether it could be locked
	agents := ids(step.Admit, itself)
	err = pipelined(ctx, tx, "lock who is let in", func(q *pipeline) {
		q.ask(func() error {
			if m.State == fleet.MemberPending {
				changes = append(changes, verdict.LetIn(m, by.At, step.DeadlineAt))
			}
			return nil
		}, memberInto(&m), `
			SELECT `+memberColumns+` FROM rollout_members m
			WHERE m.tenant_id = $1 AND m.rollout_id = $3 AND m.agent_id `+among+` FOR UPDATE SKIP LOCKED`, r.Tenant, agents, r.ID)
		q.ask(func() error {
			item[id] = item[id] || mine
			return nil
		}, []any{&id, &mine}, `
			SELECT agent_id, false FROM work WHERE tenant_id = $1 AND agent_id `+among, r.Tenant, agents)
		q.ask(func() error {
			item[id] = item[id] || mine
			return nil
		}, []any{&id, &mine}, `
			SELECT agent_id, true FROM work WHERE tenant_id = $1 AND agent_id `+among+` FOR UPDATE SKIP LOCKED`, r.Tenant, agents)
	})
	if err != nil {
		return false, err
	}
	woken := make(map[fleet.AgentID]fleet.Traceparent, len(changes))
	var in []verdict.MemberChange
	for _, c := range changes {
		if mine, exists := item[c.Is.Agent]; mine || !exists {
			woken[c.Is.Agent], in = by.Trace, append(in, c)
		}
	}
	if len(in) == 0 {
		return false, nil
	}
	var batch pgx.Batch
	queueMembersOf(&batch, r.Tenant, r.ID, array(in, func(c verdict.MemberChange) fleet.Member { return c.Is }), r.State)
	queueWake(&batch, r.Tenant, by.At, woken)
	queueCounts(&batch, r.Tenant, verdict.Deltas(in))
	return len(in) == len(step.Admit), fail("let agents in", tx.SendBatch(ctx, &batch).Close())
}

// settleRollout writes what a rollout has become, and what goes with that: the grants that it closes, its waves, and the
// agents that it leaves behind at its end.
func settleRollout(ctx context.Context, tx pgx.Tx, was, is fleet.Rollout, closes bool, by fleet.By) (fleet.Rollout, error) {
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
	var batch pgx.Batch
	if is.Wave != was.Wave {
		queueWave(&batch, is)
	}
	switch {
	case is.State == was.State:
	case is.State == fleet.RolloutInProgress:
		queueResumed(&batch, is, by.At)
	case is.State.Over():
		queueEnded(&batch, is, by.At)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return was, fail("settle a rollout", err)
	}
	if is.State == fleet.RolloutCompleted && was.State != fleet.RolloutCompleted {
		return is, leaveBehind(ctx, tx, is, by)
	}
	return is, nil
}

// queueWave notes that a wave was opened, and that those before it have ended.
func queueWave(batch *pgx.Batch, r fleet.Rollout) {
	batch.Queue(`UPDATE rollout_waves SET ended_at = $4 WHERE tenant_id = $1 AND rollout_id = $2 AND wave BETWEEN 1 AND $3 - 1 AND ended_at IS NULL`,
		r.Tenant, r.ID, r.Wave, moment(r.WaveOpenedAt))
	batch.Queue(`UPDATE rollout_waves SET opened_at = $4 WHERE tenant_id = $1 AND rollout_id = $2 AND wave = $3`, r.Tenant, r.ID, r.Wave, moment(r.WaveOpenedAt))
}

// queueResumed lets fall due what was put off while the rollout stood still.
func queueResumed(batch *pgx.Batch, r fleet.Rollout, at time.Time) {
	batch.Queue(`
		WITH put_off AS (
			SELECT o.agent_id FROM outbox o JOIN grants g ON g.tenant_id = o.tenant_id AND g.agent_id = o.agent_id
			WHERE o.tenant_id = $1 AND o.kind = 'config' AND g.tenant_id = $1 AND g.rollout_id = $2 AND g.state = 'open'
			ORDER BY o.agent_id FOR UPDATE OF o
		)
		UPDATE outbox o SET due_at = least(o.due_at, $3) FROM put_off p WHERE o.tenant_id = $1 AND o.agent_id = p.agent_id AND o.kind = 'config'`,
		r.Tenant, r.ID, moment(at))
}

// queueEnded lets the agents of a rollout that is over go, and the rollout be looked at that it undid. Budgets count those
// that may be in the middle of it, until their deadline.
func queueEnded(batch *pgx.Batch, r fleet.Rollout, at time.Time) {
	batch.Queue(`
		UPDATE rollout_members SET watched = false, disturbed = disturbed AND state IN ('admitted', 'pushed', 'applying'), look_at = NULL
		WHERE tenant_id = $1 AND rollout_id = $2 AND (watched OR disturbed OR look_at IS NOT NULL)`, r.Tenant, r.ID)
	batch.Queue(`UPDATE rollout_waves SET ended_at = $4 WHERE tenant_id = $1 AND rollout_id = $2 AND wave = $3 AND ended_at IS NULL`,
		r.Tenant, r.ID, r.Wave, moment(at))
	if r.Kind == fleet.RolloutRollback {
		queueDue(batch, r.Tenant, []fleet.RolloutID{r.Of}, moment(at))
	}
}

// leaveBehind lets members of a completed rollout wait for a catch-up that it did not reach: those that are away and have
// not answered, whose grants are closed if nothing was sent, and of a forward one those that it left out.
func leaveBehind(ctx context.Context, tx pgx.Tx, r fleet.Rollout, by fleet.By) error {
	left, err := list(ctx, tx, scanAgentID, `
		INSERT INTO agents_waiting (tenant_id, agent_id, group_id, since)
		SELECT m.tenant_id, m.agent_id, a.group_id, $4
		FROM rollout_members m JOIN agents a ON a.tenant_id = m.tenant_id AND a.id = m.agent_id
		LEFT JOIN assignments o ON o.tenant_id = $1 AND o.target = 'agent' AND o.target_id = m.agent_id
		WHERE m.tenant_id = $1 AND m.rollout_id = $2 AND a.group_id = $3 AND o.target_id IS NULL
			AND (m.state IN ('admitted', 'pushed', 'applying', 'disconnected') AND NOT (a.epoch > 0 AND a.ended_at IS NULL) OR m.state = 'skipped' AND $5)
		ORDER BY m.agent_id`+onWaiting+` RETURNING agent_id`,
		r.Tenant, r.ID, r.Definition.Group, moment(by.At), r.Kind == fleet.RolloutForward)
	if err != nil || len(left) == 0 {
		return fail("let agents wait that were not reached", err)
	}
	_, err = closeUnsent(ctx, tx, r, left, by)
	return err
}

// closeGrants closes what was granted under a rollout and neither sent nor taken up to be sent, and lets those members be
// pending again that were let in and have nothing. It says how many these were, and who has been sent something. The
// rollout is locked against whoever grants.
func closeGrants(ctx context.Context, tx pgx.Tx, r fleet.Rollout, by fleet.By) (back int, inFlight []fleet.AgentID, err error) {
	granted, err := list(ctx, tx, scanAgentID, `
		SELECT agent_id FROM grants WHERE tenant_id = $1 AND rollout_id = $2 AND state = 'open' ORDER BY agent_id`, r.Tenant, r.ID)
	if err != nil {
		return 0, nil, fail("find what was granted", err)
	}
	if inFlight, err = closeUnsent(ctx, tx, r, granted, by); err != nil {
		return 0, nil, err
	}
	admitted, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m
		WHERE m.tenant_id = $1 AND m.rollout_id = $2 AND m.state = 'admitted' ORDER BY m.agent_id FOR UPDATE`, r.Tenant, r.ID)
	if err != nil {
		return 0, nil, fail("lock who was let in", err)
	}
	sent := make(map[fleet.AgentID]bool, len(inFlight))
	for _, agent := range inFlight {
		sent[agent] = true
	}
	var changes []verdict.MemberChange
	for _, m := range admitted {
		if !sent[m.Agent] {
			changes = append(changes, verdict.PutBack(m))
		}
	}
	var batch pgx.Batch
	queueMembers(&batch, r.Tenant, changes, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State})
	queueCounts(&batch, r.Tenant, verdict.Deltas(changes))
	return len(changes), inFlight, fail("put members back", tx.SendBatch(ctx, &batch).Close())
}

// closeUnsent closes those grants of agents under a rollout that were neither sent nor taken up to be sent, and returns the
// others. The engine, which says what becomes of these agents, is woken first: items are locked before grants.
func closeUnsent(ctx context.Context, tx pgx.Tx, r fleet.Rollout, agents []fleet.AgentID, by fleet.By) (others []fleet.AgentID, err error) {
	if len(agents) == 0 {
		return nil, nil
	}
	if err := wakeBy(ctx, tx, by, agents...); err != nil {
		return nil, err
	}
	of := ids(agents, itself)
	var id fleet.AgentID
	var sent bool
	var open []fleet.AgentID
	taken := map[fleet.AgentID]bool{}
	err = pipelined(ctx, tx, "lock what was granted", func(q *pipeline) {
		q.ask(func() error {
			open = append(open, id)
			taken[id] = taken[id] || sent
			return nil
		}, []any{&id, &sent}, `
			SELECT agent_id, sent_at IS NOT NULL FROM grants
			WHERE tenant_id = $1 AND agent_id `+among+` AND rollout_id = $3 AND state = 'open' ORDER BY agent_id FOR NO KEY UPDATE`, r.Tenant, of, r.ID)
		q.ask(func() error {
			taken[id] = taken[id] || sent
			return nil
		}, []any{&id, &sent}, `
			SELECT agent_id, tries > 0 FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind = 'config' ORDER BY agent_id FOR UPDATE`, r.Tenant, of)
	})
	if err != nil {
		return nil, err
	}
	var unsent []fleet.AgentID
	for _, agent := range open {
		if taken[agent] {
			others = append(others, agent)
		} else {
			unsent = append(unsent, agent)
		}
	}
	var batch pgx.Batch
	queueClosed(&batch, r, unsent, by.At)
	return others, fail("close what was granted", tx.SendBatch(ctx, &batch).Close())
}

func queueClosed(batch *pgx.Batch, r fleet.Rollout, unsent []fleet.AgentID, at time.Time) {
	if len(unsent) == 0 {
		return
	}
	agents := ids(unsent, itself)
	batch.Queue(`
		UPDATE grants SET state = 'closed', generation = generation + 1, settled_at = $4, message = $5
		WHERE tenant_id = $1 AND agent_id `+among+` AND rollout_id = $3 AND state = 'open'`,
		r.Tenant, agents, r.ID, moment(at), fmt.Sprintf("its rollout is %s: %s", r.State, r.Reason))
	batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind = 'config'`, r.Tenant, agents)
}
