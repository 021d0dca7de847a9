// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// CreateGroup implements store.Groups.
func (s *Store) CreateGroup(ctx context.Context, by fleet.By, g fleet.Group) (created fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO groups (tenant_id, id, name, description, created_at) VALUES (?1, ?2, ?3, ?4, ?5)`,
			by.Tenant, g.ID, g.Name, g.Description, moment(by.At))
		if err != nil {
			return fail("create a group", err)
		}
		if err := appendAudit(ctx, tx, by, trail.GroupCreated(g)); err != nil {
			return err
		}
		created, err = livingGroup(ctx, tx, by.Tenant, g.ID)
		return err
	})
	return created, err
}

// Group implements store.Groups.
func (s *Store) Group(ctx context.Context, tenant fleet.TenantID, idOrName string) (g fleet.Group, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		g, err = one(ctx, tx, scanGroup, `
			SELECT `+groupColumns+` FROM groups g
			WHERE tenant_id = ?1 AND (id = ?2 OR (name = ?3 AND deleted_at IS NULL))
			ORDER BY name = ?3 LIMIT 1`, tenant, column.IDOrNull(idOrName), idOrName)
		return fail("find a group", err)
	})
	return g, err
}

// Groups implements store.Groups.
func (s *Store) Groups(ctx context.Context, tenant fleet.TenantID, deleted bool, page fleet.Page) (groups []fleet.Group, next string, err error) {
	// A deleted group may share its name, so the id decides after it.
	after, err := keyset.NamePlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		groups, err = list(ctx, tx, scanGroup, `
			SELECT `+groupColumns+` FROM groups g
			WHERE tenant_id = ?1 AND (?2 OR deleted_at IS NULL) AND (name, id) > (?3, ?4)
			ORDER BY name, id LIMIT ?5`, tenant, deleted, after.Name, after.ID, keyset.Limit(page))
		return fail("list groups", err)
	})
	groups, next = keyset.Cut(groups, page, func(g fleet.Group) string {
		return keyset.NamePlace{Name: g.Name, ID: string(g.ID)}.String()
	})
	return groups, next, err
}

// DeleteGroup implements store.Groups.
func (s *Store) DeleteGroup(ctx context.Context, by fleet.By, id fleet.GroupID) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		g, err := livingGroup(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		if err := wakeMembers(ctx, tx, by, id); err != nil {
			return err
		}
		if err := tellMembers(ctx, tx, by, id); err != nil {
			return err
		}
		for _, statement := range []string{
			"DELETE FROM assignments WHERE tenant_id = ?1 AND target = 'group' AND target_id = ?2",
			"UPDATE agents SET group_id = NULL WHERE tenant_id = ?1 AND group_id = ?2",
			"UPDATE groups SET deleted_at = ?3 WHERE tenant_id = ?1 AND id = ?2",
		} {
			if _, err := tx.ExecContext(ctx, statement, by.Tenant, id, moment(by.At)); err != nil {
				return fail("delete a group", err)
			}
		}
		return appendAudit(ctx, tx, by, trail.GroupDeleted(g))
	})
}

// tellMembers writes an event for each member that its group is about to go.
func tellMembers(ctx context.Context, tx *sql.Tx, by fleet.By, id fleet.GroupID) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes)
		SELECT tenant_id, ?3, ?4, id, ?5, json_object('from', group_id, 'to', '')
		FROM agents WHERE tenant_id = ?1 AND group_id = ?2 ORDER BY id`,
		by.Tenant, id, moment(by.At), fleet.EventGroupChanged, trail.LeftGroup)
	return fail("append events", err)
}

// UndeleteGroup implements store.Groups.
func (s *Store) UndeleteGroup(ctx context.Context, by fleet.By, id fleet.GroupID) (g fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		undeleted, err := changed(tx.ExecContext(ctx, `
			UPDATE groups SET deleted_at = NULL WHERE tenant_id = ?1 AND id = ?2 AND deleted_at IS NOT NULL`, by.Tenant, id))
		if err != nil {
			return fail("undelete a group", err)
		}
		if undeleted == 0 {
			return fmt.Errorf("find a deleted group: %w", store.ErrNotFound)
		}
		g, err = livingGroup(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.GroupUndeleted(g))
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
}

// AddGroupMembers implements store.Groups.
func (s *Store) AddGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID, limit int) (g fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		g, err = livingGroup(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		members, err := memberships(ctx, tx, by.Tenant, agents)
		if err != nil {
			return err
		}
		joining := slices.DeleteFunc(members, func(m membership) bool { return m.group == id })
		if len(joining) == 0 {
			return nil
		}
		assigned, err := isAssigned(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		if assigned && g.MemberCount+len(joining) > limit {
			return fmt.Errorf("add to an assigned group of %d: %w", g.MemberCount, store.ErrLimit)
		}
		g.MemberCount += len(joining)
		return moveAndTell(ctx, tx, by, id, joining, id)
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
}

// RemoveGroupMembers implements store.Groups.
func (s *Store) RemoveGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID) (g fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		g, err = livingGroup(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		leaving, err := list(ctx, tx, scanMembership, `
			SELECT id, group_id FROM agents WHERE tenant_id = ?1 AND group_id = ?2 AND id IN (SELECT value FROM json_each(?3))
			ORDER BY id`, by.Tenant, id, asJSON(agents))
		if err != nil {
			return fail("find the members", err)
		}
		if len(leaving) == 0 {
			return nil
		}
		g.MemberCount -= len(leaving)
		return moveAndTell(ctx, tx, by, id, leaving, "")
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
}

// membership is an agent and the group it is in, empty for none.
type membership struct {
	agent fleet.AgentID
	group fleet.GroupID
}

func scanMembership(row scanner) (m membership, err error) {
	err = row.Scan(&m.agent, (*text)(&m.group))
	return m, err
}

// memberships finds all of the agents, or fails with ErrNotFound.
func memberships(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agents []fleet.AgentID) ([]membership, error) {
	wanted := slices.Compact(slices.Sorted(slices.Values(agents)))
	members, err := list(ctx, tx, scanMembership, `
		SELECT id, group_id FROM agents WHERE tenant_id = ?1 AND id IN (SELECT value FROM json_each(?2)) ORDER BY id`, tenant, asJSON(wanted))
	if err != nil {
		return nil, fail("find the agents", err)
	}
	if len(members) < len(wanted) {
		return nil, fmt.Errorf("%d of %d agents: %w", len(wanted)-len(members), len(wanted), store.ErrNotFound)
	}
	return members, nil
}

func isAssigned(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, group fleet.GroupID) (assigned bool, err error) {
	err = tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM assignments WHERE tenant_id = ?1 AND target = 'group' AND target_id = ?2)`,
		tenant, group).Scan(&assigned)
	return assigned, fail("find the assignment", err)
}

// moveAndTell moves agents at the request of a group, in whose name the audit event stands.
func moveAndTell(ctx context.Context, tx *sql.Tx, by fleet.By, about fleet.GroupID, members []membership, to fleet.GroupID) error {
	if err := moveMembers(ctx, tx, by, members, to); err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, trail.MembersMoved(about, agentsIn(members), to))
}

func agentsIn(members []membership) []fleet.AgentID {
	agents := make([]fleet.AgentID, len(members))
	for i, m := range members {
		agents[i] = m.agent
	}
	return agents
}

// moveMembers moves agents from the groups they are in to another, or to none, wakes the engine for them, and tells
// each.
func moveMembers(ctx context.Context, tx *sql.Tx, by fleet.By, members []membership, to fleet.GroupID) error {
	agents := agentsIn(members)
	_, err := tx.ExecContext(ctx, "UPDATE agents SET group_id = ?3 WHERE tenant_id = ?1 AND id IN (SELECT value FROM json_each(?2))", by.Tenant, asJSON(agents), column.OrNull(to))
	if err != nil {
		return fail("move members", err)
	}
	if err := wakeBy(ctx, tx, by, agents...); err != nil {
		return err
	}
	for _, m := range members {
		if err := appendEvent(ctx, tx, trail.Moved(by, m.agent, m.group, to)); err != nil {
			return err
		}
	}
	return nil
}

const groupColumns = `g.tenant_id, g.id, g.name, g.description, g.created_at, g.deleted_at,
	(SELECT count(*) FROM agents a WHERE a.tenant_id = g.tenant_id AND a.group_id = g.id)`

func scanGroup(row scanner) (g fleet.Group, err error) {
	err = row.Scan(&g.Tenant, &g.ID, &g.Name, &g.Description, (*instant)(&g.CreatedAt), (*instant)(&g.DeletedAt), &g.MemberCount)
	return g, err
}

// livingGroup reads a group that is not deleted.
func livingGroup(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.GroupID) (fleet.Group, error) {
	g, err := one(ctx, tx, scanGroup, `
		SELECT `+groupColumns+` FROM groups g WHERE tenant_id = ?1 AND id = ?2 AND deleted_at IS NULL`, tenant, id)
	return g, fail("find a group", err)
}
