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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"gitlab.com/ampora/ampora/control/internal/store"
)

// errLost marks a transaction that lost against another and may be run again; to callers it is ErrContended.
var errLost = fmt.Errorf("lost against another transaction: %w", store.ErrContended)

// fail is where errors of the driver die: what leaves is nil, an error of the context, or a sentinel of the store
// wrapped with what was tried. Only an error nobody foresaw keeps the driver's as its cause.
func fail(what string, err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", what, store.ErrNotFound)
	case errors.As(err, &pg):
		return failCode(what, pg)
	case disconnected(err):
		return fmt.Errorf("%s: %w: %v", what, store.ErrUnavailable, err) //nolint:errorlint // the driver's error dies here
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// failCode maps an error of the server by its SQLSTATE (PostgreSQL manual, appendix A).
func failCode(what string, pg *pgconn.PgError) error {
	switch {
	case pg.Code == "23505": // unique_violation
		return fmt.Errorf("%s: %w (%s)", what, store.ErrExists, pg.ConstraintName)
	case pg.Code == "23503": // foreign_key_violation
		return fmt.Errorf("%s: %w (%s)", what, store.ErrNotFound, pg.ConstraintName)
	case pg.Code == "22P02" && strings.Contains(pg.Message, "type uuid"):
		// What is no uuid is the id of nothing.
		return fmt.Errorf("%s: %w", what, store.ErrNotFound)
	case pg.Code == "40001", pg.Code == "40P01": // serialization_failure, deadlock_detected
		return fmt.Errorf("%s: %w", what, errLost)
	case strings.HasPrefix(pg.Code, "08"), // connection exceptions
		strings.HasPrefix(pg.Code, "53"),  // no disk, no memory, no connections left
		strings.HasPrefix(pg.Code, "57P"), // shutdown, crash, cannot connect now
		strings.HasPrefix(pg.Code, "58"),  // the server's own I/O
		pg.Code == "25006",                // read_only_sql_transaction: a standby, after a switch
		pg.Code == "25P03",                // idle_in_transaction_session_timeout
		pg.Code == "55P03",                // lock_not_available: lock_timeout
		pg.Code == "57014":                // query_canceled: statement_timeout, as a context that is over closes the connection
		return fmt.Errorf("%s: %w: %s (%s)", what, store.ErrUnavailable, pg.Message, pg.Code)
	default:
		return fmt.Errorf("%s: %w", what, pg)
	}
}

// failCommit maps an error of COMMIT. If it was sent and the answer is not the server's word on it, nobody knows whether
// it happened: ErrUnavailable would promise that it did not.
func failCommit(err error) error {
	switch {
	case err == nil:
		return nil
	case pgconn.SafeToRetry(err): // it was not sent
		return fail("commit", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("commit: %w: %w", store.ErrUnknown, err)
	case cutOff(err):
		return fmt.Errorf("commit: %w: %v", store.ErrUnknown, err) //nolint:errorlint // the driver's error dies here
	default:
		return fail("commit", err)
	}
}

// cutOff reports whether the connection ended while the server was at work. A server that goes away says so even after
// it wrote the commit: waiting for a standby's confirmation, it is past undoing it.
func cutOff(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "08")
	}
	return disconnected(err)
}

func disconnected(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool)
}
