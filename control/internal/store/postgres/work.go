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
	"gitlab.com/ampora/ampora/control/internal/store"
)

// ClaimWork implements store.Work. The claim makes a new version too: who claimed the item before and was too slow does
// nothing about it any more. An item that another engine has locked is passed over.
func (s *Store) ClaimWork(ctx context.Context, now, until time.Time, max int) (items []store.WorkItem, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		items = nil
		due := map[fleet.TenantID][]fleet.AgentID{}
		_, err := list(ctx, tx, func(row pgx.Row) (agent fleet.AgentID, err error) {
			var tenant fleet.TenantID
			err = row.Scan(&tenant, &agent)
			due[tenant] = append(due[tenant], agent)
			return agent, err
		}, `SELECT tenant_id, agent_id FROM work WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2 FOR UPDATE SKIP LOCKED`, moment(now), max)
		if err != nil || len(due) == 0 {
			return fail("find work", err)
		}
		return pipelined(ctx, tx, "claim work", func(q *pipeline) {
			for _, tenant := range slices.Sorted(maps.Keys(due)) {
				item := store.WorkItem{Tenant: tenant}
				q.ask(func() error {
					items = append(items, item)
					return nil
				}, []any{&item.Agent, &item.Version, &item.Trace, &item.Push}, `
					UPDATE work SET wake_at = $3, version = version + 1 WHERE tenant_id = $1 AND agent_id `+among+`
					RETURNING agent_id, version, traceparent, push`, tenant, ids(due[tenant], itself), moment(until))
			}
		})
	})
	return items, err
}
