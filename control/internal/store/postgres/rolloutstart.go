// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// StartRollout implements store.Rollouts. What it closes is locked first, as by Steer; then the group, as by everything
// that changes its members or its assignment.
func (s *Store) StartRollout(ctx context.Context, by fleet.By, start store.RolloutStart) (started fleet.Rollout, err error) {
	err = s.bulkInTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		seen, err := rollout(ctx, tx, by.Tenant, start.Rollout, "")
		if err != nil {
			return err
		}
		closing, err := closedByStart(ctx, tx, seen, start.Supersede)
		if err != nil {
			return err
		}
		if err := lockAdvisory(ctx, tx, lockAlone, closing...); err != nil {
			return err
		}
		g, err := livingGroup(ctx, tx, by.Tenant, seen.Definition.Group, lockGroup)
		if err != nil {
			return err
		}
		r, err := lockStartable(ctx, tx, by, start)
		if err != nil {
			return err
		}
		if err := makeWay(ctx, tx, by, r, closing); err != nil {
			return err
		}
		if start.Plan != nil {
			if err := planAnew(ctx, tx, by.Tenant, &r, start); err != nil {
				return err
			}
		}
		started, err = begin(ctx, tx, by, r, g)
		return err
	})
	if err != nil {
		return fleet.Rollout{}, err
	}
	return started, nil
}

// closedByStart are the rollouts that are closed when this one starts: the one that it undoes, and the active one of its
// group if it may take its place.
func closedByStart(ctx context.Context, tx pgx.Tx, r fleet.Rollout, supersede bool) (closing []fleet.RolloutID, err error) {
	if r.Kind == fleet.RolloutRollback {
		closing = append(closing, r.Of)
	}
	active, err := activeIn(ctx, tx, r.Tenant, r.Definition.Group)
	if supersede && active != "" && active != r.Of {
		closing = append(closing, active)
	}
	return closing, err
}

// activeIn is the active rollout of a group; empty if there is none.
func activeIn(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, group fleet.GroupID) (active fleet.RolloutID, err error) {
	found, err := list(ctx, tx, scanRolloutID, `
		SELECT id FROM rollouts WHERE tenant_id = $1 AND group_id = $2 AND state IN ('in_progress', 'paused')`, tenant, group)
	if len(found) > 0 {
		active = found[0]
	}
	return active, fail("find the active rollout", err)
}

func scanRolloutID(row pgx.Row) (id fleet.RolloutID, err error) {
	err = row.Scan(&id)
	return id, err
}

// lockStartable locks a rollout that is about to start, and keeps its version published.
func lockStartable(ctx context.Context, tx pgx.Tx, by fleet.By, start store.RolloutStart) (fleet.Rollout, error) {
	r, err := lockRollout(ctx, tx, by.Tenant, start.Rollout)
	if err == nil {
		err = verdict.Startable(r, start)
	}
	if err != nil {
		return r, err
	}
	_, err = lockPublished(ctx, tx, by.Tenant, r.Definition.Config, r.Definition.Version)
	return r, err
}

// makeWay closes what a rollout undoes or takes the place of. These are locked; if another one has become active since, all
// is done anew.
func makeWay(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Rollout, closing []fleet.RolloutID) error {
	for _, id := range closing {
		was, err := lockRollout(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		if id != r.Of && was.State.Over() { // since it was found
			continue
		}
		is, err := verdict.MakesWay(was, r, by.At)
		if err != nil {
			return err
		}
		if is, err = settleRollout(ctx, tx, was, is, true, by); err != nil {
			return err
		}
		if is.State == fleet.RolloutAborted {
			if err := tellSuperseded(ctx, tx, by, is); err != nil {
				return err
			}
		}
	}
	return noneActive(ctx, tx, by.Tenant, r.Definition.Group)
}

// noneActive refuses what must not happen to a group while a rollout is active in it.
func noneActive(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, group fleet.GroupID) error {
	active, err := activeIn(ctx, tx, tenant, group)
	if err == nil && active != "" {
		err = fmt.Errorf("rollout %s is active in the group: %w", active, store.ErrExists)
	}
	return err
}

func tellSuperseded(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Rollout) error {
	entry, event := trail.RolloutSuperseded(by, r)
	if err := appendAudit(ctx, tx, by, entry); err != nil {
		return err
	}
	return appendEvent(ctx, tx, event)
}

// planAnew puts another plan in the place of the one that was made before.
func planAnew(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, r *fleet.Rollout, start store.RolloutStart) error {
	r.Plan = *start.Plan
	var batch pgx.Batch
	batch.Queue("DELETE FROM rollout_members WHERE tenant_id = $1 AND rollout_id = $2", tenant, r.ID)
	batch.Queue(`
		UPDATE rollout_waves SET agents = 0, skipped = 0, pending = 0 WHERE tenant_id = $1 AND rollout_id = $2`, tenant, r.ID)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fail("forget a plan", err)
	}
	return putMembers(ctx, tx, tenant, r.ID, start.Members)
}

// begin makes what is rolled out the assignment of the group, whose row is locked, and lets those wait that the plan does
// not know.
func begin(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Rollout, g fleet.Group) (fleet.Rollout, error) {
	r, err := assignUnder(ctx, tx, by, r)
	if err != nil {
		return r, err
	}
	r.State, r.Version, r.StartedBy, r.StartedAt, r.WakeAt = fleet.RolloutInProgress, r.Version+1, by.Principal.Name, by.At, by.At
	if err := putRollout(ctx, tx, r); err != nil {
		return r, err
	}
	var batch pgx.Batch
	batch.Queue(`
		DELETE FROM agents_waiting w USING rollout_members m
		WHERE w.tenant_id = $1 AND w.group_id = $2 AND m.tenant_id = $1 AND m.rollout_id = $3 AND m.agent_id = w.agent_id`, by.Tenant, g.ID, r.ID)
	batch.Queue(`
		INSERT INTO agents_waiting (tenant_id, agent_id, group_id, since)
		SELECT a.tenant_id, a.id, a.group_id, $4 FROM agents a
		LEFT JOIN rollout_members m ON m.tenant_id = $1 AND m.rollout_id = $3 AND m.agent_id = a.id
		LEFT JOIN assignments o ON o.tenant_id = $1 AND o.target = 'agent' AND o.target_id = a.id
		WHERE a.tenant_id = $1 AND a.group_id = $2 AND m.agent_id IS NULL AND o.target_id IS NULL ORDER BY a.id`+onWaiting,
		by.Tenant, g.ID, r.ID, moment(by.At))
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return r, fail("let agents wait", err)
	}
	if err := leaveOutStrays(ctx, tx, by, r); err != nil {
		return r, err
	}
	entry, event := trail.RolloutStarted(by, r)
	if err := appendAudit(ctx, tx, by, entry); err != nil {
		return r, err
	}
	return r, appendEvent(ctx, tx, event)
}

// leaveOutStrays leaves out who was planned, and has an assignment of its own by now or has left the group.
func leaveOutStrays(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Rollout) error {
	own := false
	var stray fleet.Member
	var changes []verdict.MemberChange
	err := pipelined(ctx, tx, "find members that have left", func(q *pipeline) {
		q.ask(func() error {
			why := verdict.LeftGroup
			if own {
				why = verdict.HasOwn
			}
			changes = append(changes, verdict.LeftOut(stray, why, by.At))
			return nil
		}, append(memberInto(&stray), &own), `
			SELECT `+memberColumns+`, o.target_id IS NOT NULL
			FROM rollout_members m JOIN agents a ON a.tenant_id = m.tenant_id AND a.id = m.agent_id
			LEFT JOIN assignments o ON o.tenant_id = $1 AND o.target = 'agent' AND o.target_id = m.agent_id
			WHERE m.tenant_id = $1 AND m.rollout_id = $2 AND m.state = 'pending' AND (a.group_id IS DISTINCT FROM $3 OR o.target_id IS NOT NULL)
			ORDER BY m.agent_id FOR UPDATE OF m`, by.Tenant, r.ID, r.Definition.Group)
	})
	if err != nil || len(changes) == 0 {
		return err
	}
	return writeMembers(ctx, tx, by.Tenant, changes, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State}, by.At)
}

// assignUnder makes the assignment of the rollout's group its own. A rollback gives the group what it was assigned before
// the rollout that it undoes, if that was anything.
func assignUnder(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Rollout) (fleet.Rollout, error) {
	now, err := underlying(ctx, tx, by.Tenant, r.Definition.Group)
	if err != nil {
		return r, err
	}
	var undone fleet.Rollout
	if r.Kind == fleet.RolloutRollback {
		if undone, err = rollout(ctx, tx, by.Tenant, r.Of, ""); err != nil {
			return r, err
		}
	}
	next, settled := verdict.Begins(r, undone, now)
	r.Former = now.Assigned
	if next.Config == "" {
		return r, nil
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO assignments AS a (tenant_id, target, target_id, config_id, version, generation, created_by, created_at, rollout_id, settled_config_id, settled_version)
		VALUES ($1, 'group', $2, $3, $4, 1, $5, $6, $7, $8, $9)
		ON CONFLICT (tenant_id, target, target_id) DO UPDATE
		SET config_id = excluded.config_id, version = excluded.version, generation = a.generation + 1, created_by = excluded.created_by,
			created_at = excluded.created_at, rollout_id = excluded.rollout_id, settled_config_id = excluded.settled_config_id, settled_version = excluded.settled_version`,
		by.Tenant, r.Definition.Group, next.Config, next.Version, by.Principal.Name, moment(by.At), r.ID, column.OrNull(settled.Config), settled.Version)
	return r, fail("assign under a rollout", err)
}

// underlying reads what a group is assigned; the zero one if nothing is.
func underlying(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, group fleet.GroupID) (verdict.Underlying, error) {
	found, err := list(ctx, tx, scanUnderlying, `
		SELECT a.config_id, a.version, a.settled_config_id, coalesce(a.settled_version, 0), coalesce(r.state, '')
		FROM assignments a LEFT JOIN rollouts r ON r.tenant_id = a.tenant_id AND r.id = a.rollout_id
		WHERE a.tenant_id = $1 AND a.target = 'group' AND a.target_id = $2`, tenant, group)
	if err != nil || len(found) == 0 {
		return verdict.Underlying{}, fail("read the group's assignment", err)
	}
	return found[0], nil
}

func scanUnderlying(row pgx.Row) (u verdict.Underlying, err error) {
	err = row.Scan(&u.Assigned.Config, &u.Assigned.Version, (*text)(&u.Settled.Config), &u.Settled.Version, &u.State)
	return u, err
}

// onWaiting ends the statements that let agents wait to be let in to what their group is assigned.
const onWaiting = `
	ON CONFLICT (tenant_id, agent_id) DO UPDATE SET group_id = excluded.group_id, since = excluded.since WHERE agents_waiting.group_id <> excluded.group_id`
