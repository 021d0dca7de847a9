// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
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
		var subjects map[fleet.AgentID]verdict.Subject
		if outcome, subjects, err = decideAct(ctx, tx, by, act); err != nil {
			return err
		}
		switch {
		case act.Preview:
			outcome.Sample, err = agentsOf(ctx, tx, by.Tenant, outcome.Done[:min(len(outcome.Done), fleet.SampleSize)])
			err = fail("read a sample", err)
		case len(outcome.Done) > 0:
			err = doAct(ctx, tx, by, act, outcome, subjects)
		}
		return err
	})
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	return outcome, nil
}

func decideAct(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act) (outcome fleet.ActOutcome, subjects map[fleet.AgentID]verdict.Subject, err error) {
	var room int
	if act.Kind == fleet.ActMove {
		if room, err = roomIn(ctx, tx, by.Tenant, act); err != nil {
			return fleet.ActOutcome{}, nil, err
		}
	}
	agents, err := selected(ctx, tx, by, act)
	if err != nil {
		return fleet.ActOutcome{}, nil, err
	}
	mark, err := verdict.Selected(act, agents)
	if err != nil {
		return fleet.ActOutcome{}, nil, err
	}
	if subjects, err = readSubjects(ctx, tx, by.Tenant, act, agents); err != nil {
		return fleet.ActOutcome{}, nil, err
	}
	outcome = verdict.OfAct(act, agents, subjects)
	outcome.Mark = mark
	if act.Kind == fleet.ActMove && len(outcome.Done) > max(room, 0) {
		return fleet.ActOutcome{}, nil, fmt.Errorf("move %d agents: %w", len(outcome.Done), store.ErrLimit)
	}
	return outcome, subjects, nil
}

// roomIn is how many agents may be moved into the group: any number while nothing is assigned to it. Unless it is a
// preview it holds the group's lock, so that it stays so.
func roomIn(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, act fleet.Act) (int, error) {
	if act.To == "" {
		return act.Most, nil
	}
	lock := lockGroup
	if act.Preview {
		lock = ""
	}
	g, err := livingGroup(ctx, tx, tenant, act.To, lock)
	if err != nil {
		return 0, err
	}
	assigned, err := isAssigned(ctx, tx, tenant, act.To)
	if !assigned {
		return act.Most, err
	}
	return act.Limit - g.MemberCount, err
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
func doAct(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act, outcome fleet.ActOutcome, subjects map[fleet.AgentID]verdict.Subject) (err error) {
	var batch pgx.Batch
	switch act.Kind {
	case fleet.ActTag:
		queueTags(&batch, by, act.Tags, outcome.Done)
	case fleet.ActMove:
		err = moveMembers(ctx, tx, by, array(outcome.Done, func(id fleet.AgentID) membership { return membership{id, subjects[id].Group} }), act.To)
	case fleet.ActPush:
		queuePush(&batch, by, outcome.Done)
	case fleet.ActRestart:
		queueRestart(&batch, by, outcome.Done)
	case fleet.ActDrain:
		queueDrain(&batch, by, act, outcome.Done)
	}
	if err == nil {
		err = fail(string(act.Kind), tx.SendBatch(ctx, &batch).Close())
	}
	if err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, trail.Acted(act, outcome))
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

// queuePush asks the engine to send what is assigned once more.
func queuePush(batch *pgx.Batch, by fleet.By, agents []fleet.AgentID) {
	woken := make(map[fleet.AgentID]fleet.Traceparent, len(agents))
	for _, id := range agents {
		woken[id] = by.Trace
	}
	queueWake(batch, by.Tenant, by.At, woken)
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
