// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/loadtest/place"
)

// launch starts the all-in-one program in development mode on PostgreSQL, says where it
// is, and stops it on a signal. Its database bears the name of BENCH_DIR, so that all
// starts of one run share it.
func launch(ctx context.Context, args []string, _ io.Writer) error {
	flags := flag.NewFlagSet("bench launch", flag.ContinueOnError)
	program := flags.String("bin", "bin/ampora", "the program")
	dir, database, postmaster, err := ownPlace(ctx, flags, args, "")
	if err != nil {
		return err
	}
	addresses, err := freeAddresses(ctx, 3)
	if err != nil {
		return err
	}
	opamp, api, ops := addresses[0], addresses[1], "http://"+addresses[2]
	cmd := exec.CommandContext(ctx, *program) //nolint:gosec // the caller's own choice
	cmd.Env = append(environ(),
		"AMPORA_MODE=development", "AMPORA_DATA_DIR="+dir, "AMPORA_DATABASE_URL="+database, "AMPORA_LOG_LEVEL=ERROR",
		"AMPORA_OPAMP_ADDR="+opamp, "AMPORA_HTTP_ADDR="+api, "AMPORA_PKI_ADDR=127.0.0.1:0", "AMPORA_OPS_ADDR="+addresses[2], "AMPORA_DRAIN_DURATION=1s",
	)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := ready(ctx, ops, ended); err != nil {
		return err
	}
	where := place.Place{
		OpAMP: []string{opamp}, CAFile: filepath.Join(dir, "server-ca.pem"), PIDs: []int{cmd.Process.Pid},
		Ops: []string{ops}, API: "http://" + api,
	}
	if postmaster != 0 {
		where.Helpers = map[string]int{"postgresql": postmaster}
	}
	if err := where.Announce(); err != nil {
		return err
	}
	if err := <-ended; ctx.Err() == nil {
		return fmt.Errorf("it ended by itself: %w", err)
	}
	return nil
}

// environ is ours without what is meant for tests, of which the program would complain.
func environ() (list []string) {
	for _, each := range os.Environ() {
		if !strings.HasPrefix(each, "AMPORA_") {
			list = append(list, each)
		}
	}
	return list
}

// ownPlace parses the flags of a launch, to which it adds where the database is, and returns the folder of the run and a
// database that bears its name, with a suffix.
func ownPlace(ctx context.Context, flags *flag.FlagSet, args []string, suffix string) (dir, database string, postmaster int, err error) {
	server := flags.String("database", os.Getenv("AMPORA_TEST_POSTGRES_URL"), "URL of a PostgreSQL where databases may be made; default: AMPORA_TEST_POSTGRES_URL")
	if err := flags.Parse(args); err != nil {
		return "", "", 0, err
	}
	dir = os.Getenv("BENCH_DIR")
	if dir == "" || *server == "" {
		return "", "", 0, errors.New("BENCH_DIR or the database is missing: it is bench that launches")
	}
	database, postmaster, err = ownDatabase(ctx, *server, strings.ReplaceAll(filepath.Base(dir), "-", "_")+suffix)
	return dir, database, postmaster, err
}

// ownDatabase makes the database unless it is there, and finds the process of the server
// if it runs on this machine.
func ownDatabase(ctx context.Context, server, name string) (database string, postmaster int, err error) {
	parsed, err := url.Parse(server)
	if err != nil {
		return "", 0, err
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", 0, err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", 0, err
	}
	if !exists {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
			return "", 0, err
		}
	}
	var backend int
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return "", 0, err
	}
	parsed.Path = "/" + name
	return parsed.String(), parent(backend), nil
}

// parent is the parent of a process, 0 if there is no such process here.
func parent(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may be on another machine
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(value)) // the kernel's own number
			return parent
		}
	}
	return 0
}

// freeAddresses are addresses of this machine where nobody listens.
func freeAddresses(ctx context.Context, count int) (addresses []string, err error) {
	for range count {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() //nolint:gocritic // all at the end, or the same one would come again
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

// ready waits until the program is.
func ready(ctx context.Context, ops string, ended <-chan error) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, ops+"/health/ready", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended before it was ready: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
