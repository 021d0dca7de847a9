// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Assign implements store.Configs.
func (s *Store) Assign(ctx context.Context, by fleet.By, a fleet.Assignment, limit int) (assigned fleet.Assignment, agents int, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockTarget(ctx, tx, by.Tenant, a.Target, limit); err != nil {
			return err
		}
		version, err := lockPublished(ctx, tx, by.Tenant, a.Config, a.Version)
		if err != nil {
			return err
		}
		kind, id := column.Target(a.Target)
		_, err = tx.Exec(ctx, `
			INSERT INTO assignments AS a (tenant_id, target, target_id, config_id, version, generation, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
			ON CONFLICT (tenant_id, target, target_id) DO UPDATE
			SET config_id = excluded.config_id, version = excluded.version, generation = a.generation + 1,
			    created_by = excluded.created_by, created_at = excluded.created_at,
			    rollout_id = NULL, settled_config_id = NULL, settled_version = NULL`,
			by.Tenant, kind, id, a.Config, version, by.Principal.Name, moment(by.At))
		if err != nil {
			return fail("assign", err)
		}
		assigned, err = assignment(ctx, tx, by.Tenant, a.Target)
		if err != nil {
			return err
		}
		if agents, err = decidesFor(ctx, tx, by.Tenant, a.Target); err != nil {
			return err
		}
		if err := supplant(ctx, tx, by, a.Target); err != nil {
			return err
		}
		if err := targetChanged(ctx, tx, by, a.Target); err != nil {
			return err
		}
		return assignmentChanged(ctx, tx, by, assigned, trail.Assigned)
	})
	if err != nil {
		return fleet.Assignment{}, 0, err
	}
	return assigned, agents, nil
}

// Unassign implements store.Configs. The members of a group cannot change until the assignment is gone: one that joined
// meanwhile would be granted what it says, and not be looked at again.
func (s *Store) Unassign(ctx context.Context, by fleet.By, t fleet.Target) error {
	return s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockTarget(ctx, tx, by.Tenant, t, math.MaxInt); err != nil {
			return err
		}
		a, err := assignment(ctx, tx, by.Tenant, t)
		if err != nil {
			return err
		}
		kind, id := column.Target(t)
		deleted, err := tx.Exec(ctx, "DELETE FROM assignments WHERE tenant_id = $1 AND target = $2 AND target_id = $3", by.Tenant, kind, id)
		if err != nil {
			return fail("unassign", err)
		}
		if deleted.RowsAffected() == 0 {
			return fmt.Errorf("unassign: %w", store.ErrNotFound)
		}
		switch {
		case t.Group != "":
			err = supplant(ctx, tx, by, t)
		case !t.Default:
			err = rejoin(ctx, tx, by, t.Agent)
		}
		if err != nil {
			return err
		}
		if err := targetChanged(ctx, tx, by, t); err != nil {
			return err
		}
		return assignmentChanged(ctx, tx, by, a, trail.Unassigned)
	})
}

// targetChanged lets a dynamic group choose anew: whether those wait that join depends on whether it has an assignment.
func targetChanged(ctx context.Context, tx pgx.Tx, by fleet.By, t fleet.Target) error {
	if t.Group == "" {
		return nil
	}
	g, err := livingGroup(ctx, tx, by.Tenant, t.Group, "")
	if err != nil {
		return err
	}
	return chooseAnew(ctx, tx, by, g)
}

// Assignments implements store.Configs.
func (s *Store) Assignments(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (assignments []fleet.Assignment, next string, err error) {
	after, err := keyset.TargetPlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		assignments, err = list(ctx, tx, scanAssignment, assignmentQuery+`
			WHERE a.tenant_id = $1 AND (a.target, a.target_id) > ($2, $3)
			ORDER BY a.target, a.target_id LIMIT $4`, tenant, after.Kind, after.ID, keyset.Limit(page))
		return fail("list assignments", err)
	})
	assignments, next = keyset.Cut(assignments, page, func(a fleet.Assignment) string {
		kind, id := column.Target(a.Target)
		return keyset.TargetPlace{Kind: kind, ID: id}.String()
	})
	return assignments, next, err
}

// supplant ends what agents waited for, or were rolled out: a group's members get what it is assigned now, or its default,
// at once, and an agent with an assignment of its own has no part in what its group gets.
func supplant(ctx context.Context, tx pgx.Tx, by fleet.By, t fleet.Target) error {
	_, err := tx.Exec(ctx, "DELETE FROM agents_waiting WHERE tenant_id = $1 AND (group_id = $2::uuid OR agent_id = $3::uuid)",
		by.Tenant, column.IDOrNull(string(t.Group)), column.IDOrNull(string(t.Agent)))
	if err != nil || t.Group != "" {
		return fail("let agents wait no more", err)
	}
	in, err := list(ctx, tx, scanMembership, `
		SELECT id, group_id FROM agents WHERE tenant_id = $1 AND id = $2 AND group_id IS NOT NULL`, by.Tenant, t.Agent)
	if err != nil || len(in) == 0 {
		return fail("find the agent's group", err)
	}
	return leaveOut(ctx, tx, by, in, verdict.HasOwn)
}

// rejoin lets an agent wait that has no assignment of its own any more, if what its group is assigned is under a rollout
// that it has not reached.
func rejoin(ctx context.Context, tx pgx.Tx, by fleet.By, agent fleet.AgentID) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO agents_waiting (tenant_id, agent_id, group_id, since)
		SELECT a.tenant_id, a.id, a.group_id, $3 FROM agents a
		JOIN assignments s ON s.tenant_id = $1 AND s.target = 'group' AND s.target_id = a.group_id
		LEFT JOIN rollout_members m ON m.tenant_id = $1 AND m.rollout_id = s.rollout_id AND m.agent_id = a.id
		WHERE a.tenant_id = $1 AND a.id = $2 AND s.rollout_id IS NOT NULL AND coalesce(m.state, 'skipped') = 'skipped'`+onWaiting,
		by.Tenant, agent, moment(by.At))
	return fail("let an agent wait", err)
}

// lockTarget refuses a target that is none, a group of more than limit members, or one of which a rollout is active; its
// members cannot change until the assignment is there.
func lockTarget(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, t fleet.Target, limit int) error {
	if t.Agent != "" {
		var locked fleet.AgentID
		err := tx.QueryRow(ctx, "SELECT id FROM agents WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE", tenant, t.Agent).Scan(&locked)
		return fail("find the agent", err)
	}
	g, err := livingGroup(ctx, tx, tenant, t.Group, lockGroup)
	if err != nil {
		return err
	}
	if g.MemberCount > limit {
		return fmt.Errorf("assign to a group of %d: %w", g.MemberCount, store.ErrLimit)
	}
	return noneActive(ctx, tx, tenant, t.Group)
}

// lockPublished returns the version to assign, 0 standing for the newest that is published, and keeps it published.
func lockPublished(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.ConfigID, version int) (int, error) {
	c, err := config(ctx, tx, tenant, string(id))
	if err != nil {
		return 0, err
	}
	if version == 0 {
		version = c.LatestPublished
	}
	if version == 0 {
		return 0, fmt.Errorf("assign a configuration without published version: %w", store.ErrState)
	}
	v, err := lockVersion(ctx, tx, tenant, id, version)
	if err == nil && v.State != fleet.VersionPublished {
		return 0, fmt.Errorf("assign a %s version: %w", v.State, store.ErrState)
	}
	return version, err
}

// decidesFor counts the agents whose configuration the target's assignment is: an agent's own comes before its group's.
func decidesFor(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, t fleet.Target) (n int, err error) {
	if t.Agent != "" {
		return 1, nil
	}
	err = tx.QueryRow(ctx, `
		SELECT count(*) FROM agents g WHERE g.tenant_id = $1 AND g.group_id = $2 AND NOT EXISTS (
			SELECT FROM assignments o WHERE o.tenant_id = g.tenant_id AND o.target = 'agent' AND o.target_id = g.id)`,
		tenant, t.Group).Scan(&n)
	return n, fail("count the agents", err)
}

// assignmentChanged wakes the engine for whom it may concern, and leaves the trail.
func assignmentChanged(ctx context.Context, tx pgx.Tx, by fleet.By, a fleet.Assignment,
	tell func(fleet.By, fleet.Assignment) (trail.Entry, fleet.Event),
) error {
	var err error
	if a.Target.Agent != "" {
		err = wakeBy(ctx, tx, by, a.Target.Agent)
	} else {
		err = wakeMembers(ctx, tx, by, a.Target.Group)
	}
	if err != nil {
		return err
	}
	entry, event := tell(by, a)
	if err := appendAudit(ctx, tx, by, entry); err != nil {
		return err
	}
	return appendEvent(ctx, tx, event)
}

const assignmentQuery = `
	SELECT a.tenant_id, a.target, a.target_id, a.config_id, c.name, a.version, v.offer_hash, a.created_by, a.created_at, a.generation
	FROM assignments a
	JOIN configs c ON c.tenant_id = a.tenant_id AND c.id = a.config_id
	JOIN config_versions v ON v.tenant_id = a.tenant_id AND v.config_id = a.config_id AND v.version = a.version`

func scanAssignment(row pgx.Row) (a fleet.Assignment, err error) {
	var kind, id string
	err = row.Scan(&a.Tenant, &kind, &id, &a.Config, &a.ConfigName, &a.Version, (*hash)(&a.Offer), &a.CreatedBy,
		(*instant)(&a.CreatedAt), &a.Generation)
	a.Target = column.TargetOf(kind, id)
	return a, err
}

func assignment(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, t fleet.Target) (fleet.Assignment, error) {
	kind, id := column.Target(t)
	a, err := one(ctx, tx, scanAssignment, assignmentQuery+`
		WHERE a.tenant_id = $1 AND a.target = $2 AND a.target_id = $3`, tenant, kind, id)
	return a, fail("find the assignment", err)
}
