// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
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
		kind, id := targetOf(a.Target)
		_, err = tx.Exec(ctx, `
			INSERT INTO assignments AS a (tenant_id, target, target_id, config_id, version, generation, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5, 1, $6, $7)
			ON CONFLICT (tenant_id, target, target_id) DO UPDATE
			SET config_id = excluded.config_id, version = excluded.version, generation = a.generation + 1,
			    created_by = excluded.created_by, created_at = excluded.created_at`,
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
		return assignmentChanged(ctx, tx, by, "assignment.assign", assigned)
	})
	if err != nil {
		return fleet.Assignment{}, 0, err
	}
	return assigned, agents, nil
}

// Unassign implements store.Configs.
func (s *Store) Unassign(ctx context.Context, by fleet.By, t fleet.Target) error {
	return s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		a, err := assignment(ctx, tx, by.Tenant, t)
		if err != nil {
			return err
		}
		kind, id := targetOf(t)
		deleted, err := tx.Exec(ctx, "DELETE FROM assignments WHERE tenant_id = $1 AND target = $2 AND target_id = $3", by.Tenant, kind, id)
		if err != nil {
			return fail("unassign", err)
		}
		if deleted.RowsAffected() == 0 {
			return fmt.Errorf("unassign: %w", store.ErrNotFound)
		}
		return assignmentChanged(ctx, tx, by, "assignment.unassign", a)
	})
}

// Assignments implements store.Configs.
func (s *Store) Assignments(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (assignments []fleet.Assignment, next string, err error) {
	kind, id := "", uuid.Nil.String()
	if page.After != "" {
		kind, id, _ = strings.Cut(page.After, "/")
		if uuid.Validate(id) != nil {
			return nil, "", fmt.Errorf("page: %w", store.ErrNotFound)
		}
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		assignments, err = list(ctx, tx, scanAssignment, assignmentQuery+`
			WHERE a.tenant_id = $1 AND (a.target, a.target_id) > ($2, $3)
			ORDER BY a.target, a.target_id LIMIT $4`, tenant, kind, id, size(page)+1)
		return fail("list assignments", err)
	})
	assignments, next = keyset(assignments, size(page), func(a fleet.Assignment) string {
		kind, id := targetOf(a.Target)
		return kind + "/" + id
	})
	return assignments, next, err
}

// lockTarget refuses a target that is none, or a group of more than limit members; its members cannot change until the
// assignment is there.
func lockTarget(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, t fleet.Target, limit int) error {
	if t.Agent != "" {
		var locked fleet.AgentID
		err := tx.QueryRow(ctx, "SELECT id FROM agents WHERE tenant_id = $1 AND id = $2 FOR KEY SHARE", tenant, t.Agent).Scan(&locked)
		return fail("find the agent", err)
	}
	g, err := livingGroup(ctx, tx, tenant, t.Group, lockGroup)
	if err == nil && g.MemberCount > limit {
		return fmt.Errorf("assign to a group of %d: %w", g.MemberCount, store.ErrLimit)
	}
	return err
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

// assignmentChanged wakes the engine for whom it may concern, and tells.
func assignmentChanged(ctx context.Context, tx pgx.Tx, by fleet.By, action string, a fleet.Assignment) error {
	var err error
	if a.Target.Agent != "" {
		err = wake(ctx, tx, by.Tenant, by.At, a.Target.Agent)
	} else {
		err = wakeMembers(ctx, tx, by.Tenant, by.At, a.Target.Group)
	}
	if err != nil {
		return err
	}
	kind, id := targetOf(a.Target)
	err = appendAudit(ctx, tx, by, action, "assignment", id, nil,
		fields{"target": kind, "config": a.Config, "name": a.ConfigName, "version": a.Version, "generation": a.Generation})
	if err != nil {
		return err
	}
	return appendEvent(ctx, tx, fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventAssigned, Agent: a.Target.Agent, Message: assignedMessage(action, a),
		Attributes: map[string]string{"target": kind, "id": id, "config": string(a.Config), "version": strconv.Itoa(a.Version)},
	})
}

func assignedMessage(action string, a fleet.Assignment) string {
	kind, _ := targetOf(a.Target)
	if action == "assignment.unassign" {
		return "assignment of the " + kind + " removed"
	}
	return fmt.Sprintf("%s@%d assigned to the %s", a.ConfigName, a.Version, kind)
}

// targetOf is a target as its two columns.
func targetOf(t fleet.Target) (kind, id string) {
	if t.Agent != "" {
		return "agent", string(t.Agent)
	}
	return "group", string(t.Group)
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
	if kind == "agent" {
		a.Target.Agent = fleet.AgentID(id)
	} else {
		a.Target.Group = fleet.GroupID(id)
	}
	return a, err
}

func assignment(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, t fleet.Target) (fleet.Assignment, error) {
	kind, id := targetOf(t)
	a, err := one(ctx, tx, scanAssignment, assignmentQuery+`
		WHERE a.tenant_id = $1 AND a.target = $2 AND a.target_id = $3`, tenant, kind, id)
	return a, fail("find the assignment", err)
}
