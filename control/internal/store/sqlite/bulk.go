// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"

	"gitlab.com/ampora/ampora/control/internal/fleet"
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
		if outcome, err = decideAct(ctx, tx, by, act); err != nil {
			return err
		}
		switch {
		case act.Preview:
			outcome.Sample, err = agentsOf(ctx, tx, by.Tenant, outcome.Done[:min(len(outcome.Done), fleet.SampleSize)])
			err = fail("read a sample", err)
		case len(outcome.Done) > 0:
			err = doAct(ctx, tx, by, act, outcome)
		}
		return err
	})
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	return outcome, nil
}

func decideAct(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act) (fleet.ActOutcome, error) {
	agents, err := selected(ctx, tx, by, act)
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	mark, err := verdict.Selected(act, agents)
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	subjects, err := readSubjects(ctx, tx, by.Tenant, agents)
	if err != nil {
		return fleet.ActOutcome{}, err
	}
	outcome := verdict.OfAct(act, agents, subjects)
	outcome.Mark = mark
	return outcome, nil
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
		err = row.Scan(&s.ID, document(&s.Tags))
		subjects[s.ID] = s
		return s, err
	}, `SELECT a.id, `+tagsOfAgent+` FROM agents a WHERE a.tenant_id = ?1 AND a.id `+among, tenant, asJSON(agents))
	return subjects, fail("read the agents", err)
}

// among compares an id with the list that is parameter ?2, as JSON.
const among = `IN (SELECT value FROM json_each(?2))`

// doAct does it to those it can be done to, and leaves the trail.
func doAct(ctx context.Context, tx *sql.Tx, by fleet.By, act fleet.Act, outcome fleet.ActOutcome) (err error) {
	switch act.Kind {
	case fleet.ActTag:
		err = writeTags(ctx, tx, by, act.Tags, outcome.Done)
	}
	if err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, trail.Acted(act, outcome))
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
