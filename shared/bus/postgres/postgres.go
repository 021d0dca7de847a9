// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package postgres is the bus on PostgreSQL 16 or newer, for those who run no Redis:
// tables hold the messages, and a notification is the bell that says there are some.
//
// It keeps the contract of package bus. Tables and functions are those of the schema
// ampora_bus (migrations/postgres/00002_bus.sql), which only the functions reach. A
// Bus acts for one party alone, by the role that its login takes: the control plane
// reads and trims uplinks, sends downlinks, writes the mail and reads every shelf; a
// gateway publishes, receives what is its own, and writes its marks and the polls.
// The database refuses anything else, with [ErrDenied], whatever this program asks.
//
// The tables are unlogged. What they hold survives a restart of the server, and is
// lost, visibly, in a crash, a failover, a restore, and when somebody empties them.
// What this cannot see is a copy of the stopped server's files that is put back in
// its place; then TRUNCATE ampora_bus.messages says it.
//
// A bell that is missed delays, by two seconds at most. Publish and Send write up to a
// thousand messages, or 4 MiB, in one transaction. A bus that is full has accepted of
// each stream what came before the message that met its bound; another error leaves
// out that transaction and those that would have followed.
package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
)

const (
	// callTime bounds a call of the database, to connect included: a server that
	// answers nothing is unavailable.
	callTime = 10 * time.Second
	// glance is how often a waiting read looks without having heard a bell.
	glance = 2 * time.Second
	// tries is how often a call is made that loses against others.
	tries = 3
)

// Options of a Bus.
type Options struct {
	// Gateway says for whom the bus is: a gateway, as which the login must have been
	// admitted, or, if empty, the control plane.
	Gateway identity.GatewayID
	// Log gets a warning when the bell or the sweeping fails; nil means none.
	Log *slog.Logger
}

// Bus is a [bus.Bus] in PostgreSQL. Make one with [Open].
type Bus struct {
	pool    *pgxpool.Pool
	gateway identity.GatewayID
	log     *slog.Logger
	bell    bell

	life       context.Context // ends with Close
	end        context.CancelFunc
	background sync.WaitGroup
}

var _ bus.Bus = (*Bus)(nil)

// Open connects to the database at url, a postgres:// URL with the parameters of
// pgxpool, and holds one connection more than its pool. It fails with
// bus.ErrUnavailable if the database cannot be reached, with [ErrDenied] if the login
// is not that of the party in the options, and with [ErrNoSchema] if the database was
// not migrated. No error and no line of the log repeats the URL.
func Open(ctx context.Context, url string, options Options) (*Bus, error) {
	b, err := open(ctx, url, options)
	if err != nil {
		return nil, err
	}
	b.background.Go(b.listen)
	if b.gateway == "" {
		b.background.Go(b.sweep)
	}
	return b, nil
}

func open(ctx context.Context, url string, options Options) (*Bus, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errURL // what the driver says of it may repeat a password
	}
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "ampora-bus"
	}
	// A transaction that stands still holds its streams.
	params["idle_in_transaction_session_timeout"] = "10s"
	b := &Bus{gateway: options.Gateway, log: options.Log, bell: newBell()}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.life, b.end = context.WithCancel(context.Background())
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := b.enter(ctx, conn)
		return err
	}
	if b.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fail("open the bus", err)
	}
	if err := b.call(ctx, "open the bus", b.pool.Ping); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// Close implements [bus.Bus].
func (b *Bus) Close() error {
	b.end()
	b.background.Wait()
	b.pool.Close()
	return nil
}

// enter takes the party's role on a new connection, and returns what rings for it.
func (b *Bus) enter(ctx context.Context, conn *pgx.Conn) (channel string, err error) {
	role := "ampora_bus_control"
	if b.gateway != "" {
		role = "ampora_bus_gateway"
	}
	if _, err := conn.Exec(ctx, "SET ROLE "+role); err != nil {
		return "", err
	}
	var gateway, ownChannel *string
	if err := conn.QueryRow(ctx, "SELECT gateway, channel FROM ampora_bus.enter()").Scan(&gateway, &ownChannel); err != nil {
		return "", err
	}
	switch {
	case b.gateway == "":
		return "ampora_bus_uplinks", nil
	case gateway == nil:
		return "", fmt.Errorf("%w: the login is not admitted as a gateway", ErrDenied)
	case *gateway != string(b.gateway):
		return "", fmt.Errorf("%w: the login is the gateway %q, not %q", ErrDenied, *gateway, b.gateway)
	}
	return *ownChannel, nil
}

// usable says whether a call may begin.
func (b *Bus) usable(ctx context.Context) error {
	if b.life.Err() != nil {
		return bus.ErrClosed
	}
	return ctx.Err()
}

// call runs do within the bounds of the caller, of Close and of callTime.
func (b *Bus) call(ctx context.Context, what string, do func(ctx context.Context) error) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	var err error
	for range tries {
		if err = do(bounded); !lost(err) {
			break
		}
	}
	if err == nil {
		return nil
	}
	if ended := b.usable(ctx); ended != nil {
		return fmt.Errorf("%s: %w", what, ended)
	}
	return fail(what, err)
}

// sweep removes what is out of time, now and then. Every control plane does; they do
// not wait for each other.
func (b *Bus) sweep() {
	const most, rest = 5000, time.Minute
	turn := func(ctx context.Context) (swept int, err error) {
		err = b.call(ctx, "sweep the bus", func(ctx context.Context) error {
			return b.pool.QueryRow(ctx, "SELECT ampora_bus.sweep($1)", most).Scan(&swept)
		})
		return swept, err
	}
	_ = run.Loop(b.life, run.Pace{Idle: rest, Failed: rest}, turn, func(err error) {
		b.log.WarnContext(b.life, "the bus was not swept", "error", err)
	})
}
