// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgrestest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// tick is USER_HZ, the same on all of Linux that Go runs on.
const tick = 10 * time.Millisecond

// Cost is the CPU of this process, and of PostgreSQL's for a database.
type Cost struct{ Ours, Theirs time.Duration }

// Since is what has come on top.
func (c Cost) Since(before Cost) Cost { return Cost{c.Ours - before.Ours, c.Theirs - before.Theirs} }

// Plus is both.
func (c Cost) Plus(more Cost) Cost { return Cost{c.Ours + more.Ours, c.Theirs + more.Theirs} }

// Sum is all of it.
func (c Cost) Sum() time.Duration { return c.Ours + c.Theirs }

// CostOf is what this process has used until now, and what the connections to the database of admin have that are open, which
// must be on this machine. What is common to all databases, such as writing the log, is not in it.
func CostOf(t testing.TB, admin *pgx.Conn) (c Cost) {
	t.Helper()
	var used syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	rows, err := admin.Query(t.Context(), `
		SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
	must(t, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	must(t, err)
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		must(t, err)
		// proc_pid_stat(5): utime and stime are the fields 14 and 15, in ticks; the second may hold anything, in parentheses.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')'):])
		for _, field := range fields[12:14] {
			ticks, err := strconv.Atoi(string(field))
			must(t, err)
			c.Theirs += time.Duration(ticks) * tick
		}
	}
	c.Ours = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
