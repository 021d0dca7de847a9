// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"net"
	"strconv"
	"testing"
	"time"
)

// Patience is how long tests wait for what happens in the background. It is generous:
// these tests share small machines with others, and a supervisor alone may take 20 s.
const Patience = 60 * time.Second

// Await polls until check returns "", and fails the test with what it returned last if
// that does not happen in time.
func Await(t testing.TB, what string, check func() (missing string)) {
	t.Helper()
	AwaitFor(t, Patience, what, check)
}

// AwaitFor is Await with a time of its own.
func AwaitFor(t testing.TB, patience time.Duration, what string, check func() (missing string)) {
	t.Helper()
	begin := time.Now()
	for {
		missing := check()
		if missing == "" {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("waited %s for %s: %s", patience, what, missing)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: the test ended: %s", what, missing)
		case <-time.After(150 * time.Millisecond):
		}
	}
}

// Never watches for the whole time that check returns "", and fails when it does not.
// It is for what must not happen, which no condition announces.
func Never(t testing.TB, span time.Duration, what string, check func() (happened string)) {
	t.Helper()
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(150 * time.Millisecond) {
		if happened := check(); happened != "" {
			t.Fatalf("%s: %s", what, happened)
		}
	}
}

// FreeAddr is a loopback address that nobody listened on a moment ago.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// FreePort is the port of a [FreeAddr].
func FreePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return port
}
