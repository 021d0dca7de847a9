// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations

import (
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unreachable reports whether an error of this package says that the database could not be reached, or not yet: worth
// trying again. A refused password or a database that does not exist is not that.
func Unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P03" // cannot_connect_now: it is starting, or stopping
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network)
}
