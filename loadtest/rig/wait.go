// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"net"
	"os"
	"strconv"
	"sync/atomic"
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

// FreeAddr is a loopback address that nobody listens on, and that no other call in this
// process was given. It is below the ports that the kernel gives to outgoing connections
// by itself, so that none of those takes it before the program that is to listen there.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var config net.ListenConfig
	for range ports {
		addr := "127.0.0.1:" + strconv.Itoa(firstPort+(os.Getpid()*137+int(nextPort.Add(1)))%ports)
		l, err := config.Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue // somebody else's
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// The ports to choose from. Each process begins elsewhere, as several may run at once.
const (
	firstPort = 10000
	ports     = 5000
)

var nextPort atomic.Int64

// FreePort is the port of a [FreeAddr].
func FreePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
