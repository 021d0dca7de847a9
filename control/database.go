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
)

// databasePause is the rest between two tries to reach a database at the start.
const databasePause = 500 * time.Millisecond

// openStore opens the database at url, waiting for one that is away.
func openStore(ctx context.Context, d Database, log *slog.Logger) (store.Store, error) {
	deadline := time.Now().Add(d.Wait)
	for said := false; ; said = true {
		s, err := openOnce(ctx, d.URL.Reveal())
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, err
		}
		if !said {
			log.Warn("the database cannot be reached; waiting for it", "for", d.Wait.String(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(databasePause):
		}
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

// Migrate brings the database to this program's schema, waiting for one that is away, and says what it did.
func Migrate(ctx context.Context, d Database, log *slog.Logger) error {
	done, err := migrations.Apply(ctx, d.URL.Reveal())
	for _, m := range done {
		log.Info("migrated the database", "migration", m.Name)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
