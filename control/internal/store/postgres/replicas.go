// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// replicaMemory is how long replicas whose lease ended are kept.
const replicaMemory = time.Hour

// living holds if the replica named in the column holder has its lease at $1.
const living = "EXISTS (SELECT FROM replicas r WHERE r.id = holder AND r.lease_until > $1)"

// RenewReplica implements store.Replicas.
func (s *Store) RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) (living []string, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO replicas (id, version, started_at, lease_until) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until`,
			r.ID, r.Version, moment(r.StartedAt), moment(r.LeaseUntil))
		if err != nil {
			return fail("renew the replica's lease", err)
		}
		// Whom another replica is forgetting, it forgets: two that forget at once would wait for each other.
		_, err = tx.Exec(ctx, `
			DELETE FROM replicas WHERE id IN (SELECT id FROM replicas WHERE lease_until <= $1 FOR UPDATE SKIP LOCKED)`,
			moment(now.Add(-replicaMemory)))
		if err != nil {
			return fail("forget former replicas", err)
		}
		living, err = list(ctx, tx, scanName, `SELECT id FROM replicas WHERE lease_until > $1`, moment(now))
		return fail("list the replicas", err)
	})
	slices.Sort(living)
	return living, err
}

func scanName(row pgx.Row) (name string, err error) {
	err = row.Scan(&name)
	return name, err
}

// LeaveReplica implements store.Replicas.
func (s *Store) LeaveReplica(ctx context.Context, id string) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM replicas WHERE id = $1`, id)
		return fail("end the replica's lease", err)
	})
}

// AcquireDuty implements store.Replicas. The first statement does no more than lock the row: who waited for it asks in
// the second who has the duty by now, and whether they live.
func (s *Store) AcquireDuty(ctx context.Context, duty, holder string, now time.Time) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO duties (name, holder) VALUES ($1, '') ON CONFLICT (name) DO UPDATE SET holder = duties.holder`, duty)
		if err != nil {
			return fail("lock the duty", err)
		}
		taken, err := tx.Exec(ctx, `UPDATE duties SET holder = $3 WHERE name = $2 AND (holder = $3 OR NOT `+living+`)`,
			moment(now), duty, holder)
		if err == nil && taken.RowsAffected() == 0 {
			return fmt.Errorf("acquire the duty %s: %w", duty, store.ErrLeaseLost)
		}
		return fail("acquire a duty", err)
	})
}

// Clock implements store.Replicas.
func (s *Store) Clock(ctx context.Context) (now time.Time, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		return fail("read the clock", tx.QueryRow(ctx, "SELECT clock_timestamp()").Scan((*instant)(&now)))
	})
	return now, err
}
