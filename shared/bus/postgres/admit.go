// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Check says whether the bus can be used now.
func (b *Bus) Check(ctx context.Context) error {
	return b.call(ctx, "look at the bus", b.pool.Ping)
}

// Admit lets a login, which exists and has no other rights, act as the gateway from now on. url is that of whoever
// migrates the database. No error repeats it.
func Admit(ctx context.Context, url, login string, gateway identity.GatewayID) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fail("connect", err)
	}
	defer func() {
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		_ = conn.Close(closing)
	}()
	_, err = conn.Exec(ctx, "SELECT ampora_bus.admit($1, $2)", login, string(gateway))
	return fail("admit the login", err)
}
