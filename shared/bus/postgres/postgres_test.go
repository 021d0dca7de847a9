// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"bytes"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/bustest"
	"gitlab.com/ampora/ampora/shared/bus/postgres"
)

const capacity = 100

func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		d, between := newDatabase(t), newProxy(t, serverURL(t).Host)
		d.run("UPDATE ampora_bus.bounds SET messages = $1", capacity)
		b := newParties(t, d, between.address())
		return bustest.Harness{
			Bus:      b,
			Capacity: capacity,
			Advance:  time.Sleep, // the server's clock is its own
			Restart: func(t testing.TB) bus.Bus {
				_ = b.Close()
				d.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", d.name)
				b = newParties(t, d, between.address())
				return b
			},
			Flush:    func(testing.TB) { d.crash() },
			LoseTail: func(_ testing.TB, n int) { d.restoreWithoutTail(n) },
			Stall:    func(testing.TB) (resume func()) { return between.stall() },
		}
	})
}

// crash leaves what a crash of the server does: empty tables, and nobody who saw them
// emptied.
func (d *database) crash() {
	d.t.Helper()
	d.run("SET session_replication_role = replica")
	for _, table := range []string{"life", "streams", "messages", "floors", "registers"} {
		d.run("DELETE FROM ampora_bus." + table)
	}
	d.run("SET session_replication_role = origin")
}

// restoreWithoutTail puts back an older state, as a restore from a dump does: rows
// are written by another transaction, and no trigger is there to see it. Trims are
// those of before, too.
func (d *database) restoreWithoutTail(n int) {
	d.t.Helper()
	d.run("SET session_replication_role = replica")
	d.run(`DELETE FROM ampora_bus.messages m WHERE (
		SELECT count(*) FROM ampora_bus.messages l WHERE l.stream = m.stream AND l.number > m.number) < $1`, n)
	d.run(`WITH row AS (DELETE FROM ampora_bus.life RETURNING *)
		INSERT INTO ampora_bus.life SELECT * FROM row`)
	d.run("SET session_replication_role = origin")
}

// Without a bell reads are late, and read the same.
func TestAMissedBellOnlyDelays(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	deaf, err := postgres.OpenDeaf(t.Context(), named(t, d.url(controlLogin), "deaf"), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deaf.Close() }()
	after, before := read(t, deaf, "").Next, column[string](t, d.super, "SELECT clock_timestamp()::text")[0]
	heard := make(chan bus.Batch, 1)
	go func() { heard <- read(t, deaf, after) }()
	waitFor(t, d, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'deaf' AND state = 'idle' AND query_start > '"+before+"')")
	publish(t, p, "x")
	if batch := <-heard; batch.Lost || texts(batch) != "x" {
		t.Errorf("read %q, lost: %v", texts(batch), batch.Lost)
	}
}

// named adds an application's name to a URL.
func named(t *testing.T, address, name string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	query := parsed.Query()
	query.Set("application_name", name)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// The bell comes back after its connection was lost, and rings for what was missed.
func TestTheBellComesBack(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	after := read(t, p, "").Next
	const listeners = "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
	waitFor(t, d, listeners)
	for range 3 {
		d.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()")
		publish(t, p, "x")
		batch := read(t, p, after)
		if batch.Lost || texts(batch) != "x" {
			t.Fatalf("read %q, lost: %v", texts(batch), batch.Lost)
		}
		after = batch.Next
		waitFor(t, d, listeners)
	}
}

// A server that restarts is away for a moment; the same Bus goes on.
func TestTheSameBusGoesOn(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	after := read(t, p, "").Next
	publish(t, p, "a", "b")
	for range 3 {
		d.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", d.name)
		var batch bus.Batch
		err := error(bus.ErrUnavailable)
		for deadline := time.Now().Add(30 * time.Second); errors.Is(err, bus.ErrUnavailable) && time.Now().Before(deadline); {
			batch, err = p.Read(t.Context(), 0, after, 9)
		}
		if err != nil || batch.Lost || texts(batch) != "a b" {
			t.Fatalf("read %q, lost: %v, %v", texts(batch), batch.Lost, err)
		}
	}
}

// A database that takes no writes, as a standby after a switch, is away.
func TestAReadOnlyDatabaseIsUnavailable(t *testing.T) {
	d := newDatabase(t)
	d.run("ALTER DATABASE " + d.name + " SET default_transaction_read_only = on")
	if _, err := postgres.Open(t.Context(), d.url(controlLogin), postgres.Options{}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Open: %v", err)
	}
	// What the server says of unlogged tables during recovery.
	if err := postgres.Fail("read", &pgconn.PgError{Code: "0A000"}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("on a standby: %v", err)
	}
}

// Who stands on a stream stops others for seconds, not for ever.
func TestAStreamThatIsHeldIsUnavailable(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	read(t, p, "")
	stubborn := connect(t, d.admit("stubborn"))
	run(t, stubborn, "SET ROLE ampora_bus_gateway")
	run(t, stubborn, "BEGIN")
	run(t, stubborn, "SELECT ampora_bus.publish('{0}', '{x}')")
	if err := p.Publish(t.Context(), bus.Outgoing{}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("Publish: %v", err)
	}
	if err := p.Publish(t.Context(), bus.Outgoing{Partition: 1}); err != nil {
		t.Errorf("another partition: %v", err)
	}
}

func TestBytesAreBounded(t *testing.T) {
	d := newDatabase(t)
	d.run("UPDATE ampora_bus.bounds SET bytes = $1", bus.MaxPayload)
	p := newParties(t, d, "")
	half := bytes.Repeat([]byte("x"), bus.MaxPayload/2)
	up := bus.Outgoing{Payload: half}
	start := read(t, p, "")
	if err := p.Publish(t.Context(), up, up, bus.Outgoing{Payload: []byte("x")}); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("one byte more than fits: %v", err)
	}
	batch := read(t, p, start.Next)
	if batch.Lost || len(batch.Messages) != 2 {
		t.Fatalf("%d messages before the one that did not fit, lost: %v", len(batch.Messages), batch.Lost)
	}
	if err := p.Trim(t.Context(), 0, batch.Next); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(t.Context(), up); err != nil {
		t.Fatalf("after a trim: %v", err)
	}
	if err := p.Send(t.Context(), publisher, time.Hour, half, half, []byte("x")); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("one byte more than fits, downwards: %v", err)
	}
	if batch, err := p.Receive(t.Context(), publisher, "", 9); err != nil || len(batch.Messages) != 2 {
		t.Fatalf("%d messages before the one that did not fit, %v", len(batch.Messages), err)
	}
}

// What is too much for one statement goes in several, in order.
func TestManyAndLargeMessages(t *testing.T) {
	d := newDatabase(t)
	d.run("UPDATE ampora_bus.bounds SET bytes = 64000000")
	p := newParties(t, d, "")
	start := read(t, p, "").Next
	messages := make([]bus.Outgoing, 2500)
	for i := range messages {
		messages[i].Payload = []byte(strconv.Itoa(i))
		if i%250 == 0 {
			messages[i].Payload = append(messages[i].Payload, make([]byte, bus.MaxPayload-10)...)
		}
	}
	if err := p.Publish(t.Context(), messages...); err != nil {
		t.Fatal(err)
	}
	batch, err := p.Read(t.Context(), 0, start, len(messages))
	if err != nil || batch.Lost || len(batch.Messages) != len(messages) {
		t.Fatalf("%d messages, lost: %v, %v", len(batch.Messages), batch.Lost, err)
	}
	for i, message := range batch.Messages {
		if !bytes.Equal(message.Payload, messages[i].Payload) {
			t.Fatalf("message %d is another", i)
		}
	}
}

// A position ahead of the stream was never given out; waiting there would pass over
// messages in silence, and trimming there forget what nobody read.
func TestPositionAheadOfTheStreamIsUnknown(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	start := string(read(t, p, "").Next)
	publish(t, p, "x")
	ahead := bus.Position(strings.TrimSuffix(start, ".0") + ".2")
	if err := p.Trim(t.Context(), 0, ahead); err != nil {
		t.Fatal(err)
	}
	if batch := read(t, p, ahead); !batch.Lost || texts(batch) != "x" {
		t.Errorf("read %q, lost: %v", texts(batch), batch.Lost)
	}
}
