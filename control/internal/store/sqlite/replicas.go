// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// replicaMemory is how long replicas whose lease ended are kept.
const replicaMemory = time.Hour

// living holds if the replica named in the column holder has its lease at ?1.
const living = "EXISTS (SELECT 1 FROM replicas r WHERE r.id = holder AND r.lease_until > ?1)"

// RenewReplica implements store.Replicas.
func (s *Store) RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) (living []string, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO replicas (id, version, started_at, lease_until) VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until`,
			r.ID, r.Version, moment(r.StartedAt), moment(r.LeaseUntil))
		if err != nil {
			return fail("renew the replica's lease", err)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM replicas WHERE lease_until <= ?1`, moment(now.Add(-replicaMemory)))
		if err != nil {
			return fail("forget former replicas", err)
		}
		living, err = list(ctx, tx, scanName, `SELECT id FROM replicas WHERE lease_until > ?1`, moment(now))
		return fail("list the replicas", err)
	})
	slices.Sort(living)
	return living, err
}

func scanName(row scanner) (name string, err error) {
	err = row.Scan(&name)
	return name, err
}

// LeaveReplica implements store.Replicas.
func (s *Store) LeaveReplica(ctx context.Context, id string) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM replicas WHERE id = ?1`, id)
		return fail("end the replica's lease", err)
	})
}

// AcquireDuty implements store.Replicas.
func (s *Store) AcquireDuty(ctx context.Context, duty, holder string, now time.Time) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO duties (name, holder) VALUES (?1, '') ON CONFLICT (name) DO NOTHING`, duty)
		if err != nil {
			return fail("note the duty", err)
		}
		taken, err := changed(tx.ExecContext(ctx, `UPDATE duties SET holder = ?3 WHERE name = ?2 AND (holder = ?3 OR NOT `+living+`)`,
			moment(now), duty, holder))
		if err == nil && taken == 0 {
			return fmt.Errorf("acquire the duty %s: %w", duty, store.ErrLeaseLost)
		}
		return fail("acquire a duty", err)
	})
}

// Clock implements store.Replicas: there is one process, whose clock is the database's.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	return time.Now().UTC().Truncate(time.Microsecond), ctx.Err()
}
