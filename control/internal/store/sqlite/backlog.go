// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/store"
)

// Backlog implements store.Queues.
func (s *Store) Backlog(ctx context.Context, now time.Time) (b store.Backlog, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
			SELECT (SELECT count(*) FROM (SELECT 1 FROM work WHERE wake_at <= ?1 LIMIT ?2)),
			       (SELECT min(wake_at) FROM work WHERE wake_at <= ?1),
			       (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE due_at <= ?1 LIMIT ?2)),
			       (SELECT min(due_at) FROM outbox WHERE due_at <= ?1),
			       (SELECT count(*) FROM rollouts WHERE state = 'in_progress'),
			       (SELECT count(*) FROM rollouts WHERE state = 'paused'),
			       (SELECT count(*) FROM rollouts WHERE state = 'rolling_back')`,
			moment(now), store.BacklogLimit).Scan(&b.Work.Due, (*instant)(&b.Work.Oldest), &b.Outbox.Due, (*instant)(&b.Outbox.Oldest),
			&b.InProgress, &b.Paused, &b.RollingBack)
		return fail("measure the queues", err)
	})
	return b, err
}
