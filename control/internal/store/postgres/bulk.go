// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Act implements store.Bulk. Whom it is about is decided on rows that are locked until the commit, in the order of their
// ids.
func (s *Store) Act(ctx context.Context, by fleet.By, act fleet.Act) (outcome fleet.ActOutcome, err error) {
	in := s.inTenant
	if act.Preview {
		in = s.reading
	}
	err = in(ctx, by.Tenant, func(tx pgx.Tx) error {
		d, err := decideAct(ctx, tx, by, act)
		if err != nil {
			return err
		}
		outcome = d.outcome
		switch {
		case act.Preview:
			outcome.Sample, err = agentsOf(ctx, tx, by.Tenant, outcome.Done[:min(len(outcome.Done), fleet.SampleSize)])
			err = fail("read a sample", err)
		case len(outcome.Done) > 0:
			err = doAct(ctx, tx, by, act, d)
		}
		return err
	})
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	return outcome, nil
}

// decidedAct is what is to be done, and to whom.
type decidedAct struct {
	outcome  fleet.ActOutcome
	subjects map[fleet.AgentID]verdict.Subject
	to       fleet.Group // of a move
}

func decideAct(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act) (d decidedAct, err error) {
	if d.to, err = target(ctx, tx, by.Tenant, act); err != nil {
		return d, err
	}
	agents, err := selected(ctx, tx, by, act)
	if err != nil {
		return d, err
	}
	mark, err := verdict.Selected(act, agents)
	if err != nil {
		return d, err
	}
	if d.subjects, err = readSubjects(ctx, tx, by.Tenant, act, agents); err != nil {
		return d, err
	}
	d.outcome = verdict.OfAct(act, agents, d.subjects)
	d.outcome.Mark = mark
	return d, nil
}

// target is the static group that agents are to be moved into; the zero one if it is none. Unless it is a preview its lock
// is held, so that it stays as it is.
func target(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, act fleet.Act) (fleet.Group, error) {
	if act.Kind != fleet.ActMove || act.To == "" {
		return fleet.Group{}, nil
	}
	lock := lockGroup
	if act.Preview {
		lock = ""
	}
	return staticGroup(ctx, tx, tenant, act.To, lock)
}

// selected are the ids of whom an act is about, and of one more than it may be about if there are too many.
func selected(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act) ([]fleet.AgentID, error) {
	if act.Agents != nil {
		return verdict.Named(act.Agents), nil
	}
	query, args := matching(by.Tenant, act.Filter, by.At, "", act.Most+1)
	agents, err := list(ctx, tx, scanAgentID, query, args...)
	return agents, fail("select the agents", err)
}

// readSubjects reads what an act depends on, of agents whose rows it locks unless it is a preview.
func readSubjects(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, act fleet.Act, agents []fleet.AgentID) (map[fleet.AgentID]verdict.Subject, error) {
	named := ids(agents, itself)
	if !act.Preview {
		_, err := tx.Exec(ctx, `SELECT FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, named)
		if err != nil {
			return nil, fail("lock the agents", err)
		}
	}
	subjects := make(map[fleet.AgentID]verdict.Subject, len(agents))
	_, err := list(ctx, tx, func(row pgx.Row) (s verdict.Subject, err error) {
		var bits int64
		err = row.Scan(&s.ID, (*text)(&s.Group), &s.Open, &s.Delivery, &bits, &s.Tags)
		s.Can = fleet.Capabilities(column.Unbits(bits))
		subjects[s.ID] = s
		return s, err
	}, `
		SELECT a.id, a.group_id, a.epoch > 0 AND a.ended_at IS NULL, coalesce(d.state, ''), a.capabilities, `+tagsOfAgent+`
		FROM agents a LEFT JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
		WHERE a.tenant_id = $1 AND a.id `+among, tenant, named)
	return subjects, fail("read the agents", err)
}

// doAct does it to those it can be done to, and leaves the trail.
func doAct(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act, d decidedAct) (err error) {
	var batch pgx.Batch
	switch act.Kind {
	case fleet.ActTag:
		queueTags(&batch, by, act.Tags, d.outcome.Done)
		queueRetagged(&batch, by, d.outcome.Done)
	case fleet.ActMove:
		members := array(d.outcome.Done, func(id fleet.AgentID) membership { return membership{id, d.subjects[id].Group} })
		err = moveMembers(ctx, tx, by, members, d.to, verdict.Waits(d.to, len(members), act.Limit))
		queueChanged(&batch, by.Tenant, d.outcome.Done)
	case fleet.ActPush:
		queuePush(&batch, by, d.outcome.Done)
	case fleet.ActRestart:
		queueRestart(&batch, by, d.outcome.Done)
	case fleet.ActDrain:
		queueDrain(&batch, by, act, d.outcome.Done)
	}
	if err == nil {
		err = fail(string(act.Kind), tx.SendBatch(ctx, &batch).Close())
	}
	if err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, trail.Acted(act, d.outcome))
}

// queueTags changes the tags of agents. What an operator sets is the operator's, whoever set it before.
func queueTags(batch *pgx.Batch, by fleet.By, change fleet.TagChange, agents []fleet.AgentID) {
	of := ids(agents, itself)
	batch.Queue(`DELETE FROM agent_tags WHERE tenant_id = $1 AND agent_id `+among+` AND key = ANY($3)`, by.Tenant, of, texts(change.Remove))
	keys := slices.Sorted(maps.Keys(change.Set))
	batch.Queue(`
		INSERT INTO agent_tags (tenant_id, agent_id, key, value, origin)
		SELECT $1, a.id, s.key, s.value, $5 FROM unnest($2::uuid[]) AS a (id), unnest($3::text[], $4::text[]) AS s (key, value)
		ON CONFLICT (tenant_id, agent_id, key) DO UPDATE SET value = excluded.value, origin = excluded.origin`,
		by.Tenant, of, texts(keys), array(keys, func(key string) string { return change.Set[key] }), fleet.TagOfOperator)
	queueEvents(batch, array(agents, func(id fleet.AgentID) fleet.Event { return trail.Tagged(by, id, change) }))
}

// queueRetagged lets those look again who look at tags: groups that choose, and the engine, for templates.
func queueRetagged(batch *pgx.Batch, by fleet.By, agents []fleet.AgentID) {
	queueChanged(batch, by.Tenant, agents)
	queueWake(batch, by.Tenant, by.At, wokenBy(by, agents))
}

// queuePush asks the engine to send what is assigned once more.
func queuePush(batch *pgx.Batch, by fleet.By, agents []fleet.AgentID) {
	queueWake(batch, by.Tenant, by.At, wokenBy(by, agents))
	batch.Queue(`UPDATE work SET push = true WHERE tenant_id = $1 AND agent_id `+among, by.Tenant, ids(agents, itself))
}

// queueDrain ends sessions, one after the other.
func queueDrain(batch *pgx.Batch, by fleet.By, act fleet.Act, agents []fleet.AgentID) {
	batch.Queue(`
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at, traceparent)
		SELECT $1, id, $4, $5, due, $6 FROM unnest($2::uuid[], $3::timestamptz[]) AS d (id, due) ORDER BY id`+onDispatch,
		by.Tenant, ids(agents, itself), moments(verdict.Spread(act, by.At, len(agents)), func(t time.Time) time.Time { return t }),
		fleet.DispatchClose, fleet.EndDrained, by.Trace)
}

// queueRestart asks agents to restart. A later command has a higher generation.
func queueRestart(batch *pgx.Batch, by fleet.By, agents []fleet.AgentID) {
	batch.Queue(`
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at, expires_at, traceparent)
		SELECT $1, id, $3, $4, $5, $6, $7 FROM unnest($2::uuid[]) AS id ORDER BY id`+onDispatch,
		by.Tenant, ids(agents, itself), fleet.DispatchRestart, by.At.UnixMicro(), moment(by.At), moment(by.At.Add(fleet.RestartLife)), by.Trace)
}
