// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Errors of this bus beside those of package bus: mistakes of an installation, which
// trying again does not mend.
var (
	// ErrDenied: the login may not do this, or its password is wrong.
	ErrDenied = fault.New(fault.PermissionDenied, "BUS_DENIED", "the database does not let this login use the bus so")
	// ErrNoSchema: the database has no bus, or that of another release.
	ErrNoSchema = fault.New(fault.FailedPrecondition, "BUS_SCHEMA_MISSING", "the database lacks the bus of this program; run ampora-control migrate up")

	errURL = fault.New(fault.Invalid, "BUS_URL", "the bus URL is none of PostgreSQL: postgres://user@host:port/database")
)

// fail is where errors of the driver die: what leaves is nil, a sentinel with what was
// tried, or an error nobody foresaw.
func fail(what string, err error) error {
	var pg *pgconn.PgError
	var known *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &pg):
		return failCode(what, pg)
	case disconnected(err):
		return fmt.Errorf("%s: %w: %v", what, bus.ErrUnavailable, err) //nolint:errorlint // the driver's error dies here
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// failCode maps an error of the server by its SQLSTATE (PostgreSQL manual, appendix A).
func failCode(what string, pg *pgconn.PgError) error {
	var sentinel error
	switch {
	case pg.Code == "42501", // insufficient_privilege
		strings.HasPrefix(pg.Code, "28"): // wrong password, unknown login
		sentinel = ErrDenied
	case pg.Code == "3F000", pg.Code == "42883", // no such schema, no such function
		pg.Code == "22023" && strings.Contains(pg.Message, "role"), // SET ROLE to one that does not exist
		pg.Code == "3D000": // no such database
		sentinel = ErrNoSchema
	case away(pg), lost(pg):
		sentinel = bus.ErrUnavailable
	default:
		return fmt.Errorf("%s: %w", what, pg)
	}
	return fmt.Errorf("%s: %w: %s (%s)", what, sentinel, pg.Message, pg.Code)
}

// away reports whether the server cannot serve, for now.
func away(pg *pgconn.PgError) bool {
	switch pg.Code {
	case "25006", // read_only_sql_transaction: a standby, after a switch
		"0A000", // feature_not_supported: unlogged tables on a standby
		"25P03", // idle_in_transaction_session_timeout
		"55P03", // lock_not_available: somebody stands on the streams
		"57014": // query_canceled: statement_timeout
		return true
	}
	return strings.HasPrefix(pg.Code, "08") || // connection exceptions
		strings.HasPrefix(pg.Code, "53") || // no disk, no memory, no connections left
		strings.HasPrefix(pg.Code, "57P") || // shutdown, crash, cannot connect now
		strings.HasPrefix(pg.Code, "58") // the server's own I/O
}

// lost reports whether err is that of a transaction that lost against another, and
// was undone: it may be run again.
func lost(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01") // serialization_failure, deadlock_detected
}

func disconnected(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) // by callTime: the caller's own end is told before
}
