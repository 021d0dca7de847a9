// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// CreateRollout implements store.Rollouts.
func (s *Store) CreateRollout(ctx context.Context, by fleet.By, r fleet.Rollout, members []fleet.Member) (created fleet.Rollout, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if created, err = named(ctx, tx, by, r); err != nil {
			return err
		}
		if created.Kind == fleet.RolloutRollback {
			if err := claimRollback(ctx, tx, by.Tenant, created.Of); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO rollouts (tenant_id, id, kind, of_id, group_id, config_id, version, definition, state, plan, created_by, created_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending', ?9, ?10, ?11)`,
			by.Tenant, created.ID, created.Kind, column.OrNull(created.Of), created.Definition.Group, created.Definition.Config, created.Definition.Version,
			asJSON(created.Definition), asJSON(created.Plan), by.Principal.Name, moment(by.At))
		if err != nil {
			return fail("create a rollout", err)
		}
		if err := putMembers(ctx, tx, by.Tenant, created.ID, members); err != nil {
			return err
		}
		entry, event := trail.RolloutCreated(by, created)
		if err := appendAudit(ctx, tx, by, entry); err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
	if err != nil {
		return fleet.Rollout{}, err
	}
	return s.Rollout(ctx, by.Tenant, created.ID)
}

// named is a rollout with the names of its group and of its published configuration.
func named(ctx context.Context, tx *sql.Tx, by fleet.By, r fleet.Rollout) (fleet.Rollout, error) {
	g, err := livingGroup(ctx, tx, by.Tenant, r.Definition.Group)
	if err != nil {
		return r, err
	}
	c, err := config(ctx, tx, by.Tenant, string(r.Definition.Config))
	if err != nil {
		return r, err
	}
	if _, err := published(ctx, tx, by.Tenant, c.ID, r.Definition.Version); err != nil {
		return r, err
	}
	r.Tenant, r.State, r.CreatedBy, r.CreatedAt = by.Tenant, fleet.RolloutPending, by.Principal.Name, by.At
	r.Definition.GroupName, r.Definition.ConfigName = g.Name, c.Name
	return r, nil
}

// claimRollback refuses a rollback of what cannot be rolled back, and notes that there is one.
func claimRollback(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, of fleet.RolloutID) error {
	r, err := rollout(ctx, tx, tenant, of)
	if err != nil {
		return err
	}
	undoing, err := undoing(ctx, tx, tenant, of)
	if err != nil {
		return err
	}
	if err := verdict.Undoable(r, undoing); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE rollouts SET wants_rollback = false, row_version = row_version + 1 WHERE tenant_id = ?1 AND id = ?2`, tenant, of)
	return fail("note a rollback", err)
}

// undoing is the state of the newest rollback of a rollout; empty if there is none.
func undoing(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, of fleet.RolloutID) (state fleet.RolloutState, err error) {
	states, err := list(ctx, tx, scanRolloutState, `
		SELECT state FROM rollouts WHERE tenant_id = ?1 AND of_id = ?2 AND kind = 'rollback' ORDER BY created_at DESC, id DESC LIMIT 1`, tenant, of)
	if len(states) > 0 {
		state = states[0]
	}
	return state, fail("read the rollback of a rollout", err)
}

func scanRolloutState(row scanner) (s fleet.RolloutState, err error) {
	err = row.Scan(&s)
	return s, err
}

// Rollout implements store.Rollouts.
func (s *Store) Rollout(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) (r fleet.Rollout, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		r, err = rollout(ctx, tx, tenant, id)
		return err
	})
	return r, err
}

func rollout(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.RolloutID) (fleet.Rollout, error) {
	r, err := one(ctx, tx, scanRollout, "SELECT "+rolloutColumns+" FROM rollouts WHERE tenant_id = ?1 AND id = ?2", tenant, id)
	return r, fail("find a rollout", err)
}

// Rollouts implements store.Rollouts.
func (s *Store) Rollouts(ctx context.Context, tenant fleet.TenantID, f fleet.RolloutFilter, page fleet.Page) (rollouts []fleet.Rollout, next string, err error) {
	before, err := keyset.PlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	where := conditions{args: []any{tenant, moment(before.At), before.ID}}
	if f.Group != "" {
		where.and("group_id = %s", f.Group)
	}
	if len(f.States) > 0 {
		where.and("state IN (SELECT value FROM json_each(%s))", asJSON(f.States))
	}
	if f.WantsRollback {
		where.sql.WriteString(" AND wants_rollback")
	}
	query := "SELECT " + rolloutColumns + " FROM rollouts WHERE tenant_id = ?1 AND (created_at, id) < (?2, ?3)" + where.sql.String() +
		where.number(" ORDER BY created_at DESC, id DESC LIMIT %s", keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		rollouts, err = list(ctx, tx, scanRollout, query, where.args...)
		return fail("list rollouts", err)
	})
	rollouts, next = keyset.Cut(rollouts, page, func(r fleet.Rollout) string { return keyset.Place{At: r.CreatedAt, ID: string(r.ID)}.String() })
	return rollouts, next, err
}

// RolloutWaves implements store.Rollouts.
func (s *Store) RolloutWaves(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) (waves []fleet.WaveCounts, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		if _, err := rollout(ctx, tx, tenant, id); err != nil {
			return err
		}
		waves, err = readWaves(ctx, tx, tenant, id)
		return err
	})
	return waves, err
}

func readWaves(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.RolloutID) ([]fleet.WaveCounts, error) {
	waves, err := list(ctx, tx, scanWave, `
		SELECT wave, opened_at, ended_at, agents, skipped, pending, touched, in_flight, watched, applied, succeeded, overdue,
		       failed, gone, mismatch, unhealthy
		FROM rollout_waves WHERE tenant_id = ?1 AND rollout_id = ?2 ORDER BY wave`, tenant, id)
	return waves, fail("read the waves", err)
}

func scanWave(row scanner) (w fleet.WaveCounts, err error) {
	c := &w.Counts
	err = row.Scan(&w.Wave, (*instant)(&w.OpenedAt), (*instant)(&w.EndedAt), &c.Agents, &c.Skipped, &c.Pending, &c.Touched, &c.InFlight,
		&c.Watched, &c.Applied, &c.Succeeded, &c.Overdue, &c.Failed, &c.Gone, &c.Mismatch, &c.Unhealthy)
	return w, err
}

// addCounts changes the counts of waves.
func addCounts(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, deltas []verdict.Delta) error {
	for _, d := range deltas {
		c := d.Counts
		_, err := tx.ExecContext(ctx, `
			INSERT INTO rollout_waves AS w (tenant_id, rollout_id, wave, agents, skipped, pending, touched, in_flight, watched, applied, succeeded,
			                                overdue, failed, gone, mismatch, unhealthy)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
			ON CONFLICT (tenant_id, rollout_id, wave) DO UPDATE SET agents = w.agents + excluded.agents, skipped = w.skipped + excluded.skipped,
				pending = w.pending + excluded.pending, touched = w.touched + excluded.touched, in_flight = w.in_flight + excluded.in_flight,
				watched = w.watched + excluded.watched, applied = w.applied + excluded.applied, succeeded = w.succeeded + excluded.succeeded,
				overdue = w.overdue + excluded.overdue, failed = w.failed + excluded.failed, gone = w.gone + excluded.gone,
				mismatch = w.mismatch + excluded.mismatch, unhealthy = w.unhealthy + excluded.unhealthy`,
			tenant, d.Rollout, d.Wave, c.Agents, c.Skipped, c.Pending, c.Touched, c.InFlight, c.Watched, c.Applied, c.Succeeded,
			c.Overdue, c.Failed, c.Gone, c.Mismatch, c.Unhealthy)
		if err != nil {
			return fail("count members", err)
		}
	}
	return nil
}

// letDue lets rollouts be looked at.
func letDue(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, rollouts []fleet.RolloutID, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE rollouts SET wake_at = min(wake_at, ?3) WHERE tenant_id = ?1 AND id `+among, tenant, asJSON(rollouts), moment(at))
	return fail("let rollouts be looked at", err)
}

const rolloutColumns = `tenant_id, id, kind, of_id, definition, state, generation, row_version, wave, wave_opened_at, filled_at, extended, accepted,
	reason, wants_rollback, plan, former_config_id, coalesce(former_version, 0), created_by, created_at, started_by, started_at, ended_at,
	nullif(wake_at, 9223372036854775807)`

func scanRollout(row scanner) (r fleet.Rollout, err error) {
	err = row.Scan(&r.Tenant, &r.ID, &r.Kind, (*text)(&r.Of), document(&r.Definition), &r.State, &r.Generation, &r.Version, &r.Wave, (*instant)(&r.WaveOpenedAt),
		(*instant)(&r.FilledAt), &r.Extended, document(&r.Accepted), &r.Reason, &r.WantsRollback, document(&r.Plan), (*text)(&r.Former.Config), &r.Former.Version,
		&r.CreatedBy, (*instant)(&r.CreatedAt), &r.StartedBy, (*instant)(&r.StartedAt), (*instant)(&r.EndedAt), (*instant)(&r.WakeAt))
	return r, err
}

// putRollout writes what stands of a rollout.
func putRollout(ctx context.Context, tx *sql.Tx, r fleet.Rollout) error {
	n, err := changed(tx.ExecContext(ctx, `
		UPDATE rollouts SET state = ?3, generation = ?4, row_version = ?5, wave = ?6, wave_opened_at = ?7, filled_at = ?8, extended = ?9,
			accepted = ?10, reason = ?11, wants_rollback = ?12, plan = ?13, former_config_id = ?14, former_version = ?15, started_by = ?16,
			started_at = ?17, ended_at = ?18, wake_at = coalesce(?19, ?20)
		WHERE tenant_id = ?1 AND id = ?2`,
		r.Tenant, r.ID, r.State, r.Generation, r.Version, r.Wave, moment(r.WaveOpenedAt), moment(r.FilledAt), int64(r.Extended),
		asJSON(r.Accepted), r.Reason, r.WantsRollback, asJSON(r.Plan), column.OrNull(r.Former.Config), r.Former.Version, r.StartedBy,
		moment(r.StartedAt), moment(r.EndedAt), moment(r.WakeAt), int64(never)))
	if err == nil && n != 1 {
		return fmt.Errorf("write rollout %s: %w", r.ID, store.ErrConflict)
	}
	return fail("write a rollout", err)
}

// rolloutsOf are the rollouts of changes of members, each once.
func rolloutsOf(changes []verdict.MemberChange) []fleet.RolloutID {
	all := make([]fleet.RolloutID, len(changes))
	for i, c := range changes {
		all[i] = c.Is.Rollout
	}
	slices.Sort(all)
	return slices.Compact(all)
}
