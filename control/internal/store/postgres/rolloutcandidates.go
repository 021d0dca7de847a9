// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// RolloutCandidates implements store.Rollouts. Each table is asked once, for all agents.
func (s *Store) RolloutCandidates(ctx context.Context, tenant fleet.TenantID, of store.RolloutScope) (found []fleet.RolloutCandidate, err error) {
	c := canvass{tenant: tenant, scope: of}
	err = s.bulkReading(ctx, tenant, func(tx pgx.Tx) error {
		c.of = map[fleet.AgentID]*fleet.RolloutCandidate{}
		offer, err := c.target(ctx, tx)
		if err != nil {
			return err
		}
		return pipelined(ctx, tx, "read whom a rollout would reach", c.agents, c.own, c.runs, c.texts("agent_labels"), c.texts("agent_tags"),
			func(q *pipeline) { c.blocked(q, offer) })
	})
	if err != nil {
		return nil, err
	}
	found = make([]fleet.RolloutCandidate, len(c.order))
	for i, agent := range c.order {
		found[i] = *c.of[agent]
	}
	return found, nil
}

// canvass is a look at whom a rollout would reach.
type canvass struct {
	tenant fleet.TenantID
	scope  store.RolloutScope
	order  []fleet.AgentID
	of     map[fleet.AgentID]*fleet.RolloutCandidate
}

// target refuses what is none, and returns what is offered of the version.
func (c *canvass) target(ctx context.Context, tx pgx.Tx) (offer fleet.OfferHash, err error) {
	if _, err := livingGroup(ctx, tx, c.tenant, c.scope.Group, ""); err != nil {
		return offer, err
	}
	if c.scope.Touched != "" {
		_, err := rollout(ctx, tx, c.tenant, c.scope.Touched, "")
		return offer, err
	}
	err = tx.QueryRow(ctx, `SELECT offer_hash FROM config_versions WHERE tenant_id = $1 AND config_id = $2 AND version = $3`,
		c.tenant, c.scope.Config, c.scope.Version).Scan((*hash)(&offer))
	return offer, fail("find the version", err)
}

func (c *canvass) agents(q *pipeline) {
	var a fleet.RolloutCandidate
	from, target, narrow := "", "NULL::uuid, 0", ""
	args := []any{c.tenant, c.scope.Group}
	if c.scope.Waiting {
		from = " JOIN agents_waiting w ON w.tenant_id = $1 AND w.group_id = $2 AND w.agent_id = a.id"
		narrow = " AND a.epoch > 0 AND a.ended_at IS NULL"
	}
	if c.scope.Touched != "" {
		from += ` JOIN rollout_members m ON m.tenant_id = $1 AND m.rollout_id = $3 AND m.agent_id = a.id AND m.state NOT IN ('pending', 'skipped')`
		target = "m.former_config_id, coalesce(m.former_version, 0)"
		args = append(args, c.scope.Touched)
	}
	q.ask(func() error {
		seen := a
		c.of[a.Agent], c.order = &seen, append(c.order, a.Agent)
		a = fleet.RolloutCandidate{}
		return nil
	}, []any{
		&a.Agent, &a.HostName, (*instant)(&a.LastSeenAt), &a.Online, &a.AcceptsConfig, (*text)(&a.Target.Config), &a.Target.Version,
	}, `
		SELECT a.id, a.host_name, a.last_seen_at, a.epoch > 0 AND a.ended_at IS NULL, a.accepts_config, `+target+`
		FROM agents a`+from+` WHERE a.tenant_id = $1 AND a.group_id = $2`+narrow+` ORDER BY a.id`, args...)
}

// inGroup narrows what is read to agents of the group, whose ids are named x.
func inGroup(x string) string {
	return " JOIN agents a ON a.tenant_id = $1 AND a.group_id = $2 AND a.id = " + x
}

func (c *canvass) own(q *pipeline) {
	var agent fleet.AgentID
	q.ask(func() error {
		if found := c.of[agent]; found != nil {
			found.Own = true
		}
		return nil
	}, []any{&agent}, `
		SELECT s.target_id FROM assignments s`+inGroup("s.target_id")+` WHERE s.tenant_id = $1 AND s.target = 'agent'`, c.tenant, c.scope.Group)
}

// runs are what agents were granted and have not failed on.
func (c *canvass) runs(q *pipeline) {
	var agent fleet.AgentID
	var v fleet.AssignedVersion
	var offer fleet.OfferHash
	q.ask(func() error {
		if found := c.of[agent]; found != nil {
			found.Runs, found.RunsOffer = v, offer
		}
		return nil
	}, []any{&agent, &v.Config, &v.Version, (*hash)(&offer)}, `
		SELECT g.agent_id, g.config_id, g.version, g.offer_hash FROM grants g`+inGroup("g.agent_id")+`
		WHERE g.tenant_id = $1 AND g.state IN ('open', 'met')`, c.tenant, c.scope.Group)
}

// blocked are the words of agents on which the version failed before, or what it says.
func (c *canvass) blocked(q *pipeline, offer fleet.OfferHash) {
	if c.scope.Touched != "" {
		return
	}
	var agent fleet.AgentID
	var words string
	q.ask(func() error {
		if found := c.of[agent]; found != nil {
			found.Blocked = words
		}
		return nil
	}, []any{&agent, &words}, `
		SELECT t.agent_id, coalesce(nullif(t.message, ''), t.outcome) FROM attempts t`+inGroup("t.agent_id")+`
		WHERE t.tenant_id = $1 AND t.outcome IN ('failed', 'rolled_back') AND t.cleared_at IS NULL
			AND (t.offer_hash = $3 OR t.config_id = $4 AND t.version = $5)`, c.tenant, c.scope.Group, offer[:], c.scope.Config, c.scope.Version)
}

// texts reads labels or tags of the keys that are asked for; what is read later comes before.
func (c *canvass) texts(table string) func(q *pipeline) {
	keys := slices.Clone(c.scope.Blast)
	if c.scope.Spread != "" {
		keys = append(keys, c.scope.Spread)
	}
	var agent fleet.AgentID
	var key, value string
	return func(q *pipeline) {
		if len(keys) == 0 {
			return
		}
		q.ask(func() error {
			found := c.of[agent]
			if found == nil {
				return nil
			}
			if key == c.scope.Spread {
				found.Spread = value
			}
			if slices.Contains(c.scope.Blast, key) {
				if found.Blast == nil {
					found.Blast = map[string]string{}
				}
				found.Blast[key] = value
			}
			return nil
		}, []any{&agent, &key, &value}, `
			SELECT t.agent_id, t.key, t.value FROM `+table+` t`+inGroup("t.agent_id")+` WHERE t.tenant_id = $1 AND t.key = ANY($3)`,
			c.tenant, c.scope.Group, keys)
	}
}
