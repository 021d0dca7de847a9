// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Act implements store.Bulk.
func (s *Store) Act(ctx context.Context, by fleet.By, act fleet.Act) (outcome fleet.ActOutcome, err error) {
	in := s.inTenant
	if act.Preview {
		in = s.reading
	}
	err = in(ctx, by.Tenant, func(tx *sql.Tx) error {
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

func decideAct(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act) (d decidedAct, err error) {
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
	if d.subjects, err = readSubjects(ctx, tx, by.Tenant, agents); err != nil {
		return d, err
	}
	d.outcome = verdict.OfAct(act, agents, d.subjects)
	d.outcome.Mark = mark
	return d, nil
}

// target is the static group that agents are to be moved into; the zero one if it is none.
func target(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, act fleet.Act) (fleet.Group, error) {
	if act.Kind != fleet.ActMove || act.To == "" {
		return fleet.Group{}, nil
	}
	return staticGroup(ctx, tx, tenant, act.To)
}

// selected are the ids of whom an act is about, and of one more than it may be about if there are too many.
func selected(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act) ([]fleet.AgentID, error) {
	if act.Agents != nil {
		return verdict.Named(act.Agents), nil
	}
	query, args := matching(by.Tenant, act.Filter, by.At, "", act.Most+1)
	agents, err := list(ctx, tx, scanAgentID, query, args...)
	return agents, fail("select the agents", err)
}

func scanAgentID(row scanner) (id fleet.AgentID, err error) {
	err = row.Scan(&id)
	return id, err
}

// readSubjects reads what an act depends on.
func readSubjects(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agents []fleet.AgentID) (map[fleet.AgentID]verdict.Subject, error) {
	subjects := make(map[fleet.AgentID]verdict.Subject, len(agents))
	_, err := list(ctx, tx, func(row scanner) (s verdict.Subject, err error) {
		var bits int64
		err = row.Scan(&s.ID, (*text)(&s.Group), &s.Open, &s.Delivery, &bits, document(&s.Tags))
		s.Can = fleet.Capabilities(column.Unbits(bits))
		subjects[s.ID] = s
		return s, err
	}, `
		SELECT a.id, a.group_id, a.epoch > 0 AND a.ended_at IS NULL, coalesce(d.state, ''), a.capabilities, `+tagsOfAgent+`
		FROM agents a LEFT JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
		WHERE a.tenant_id = ?1 AND a.id `+among, tenant, asJSON(agents))
	return subjects, fail("read the agents", err)
}

// among compares an id with the list that is parameter ?2, as JSON.
const among = `IN (SELECT value FROM json_each(?2))`

// doAct does it to those it can be done to, and leaves the trail.
func doAct(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act, d decidedAct) (err error) {
	switch act.Kind {
	case fleet.ActTag:
		err = errors.Join(writeTags(ctx, tx, by, act.Tags, d.outcome.Done), retagged(ctx, tx, by, d.outcome.Done))
	case fleet.ActMove:
		members := make([]membership, len(d.outcome.Done))
		for i, id := range d.outcome.Done {
			members[i] = membership{id, d.subjects[id].Group}
		}
		err = errors.Join(moveMembers(ctx, tx, by, members, d.to, verdict.Waits(d.to, len(members), act.Limit)), noteChanged(ctx, tx, by.Tenant, d.outcome.Done))
	case fleet.ActPush:
		err = push(ctx, tx, by, d.outcome.Done)
	case fleet.ActRestart:
		err = restart(ctx, tx, by, d.outcome.Done)
	case fleet.ActDrain:
		err = drain(ctx, tx, by, act, d.outcome.Done)
	}
	if err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, trail.Acted(act, d.outcome))
}

// writeTags changes the tags of agents. What an operator sets is the operator's, whoever set it before.
func writeTags(ctx context.Context, tx *sql.Tx, by fleet.By, change fleet.TagChange, agents []fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `
		DELETE FROM agent_tags WHERE tenant_id = ?1 AND agent_id `+among+` AND key IN (SELECT value FROM json_each(?3))`,
		by.Tenant, asJSON(agents), asJSON(change.Remove))
	if err != nil {
		return fail("remove tags", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO agent_tags (tenant_id, agent_id, key, value, origin)
		SELECT ?1, a.value, s.key, s.value, ?4 FROM json_each(?2) AS a, json_each(?3) AS s WHERE true
		ON CONFLICT (tenant_id, agent_id, key) DO UPDATE SET value = excluded.value, origin = excluded.origin`,
		by.Tenant, asJSON(agents), asJSON(change.Set), fleet.TagOfOperator)
	if err != nil {
		return fail("set tags", err)
	}
	for _, id := range agents {
		if err := appendEvent(ctx, tx, trail.Tagged(by, id, change)); err != nil {
			return err
		}
	}
	return nil
}

// push asks the engine to send what is assigned once more.
func push(ctx context.Context, tx *sql.Tx, by fleet.By, agents []fleet.AgentID) error {
	if err := wakeBy(ctx, tx, by, agents...); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE work SET push = true WHERE tenant_id = ?1 AND agent_id `+among, by.Tenant, asJSON(agents))
	return fail("push", err)
}

// drain ends sessions, one after the other.
func drain(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act, agents []fleet.AgentID) error {
	due := verdict.Spread(act, by.At, len(agents))
	for i, id := range agents {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at, traceparent) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`+onDispatch,
			by.Tenant, id, fleet.DispatchClose, fleet.EndDrained, moment(due[i]), by.Trace)
		if err != nil {
			return fail("drain", err)
		}
	}
	return nil
}

// restart asks agents to restart. A later command has a higher generation.
func restart(ctx context.Context, tx *sql.Tx, by fleet.By, agents []fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at, expires_at, traceparent)
		SELECT ?1, value, ?3, ?4, ?5, ?6, ?7 FROM json_each(?2) WHERE true`+onDispatch,
		by.Tenant, asJSON(agents), fleet.DispatchRestart, by.At.UnixMicro(), moment(by.At), moment(by.At.Add(fleet.RestartLife)), by.Trace)
	return fail("restart", err)
}

// retagged lets those look again who look at tags: groups that choose, and the engine, for templates.
func retagged(ctx context.Context, tx *sql.Tx, by fleet.By, agents []fleet.AgentID) error {
	return errors.Join(noteChanged(ctx, tx, by.Tenant, agents), wakeBy(ctx, tx, by, agents...))
}
