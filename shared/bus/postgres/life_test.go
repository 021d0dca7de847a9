// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Whatever is done to the tables behind the bus's back, a reader that stood before it
// learns of it, and goes on from there. A crash empties the unlogged ones as TRUNCATE
// does; a restore writes rows again.
func TestLossesShow(t *testing.T) {
	for name, harm := range map[string]string{
		"everything emptied": "TRUNCATE ampora_bus.life, ampora_bus.streams, ampora_bus.messages, ampora_bus.floors, ampora_bus.registers",
		"messages emptied":   "TRUNCATE ampora_bus.messages",
		"floors emptied":     "TRUNCATE ampora_bus.floors",
		"streams emptied":    "TRUNCATE ampora_bus.streams",
		"life emptied":       "TRUNCATE ampora_bus.life",
		"life deleted":       "DELETE FROM ampora_bus.life",
		"messages deleted":   "DELETE FROM ampora_bus.messages",
		"floors deleted":     "DELETE FROM ampora_bus.floors",
		"the next deleted":   "DELETE FROM ampora_bus.messages WHERE number = 3",
		"the newest deleted": "DELETE FROM ampora_bus.messages WHERE number = 5",
		"restored":           "WITH row AS (DELETE FROM ampora_bus.life RETURNING *) INSERT INTO ampora_bus.life SELECT * FROM row",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			p := newParties(t, d, "")
			position := stand(t, p)
			if _, err := d.super.PgConn().Exec(t.Context(), harm).ReadAll(); err != nil {
				t.Fatal(err)
			}
			batch := read(t, p, position)
			if !batch.Lost {
				t.Fatalf("the reader was told %v and no loss", texts(batch))
			}
			publish(t, p, "after")
			if batch := read(t, p, batch.Next); batch.Lost || texts(batch) != "after" {
				t.Errorf("then it was told %v, lost: %v", texts(batch), batch.Lost)
			}
		})
	}
}

// stand publishes five messages, of which one is trimmed and one more is read, and
// returns the position after that.
func stand(t *testing.T, b bus.Bus) bus.Position {
	t.Helper()
	start := read(t, b, "").Next
	publish(t, b, "1", "2", "3", "4", "5")
	batch := read(t, b, start)
	if err := b.Trim(t.Context(), 0, batch.Messages[0].Position); err != nil {
		t.Fatal(err)
	}
	return batch.Messages[1].Position
}

// A copy of the database is another bus: gateways that read the one know no position
// of the other.
func TestACopyIsAnotherBus(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	position := stand(t, p)
	_ = p.Close()
	copied := &database{t: t, name: d.name + "_copy", admitted: map[string]string{}}
	server := connect(t, serverURL(t).String())
	d.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", d.name)
	_ = d.super.Close(t.Context())
	run(t, server, "CREATE DATABASE "+copied.name+" TEMPLATE "+d.name)
	t.Cleanup(func() { run(t, server, "DROP DATABASE "+copied.name+" WITH (FORCE)") })
	for at, wantLost := range map[*database]bool{d: false, copied: true} {
		at.super = connect(t, at.url(serverURL(t).User.Username()))
		if batch := read(t, newParties(t, at, ""), position); batch.Lost != wantLost {
			t.Errorf("lost: %v, want %v", batch.Lost, wantLost)
		}
	}
}

// Vacuum, in whatever way, is nothing that happened.
func TestVacuumIsNoLoss(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	position := stand(t, p)
	for _, how := range []string{"", "FREEZE", "FULL"} {
		for _, table := range []string{"life", "streams", "messages", "floors"} {
			d.run("VACUUM " + how + " ampora_bus." + table)
		}
		if batch := read(t, p, position); batch.Lost || texts(batch) != "3 4 5" {
			t.Errorf("after VACUUM %s: %v, lost: %v", how, texts(batch), batch.Lost)
		}
	}
}

// The transaction that numbered its message first here commits last. A reader that
// took what is committed would be past it by then.
func TestNothingThatCommitsLateIsSkipped(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	start := read(t, p, "").Next
	slow := connect(t, d.admit("slow"))
	run(t, slow, "SET ROLE ampora_bus_gateway")
	run(t, slow, "BEGIN")
	run(t, slow, "SELECT ampora_bus.publish('{0}', '{slow}')")
	published := make(chan error, 1)
	go func() { published <- p.Publish(t.Context(), bus.Outgoing{Payload: []byte("quick")}) }()
	batches := make(chan bus.Batch, 2)
	go func() {
		for range 2 {
			batch, err := p.Read(t.Context(), 0, start, 1)
			if err != nil {
				t.Errorf("Read: %v", err)
			}
			batches <- batch
			start = batch.Next
		}
	}()
	waitFor(t, d, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
	run(t, slow, "COMMIT")
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"slow", "quick"} {
		if batch := <-batches; batch.Lost || texts(batch) != want {
			t.Errorf("read %q, lost: %v, want %q", texts(batch), batch.Lost, want)
		}
	}
}

// Whatever transaction keeps vacuum from removing what was trimmed, a read costs the
// same: it touches no more pages.
func TestDeadRowsCostNothing(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	holding := connect(t, d.url(serverURL(t).User.Username()))
	run(t, holding, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	run(t, holding, "SELECT FROM ampora_bus.bounds")
	after := read(t, p, "").Next
	churn := func(rounds int) (pages int) {
		for range rounds {
			publish(t, p, strings.Fields(strings.Repeat("x ", 20))...)
			after = read(t, p, after).Next
			if err := p.Trim(t.Context(), 0, after); err != nil {
				t.Fatal(err)
			}
		}
		run(t, d.super, "DISCARD PLANS")
		for _, call := range []string{
			"ampora_bus.read(0, '" + strings.Split(string(after), ".")[0] + "', " + strings.Split(string(after), ".")[1] + ", 100)",
			"ampora_bus.trim(0, 'x', 1)",
		} {
			pages += pagesOf(t, d, call)
		}
		return pages
	}
	early := churn(20)
	if late := churn(400); late > early+early/2 {
		t.Errorf("a read and a trim touch %d pages after 400 rounds, %d after 20", late, early)
	}
}

// pagesOf is how many pages a call touches once its plans are made.
func pagesOf(t *testing.T, d *database, call string) (pages int) {
	t.Helper()
	for range 8 {
		var plan []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			} `json:"Plan"`
		}
		if err := d.super.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM "+call).Scan(&plan); err != nil {
			t.Fatal(err)
		}
		pages = plan[0].Plan.Hit + plan[0].Plan.Read
	}
	return pages
}

// What is trimmed, received or out of time is gone from the tables.
func TestNothingIsLeftBehind(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	after := read(t, p, "").Next
	for range 10 {
		publish(t, p, "a", "b")
		after = read(t, p, after).Next
		if err := p.Trim(t.Context(), 0, after); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Send(t.Context(), "nobody reads", time.Millisecond, []byte("x"), []byte("y")); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := p.Set(t.Context(), bus.Mail, time.Millisecond, bus.Register{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	control := connect(t, d.url(controlLogin))
	run(t, control, "SET ROLE ampora_bus_control")
	waitFor(t, d, "SELECT bool_and(expires < clock_timestamp()) FROM ampora_bus.registers")
	run(t, control, "SELECT ampora_bus.sweep(7)")
	run(t, control, "SELECT ampora_bus.sweep(7)")
	for table, want := range map[string]int{"messages": 0, "registers": 0, "floors": 2, "streams": 2, "life": 1} {
		if got := column[int](t, d.super, "SELECT count(*) FROM ampora_bus."+table)[0]; got != want {
			t.Errorf("%d rows are left in %s, want %d", got, table, want)
		}
	}
}

func publish(t *testing.T, b bus.Uplinks, texts ...string) {
	t.Helper()
	messages := make([]bus.Outgoing, len(texts))
	for i, text := range texts {
		messages[i].Payload = []byte(text)
	}
	if err := b.Publish(t.Context(), messages...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

func read(t *testing.T, b bus.Uplinks, after bus.Position) bus.Batch {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	batch, err := b.Read(ctx, 0, after, 100)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return batch
}

func texts(batch bus.Batch) string {
	list := make([]string, len(batch.Messages))
	for i, message := range batch.Messages {
		list[i] = string(message.Payload)
	}
	return strings.Join(list, " ")
}

// waitFor waits until a query says true.
func waitFor(t *testing.T, d *database, query string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !column[bool](t, d.super, query)[0]; {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", query)
		}
	}
}
