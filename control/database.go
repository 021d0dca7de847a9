// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/run"
)

// databasePause is the rest between two tries to reach a database at the start.
const databasePause = 500 * time.Millisecond

// openStore opens the database at url, waiting for one that is away.
func openStore(ctx context.Context, d Database, log *slog.Logger) (store.Store, error) {
	var db store.Store
	away := func(err error) bool { return errors.Is(err, store.ErrUnavailable) }
	err := patiently(ctx, d.Wait, log, away, func() (err error) {
		db, err = openOnce(ctx, d.URL.Reveal())
		return err
	})
	return db, err
}

// patiently does what fails while the database is away, until it is there or the time is over.
func patiently(ctx context.Context, limit time.Duration, log *slog.Logger, away func(error) bool, do func() error) error {
	deadline := time.Now().Add(limit)
	for said := false; ; said = true {
		err := do()
		if err == nil || !away(err) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		if !said {
			log.WarnContext(ctx, "the database cannot be reached; waiting for it", "for", limit.String(), "error", err)
		}
		_ = run.Sleep(ctx, databasePause)
	}
}

func openOnce(ctx context.Context, url string) (store.Store, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		s, err := sqlite.Open(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("open SQLite database: %w", err)
		}
		return s, nil
	}
	s, err := postgres.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL database: %w", err)
	}
	return s, nil
}

// Migrate brings the database to this program's schema, waiting for one that is away, and returns what that took.
func Migrate(ctx context.Context, d Database, log *slog.Logger) (done []migrations.Migration, err error) {
	err = patiently(ctx, d.Wait, log, migrations.Unreachable, func() (err error) {
		done, err = migrations.Apply(ctx, d.URL.Reveal())
		return err //nolint:wrapcheck // it says what it was doing
	})
	return done, err
}
