// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// CreateGroup implements store.Groups.
func (s *Store) CreateGroup(ctx context.Context, by fleet.By, g fleet.Group) (created fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if err := publishedDefault(ctx, tx, by.Tenant, g.Default); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO groups (tenant_id, id, name, description, selector, priority, default_config, default_version, default_on_claims, created_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)`,
			by.Tenant, g.ID, g.Name, g.Description, g.Selector, g.Priority, column.OrNull(g.Default.Config), g.Default.Version, g.DefaultOnClaims, moment(by.At))
		if err != nil {
			return fail("create a group", err)
		}
		if created, err = livingGroup(ctx, tx, by.Tenant, g.ID); err != nil {
			return err
		}
		if err := chooseAnew(ctx, tx, by, created); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.GroupCreated(created))
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return created, nil
}

// publishedDefault refuses a default of which nothing is published.
func publishedDefault(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, d fleet.DefaultConfig) error {
	if d.Config == "" {
		return nil
	}
	_, err := published(ctx, tx, tenant, d.Config, d.Version)
	return err
}

// UpdateGroup implements store.Groups.
func (s *Store) UpdateGroup(ctx context.Context, by fleet.By, was, is fleet.Group) (g fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		before, err := livingGroup(ctx, tx, by.Tenant, was.ID)
		switch {
		case err != nil:
			return err
		case !before.SameDefinition(was):
			return fmt.Errorf("update a group: %w", store.ErrConflict)
		case before.Dynamic() != is.Dynamic():
			return fmt.Errorf("update a group: %w", store.ErrDynamic)
		}
		if err := publishedDefault(ctx, tx, by.Tenant, is.Default); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			UPDATE groups SET description = ?3, selector = ?4, priority = ?5, default_config = ?6, default_version = ?7, default_on_claims = ?8
			WHERE tenant_id = ?1 AND id = ?2`,
			by.Tenant, was.ID, is.Description, is.Selector, is.Priority, column.OrNull(is.Default.Config), is.Default.Version, is.DefaultOnClaims)
		if err != nil {
			return fail("update a group", err)
		}
		if g, err = livingGroup(ctx, tx, by.Tenant, was.ID); err != nil {
			return err
		}
		if err := chooseAnew(ctx, tx, by, g); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.GroupUpdated(before, g))
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
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
		if err := noneActive(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		if err := chooseAnew(ctx, tx, by, g); err != nil {
			return err
		}
		members, err := list(ctx, tx, scanMembership, `SELECT id, group_id FROM agents WHERE tenant_id = ?1 AND group_id = ?2 ORDER BY id`, by.Tenant, id)
		if err != nil {
			return fail("find the members", err)
		}
		if err := leaveGroups(ctx, tx, by, members); err != nil {
			return err
		}
		if err := wakeMembers(ctx, tx, by, id); err != nil {
			return err
		}
		if err := tellMembers(ctx, tx, by, id); err != nil {
			return err
		}
		for _, statement := range []string{
			"DELETE FROM assignments WHERE tenant_id = ?1 AND target = 'default' AND target_id IN (SELECT id FROM agents WHERE tenant_id = ?1 AND group_id = ?2)",
			"DELETE FROM assignments WHERE tenant_id = ?1 AND target = 'group' AND target_id = ?2",
			"UPDATE agents SET group_id = NULL WHERE tenant_id = ?1 AND group_id = ?2",
			"UPDATE groups SET deleted_at = ?3 WHERE tenant_id = ?1 AND id = ?2",
		} {
			if _, err := tx.ExecContext(ctx, statement, by.Tenant, id, moment(by.At)); err != nil {
				return fail("delete a group", err)
			}
		}
		if err := noteChanged(ctx, tx, by.Tenant, memberIDs(members)); err != nil {
			return err
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
		if err := chooseAnew(ctx, tx, by, g); err != nil {
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
		if g, err = staticGroup(ctx, tx, by.Tenant, id); err != nil {
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
		if err := moveMembers(ctx, tx, by, joining, g, verdict.Waits(g, len(joining), limit)); err != nil {
			return err
		}
		if err := noteChanged(ctx, tx, by.Tenant, memberIDs(joining)); err != nil {
			return err
		}
		if g, err = livingGroup(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.MembersMoved(id, memberIDs(joining), id))
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
}

// RemoveGroupMembers implements store.Groups.
func (s *Store) RemoveGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID) (g fleet.Group, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if g, err = staticGroup(ctx, tx, by.Tenant, id); err != nil {
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
		if err := moveMembers(ctx, tx, by, leaving, fleet.Group{}, false); err != nil {
			return err
		}
		if err := noteChanged(ctx, tx, by.Tenant, memberIDs(leaving)); err != nil {
			return err
		}
		if g, err = livingGroup(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.MembersMoved(id, memberIDs(leaving), ""))
	})
	if err != nil {
		return fleet.Group{}, err
	}
	return g, nil
}

// staticGroup finds a group whose members operators choose.
func staticGroup(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.GroupID) (fleet.Group, error) {
	g, err := livingGroup(ctx, tx, tenant, id)
	if err == nil && g.Dynamic() {
		return fleet.Group{}, fmt.Errorf("change the members of a group: %w", store.ErrDynamic)
	}
	return g, err
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

func memberIDs(members []membership) []fleet.AgentID {
	agents := make([]fleet.AgentID, len(members))
	for i, m := range members {
		agents[i] = m.agent
	}
	return agents
}

// moveMembers moves agents from the groups they are in to another, or to none if that is the zero one: with what they get
// there by default, an event each, and the engine woken. Where they wait they get what the group gives by a rollout.
func moveMembers(ctx context.Context, tx *sql.Tx, by fleet.By, members []membership, to fleet.Group, wait bool) error {
	agents := memberIDs(members)
	_, err := tx.ExecContext(ctx, "UPDATE agents SET group_id = ?3 WHERE tenant_id = ?1 AND id IN (SELECT value FROM json_each(?2))", by.Tenant, asJSON(agents), column.OrNull(to.ID))
	if err != nil {
		return fail("move members", err)
	}
	if err := leaveGroups(ctx, tx, by, members); err != nil {
		return err
	}
	if wait {
		if err := waitIn(ctx, tx, by, agents, to); err != nil {
			return err
		}
	}
	if err := giveDefault(ctx, tx, by, agents, to); err != nil {
		return err
	}
	if err := wakeBy(ctx, tx, by, agents...); err != nil {
		return err
	}
	for _, m := range members {
		if err := appendEvent(ctx, tx, trail.Moved(by, m.agent, m.group, to.ID)); err != nil {
			return err
		}
	}
	return nil
}

// waitIn lets agents wait in the group that they have just joined.
func waitIn(ctx context.Context, tx *sql.Tx, by fleet.By, agents []fleet.AgentID, to fleet.Group) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agents_waiting (tenant_id, agent_id, group_id, since) SELECT ?1, value, ?3, ?4 FROM json_each(?2)`,
		by.Tenant, asJSON(agents), to.ID, moment(by.At))
	return fail("let agents wait", err)
}

// giveDefault assigns the default of their group to agents that have just joined it, in the place of the one that they got
// from the group before. A default of which nothing is published any more is left out.
func giveDefault(ctx context.Context, tx *sql.Tx, by fleet.By, agents []fleet.AgentID, to fleet.Group) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM assignments WHERE tenant_id = ?1 AND target = 'default' AND target_id IN (SELECT value FROM json_each(?2))", by.Tenant, asJSON(agents))
	if err != nil {
		return fail("take defaults away", err)
	}
	if to.Default.Config == "" {
		return nil
	}
	version, err := published(ctx, tx, by.Tenant, to.Default.Config, to.Default.Version)
	if errors.Is(err, store.ErrState) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO assignments (tenant_id, target, target_id, config_id, version, generation, created_by, created_at)
		SELECT ?1, 'default', value, ?3, ?4, 1, ?5, ?6 FROM json_each(?2)`,
		by.Tenant, asJSON(agents), to.Default.Config, version, by.Principal.Name, moment(by.At))
	if err != nil {
		return fail("give a default", err)
	}
	if err := appendAudit(ctx, tx, by, trail.DefaultGiven(to, version, agents)); err != nil {
		return err
	}
	for _, a := range agents {
		if err := appendEvent(ctx, tx, trail.GotDefault(by, to, version, a)); err != nil {
			return err
		}
	}
	return nil
}

const groupColumns = `g.tenant_id, g.id, g.name, g.description, g.selector, g.priority,
	g.default_config, coalesce((SELECT c.name FROM configs c WHERE c.tenant_id = g.tenant_id AND c.id = g.default_config), ''),
	g.default_version, g.default_on_claims, g.failing, g.failing_since, g.failure, g.created_at, g.deleted_at,
	(SELECT count(*) FROM agents a WHERE a.tenant_id = g.tenant_id AND a.group_id = g.id),
	(SELECT count(*) FROM agents_waiting w WHERE w.tenant_id = g.tenant_id AND w.group_id = g.id),
	EXISTS (SELECT 1 FROM assignments s WHERE s.tenant_id = g.tenant_id AND s.target = 'group' AND s.target_id = g.id),
	EXISTS (SELECT 1 FROM assignments s JOIN rollouts r ON r.tenant_id = s.tenant_id AND r.id = s.rollout_id
		WHERE s.tenant_id = g.tenant_id AND s.target = 'group' AND s.target_id = g.id AND r.state <> 'completed')`

func scanGroup(row scanner) (g fleet.Group, err error) {
	err = row.Scan(&g.Tenant, &g.ID, &g.Name, &g.Description, &g.Selector, &g.Priority,
		(*text)(&g.Default.Config), &g.Default.ConfigName, &g.Default.Version, &g.DefaultOnClaims,
		&g.Failing.Agents, (*instant)(&g.Failing.Since), &g.Failing.Words, (*instant)(&g.CreatedAt), (*instant)(&g.DeletedAt),
		&g.MemberCount, &g.WaitingCount, &g.Assigned, &g.Settling)
	return g, err
}

// livingGroup reads a group that is not deleted.
func livingGroup(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.GroupID) (fleet.Group, error) {
	g, err := one(ctx, tx, scanGroup, `
		SELECT `+groupColumns+` FROM groups g WHERE tenant_id = ?1 AND id = ?2 AND deleted_at IS NULL`, tenant, id)
	return g, fail("find a group", err)
}
