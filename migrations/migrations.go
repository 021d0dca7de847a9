// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package migrations is the schema of Ampora's database, and the only code that changes it.
//
// Migrations go forward only: a release may add what the next one needs, and never takes away what the one before still
// uses, so a program that runs meanwhile is not disturbed and going back means running the former program. Any number
// of processes may call Apply at once; one works, the others wait and find it done. Each migration is one transaction.
//
// PostgreSQL and SQLite have one folder each, with the same file names, tables and columns.
//
// Databases are named as in AMPORA_DATABASE_URL: postgres://… or sqlite:<path>.
package migrations

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pressly/goose/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

//go:embed postgres/*.sql sqlite/*.sql
var files embed.FS

// table is where the database says which migrations it has.
const table = "ampora_migrations"

// Reasons for which Check, and so the start of a program, refuses a database.
const (
	ReasonMissing = "SCHEMA_MISSING" // it holds nothing of Ampora
	ReasonOlder   = "SCHEMA_OLDER"   // it lacks migrations of this program
	ReasonNewer   = "SCHEMA_NEWER"   // it has migrations of a later program
	ReasonForeign = "SCHEMA_FOREIGN" // it has tables or migrations that are not Ampora's
)

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string // "00001_foundation.sql"
	// AppliedAt is when this database got it, UTC; zero if it has not.
	AppliedAt time.Time
}

// Apply brings the database at url to this program's schema and returns what that took, in order. A SQLite file is
// created if it is none, readable by its owner alone. It refuses, as Check does, a database that is newer or another's,
// and changes nothing then.
func Apply(ctx context.Context, url string) ([]Migration, error) {
	d, err := open(url, create)
	if err != nil {
		return nil, err
	}
	defer d.close()
	var applied []Migration
	err = d.exclusively(ctx, func() error {
		known, err := d.status(ctx)
		if err != nil && !fault.Is(err, ReasonMissing) && !fault.Is(err, ReasonOlder) {
			return err
		}
		if pending(known) == nil && err == nil {
			return nil
		}
		applied, err = d.up(ctx)
		return err
	})
	return applied, err
}

// Check says whether this program may use the database at url: nil if its schema is exactly the program's, else a
// fault.Error with one of the Reasons, or what kept it from looking. It writes nothing.
func Check(ctx context.Context, url string) error {
	_, err := Status(ctx, url)
	return err
}

// Status returns all migrations of this program, in order, and what Check says. It writes nothing.
func Status(ctx context.Context, url string) ([]Migration, error) {
	d, err := open(url, use)
	if err != nil {
		return nil, err
	}
	defer d.close()
	return d.status(ctx)
}

// judge compares what the program knows with what the database has.
func judge(known []Migration, has map[int64]time.Time) ([]Migration, error) {
	known = slices.Clone(known)
	for i, m := range known {
		known[i].AppliedAt = has[m.Version]
	}
	newest := known[len(known)-1].Version
	for version := range has {
		isKnown := slices.ContainsFunc(known, func(m Migration) bool { return m.Version == version })
		switch {
		case version > newest:
			return known, fault.New(fault.FailedPrecondition, ReasonNewer,
				"this program is older than the database's schema: it knows migrations up to %d, the database has %d", newest, version)
		case !isKnown:
			return known, fault.New(fault.FailedPrecondition, ReasonForeign,
				"the database has migration %d, which is none of this program's", version)
		}
	}
	if missing := pending(known); missing != nil {
		return known, fault.New(fault.FailedPrecondition, ReasonOlder,
			"the database's schema is older than this program: it lacks %s; run migrate up", missing.Name)
	}
	return known, nil
}

// pending is the first migration that is not applied, or nil.
func pending(list []Migration) *Migration {
	i := slices.IndexFunc(list, func(m Migration) bool { return m.AppliedAt.IsZero() })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// status reads what the database has. No migrations' table: the database is empty, or another program's.
func (d *database) status(ctx context.Context) ([]Migration, error) {
	known, err := d.known()
	if err != nil {
		return nil, err
	}
	tables, err := d.tables(ctx)
	switch {
	case err != nil:
		return known, err
	case slices.Contains(tables, table):
		has, err := d.applied(ctx)
		if err != nil {
			return known, err
		}
		return judge(known, has)
	case len(tables) > 0:
		return known, fault.New(fault.FailedPrecondition, ReasonForeign,
			"the database holds tables of something else than Ampora; give Ampora a database of its own")
	default:
		return known, fault.New(fault.FailedPrecondition, ReasonMissing, "the database has no schema of Ampora; run migrate up")
	}
}

// up applies what is pending.
func (d *database) up(ctx context.Context) ([]Migration, error) {
	provider, err := d.provider()
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	has, err := d.applied(ctx)
	if err != nil {
		return nil, err
	}
	done := make([]Migration, len(results))
	for i, r := range results {
		done[i] = Migration{Version: r.Source.Version, Name: r.Source.Path, AppliedAt: has[r.Source.Version]}
	}
	return done, nil
}

// known lists the program's migrations.
func (d *database) known() ([]Migration, error) {
	provider, err := d.provider()
	if err != nil {
		return nil, err
	}
	var list []Migration
	for _, source := range provider.ListSources() {
		list = append(list, Migration{Version: source.Version, Name: source.Path})
	}
	slices.SortFunc(list, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}

func (d *database) provider() (*goose.Provider, error) {
	provider, err := goose.NewProvider(d.dialect, d.db, d.files,
		goose.WithTableName(table), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return provider, nil
}

// Digest changes whenever a migration of any backend does. Tests name their template databases by it.
func Digest() string {
	sum := sha256.New()
	// Embedded files can be read, and the walk is in the order of their names.
	_ = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, _ error) error {
		if !entry.IsDir() {
			text, _ := files.ReadFile(path)
			_, _ = fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		}
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
