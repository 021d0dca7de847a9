// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/store"
)

// ClaimWork implements store.Work. The claim makes a new version too: who claimed the item before and was too slow does
// not settle it any more.
func (s *Store) ClaimWork(ctx context.Context, now, until time.Time, max int) (items []store.WorkItem, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		items, err = list(ctx, tx, scanWorkItem, `
			UPDATE work SET wake_at = ?2, version = version + 1
			WHERE (tenant_id, agent_id) IN (SELECT tenant_id, agent_id FROM work WHERE wake_at <= ?1 ORDER BY wake_at LIMIT ?3)
			RETURNING tenant_id, agent_id, version, traceparent, push`,
			moment(now), moment(until), max)
		return fail("claim work", err)
	})
	return items, err
}

func scanWorkItem(row scanner) (w store.WorkItem, err error) {
	err = row.Scan(&w.Tenant, &w.Agent, &w.Version, &w.Trace, &w.Push)
	return w, err
}
