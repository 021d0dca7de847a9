// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// RolloutCandidates implements store.Rollouts. Each table is asked once, for all agents.
func (s *Store) RolloutCandidates(ctx context.Context, tenant fleet.TenantID, of store.RolloutScope) (found []fleet.RolloutCandidate, err error) {
	c := canvass{tenant: tenant, scope: of, at: map[fleet.AgentID]int{}}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		offer, err := c.target(ctx, tx)
		if err != nil {
			return err
		}
		for _, read := range []func() error{
			func() error { return c.agents(ctx, tx) },
			func() error { return c.runs(ctx, tx) },
			func() error { return c.texts(ctx, tx, "agent_labels") },
			func() error { return c.texts(ctx, tx, "agent_tags") },
			func() error { return c.blocked(ctx, tx, offer) },
		} {
			if err := read(); err != nil {
				return fail("read whom a rollout would reach", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.found, nil
}

// canvass is a look at whom a rollout would reach.
type canvass struct {
	tenant fleet.TenantID
	scope  store.RolloutScope
	found  []fleet.RolloutCandidate
	at     map[fleet.AgentID]int // places in found
}

// target refuses what is none, and returns what is offered of the version.
func (c *canvass) target(ctx context.Context, tx *sql.Tx) (offer fleet.OfferHash, err error) {
	if _, err := livingGroup(ctx, tx, c.tenant, c.scope.Group); err != nil {
		return offer, err
	}
	if c.scope.Touched != "" {
		_, err := rollout(ctx, tx, c.tenant, c.scope.Touched)
		return offer, err
	}
	err = tx.QueryRowContext(ctx, `SELECT offer_hash FROM config_versions WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3`,
		c.tenant, c.scope.Config, c.scope.Version).Scan((*hash)(&offer))
	return offer, fail("find the version", err)
}

// agents reads who they are, and which have assignments of their own.
func (c *canvass) agents(ctx context.Context, tx *sql.Tx) error {
	from, target, narrow := "", "NULL, 0", ""
	args := []any{c.tenant, c.scope.Group}
	if c.scope.Waiting {
		from = " JOIN agents_waiting w ON w.tenant_id = ?1 AND w.group_id = ?2 AND w.agent_id = a.id"
		narrow = " AND a.epoch > 0 AND a.ended_at IS NULL"
	}
	if c.scope.Touched != "" {
		from += ` JOIN rollout_members m ON m.tenant_id = ?1 AND m.rollout_id = ?3 AND m.agent_id = a.id AND m.state NOT IN ('pending', 'skipped')`
		target = "m.former_config_id, coalesce(m.former_version, 0)"
		args = append(args, c.scope.Touched)
	}
	_, err := list(ctx, tx, func(row scanner) (a fleet.RolloutCandidate, err error) {
		err = row.Scan(&a.Agent, &a.HostName, (*instant)(&a.LastSeenAt), &a.Online, &a.AcceptsConfig, (*text)(&a.Target.Config), &a.Target.Version, &a.Own)
		c.at[a.Agent], c.found = len(c.found), append(c.found, a)
		return a, err
	}, `
		SELECT a.id, a.host_name, a.last_seen_at, a.epoch > 0 AND a.ended_at IS NULL, a.accepts_config, `+target+`,
			EXISTS (SELECT 1 FROM assignments s WHERE s.tenant_id = ?1 AND s.target = 'agent' AND s.target_id = a.id)
		FROM agents a`+from+` WHERE a.tenant_id = ?1 AND a.group_id = ?2`+narrow+` ORDER BY a.id`, args...)
	return err
}

// inGroup narrows what is read to agents of the group, whose ids are named x.
func inGroup(x string) string {
	return " JOIN agents a ON a.tenant_id = ?1 AND a.group_id = ?2 AND a.id = " + x
}

// runs are what agents were granted and have not failed on.
func (c *canvass) runs(ctx context.Context, tx *sql.Tx) error {
	_, err := list(ctx, tx, func(row scanner) (agent fleet.AgentID, err error) {
		var v fleet.AssignedVersion
		var offer fleet.OfferHash
		err = row.Scan(&agent, &v.Config, &v.Version, (*hash)(&offer))
		if i, known := c.at[agent]; known {
			c.found[i].Runs, c.found[i].RunsOffer = v, offer
		}
		return agent, err
	}, `
		SELECT g.agent_id, g.config_id, g.version, g.offer_hash FROM grants g`+inGroup("g.agent_id")+`
		WHERE g.tenant_id = ?1 AND g.state IN ('open', 'met')`, c.tenant, c.scope.Group)
	return err
}

// blocked are the words of agents on which the version failed before, or what it says.
func (c *canvass) blocked(ctx context.Context, tx *sql.Tx, offer fleet.OfferHash) error {
	if c.scope.Touched != "" {
		return nil
	}
	_, err := list(ctx, tx, func(row scanner) (agent fleet.AgentID, err error) {
		var words string
		err = row.Scan(&agent, &words)
		if i, known := c.at[agent]; known {
			c.found[i].Blocked = words
		}
		return agent, err
	}, `
		SELECT t.agent_id, coalesce(nullif(t.message, ''), t.outcome) FROM attempts t`+inGroup("t.agent_id")+`
		WHERE t.tenant_id = ?1 AND t.outcome IN ('failed', 'rolled_back') AND t.cleared_at IS NULL
			AND (t.offer_hash = ?3 OR t.config_id = ?4 AND t.version = ?5)`, c.tenant, c.scope.Group, offer[:], c.scope.Config, c.scope.Version)
	return err
}

// texts reads labels or tags of the keys that are asked for; what is read later comes before.
func (c *canvass) texts(ctx context.Context, tx *sql.Tx, table string) error {
	keys := slices.Clone(c.scope.Blast)
	if c.scope.Spread != "" {
		keys = append(keys, c.scope.Spread)
	}
	if len(keys) == 0 {
		return nil
	}
	_, err := list(ctx, tx, func(row scanner) (agent fleet.AgentID, err error) {
		var key, value string
		err = row.Scan(&agent, &key, &value)
		if i, known := c.at[agent]; known {
			c.put(&c.found[i], key, value)
		}
		return agent, err
	}, `
		SELECT t.agent_id, t.key, t.value FROM `+table+` t`+inGroup("t.agent_id")+` WHERE t.tenant_id = ?1 AND t.key IN (SELECT value FROM json_each(?3))`,
		c.tenant, c.scope.Group, asJSON(keys))
	return err
}

func (c *canvass) put(to *fleet.RolloutCandidate, key, value string) {
	if key == c.scope.Spread {
		to.Spread = value
	}
	if slices.Contains(c.scope.Blast, key) {
		if to.Blast == nil {
			to.Blast = map[string]string{}
		}
		to.Blast[key] = value
	}
}
