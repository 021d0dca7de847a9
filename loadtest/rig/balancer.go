// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// balance starts haproxy, which passes TCP connections on to whichever of the backends of
// a listener lives, in turn. It knows nothing of TLS, as load balancers before gateways
// do not.
func balance(t testing.TB, dir string, listeners map[string][]string) {
	t.Helper()
	var config strings.Builder
	fmt.Fprintf(&config, `global
    maxconn %d
defaults
    mode tcp
    balance roundrobin
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout check 2s
    option redispatch
    retries 3
    default-server check inter 300ms fastinter 100ms fall 1 rise 1 on-marked-down shutdown-sessions
`, connections(t))
	for i, addr := range slices.Sorted(maps.Keys(listeners)) {
		fmt.Fprintf(&config, "listen l%d\n    bind %s\n", i, addr)
		for n, backend := range listeners[addr] {
			fmt.Fprintf(&config, "    server s%d %s\n", n, backend)
		}
	}
	file := filepath.Join(dir, "haproxy.cfg")
	write(t, file, []byte(config.String()))
	Start(t, Command{Name: "haproxy", Path: outside(t, "HAPROXY_BIN", "haproxy"), Args: []string{"-db", "-f", file}, Dir: dir, Stop: syscall.SIGTERM})
}

// outside is the path of a program that is neither ours nor an agent.
// connections is how many a load balancer may carry, each with a file descriptor on either side.
func connections(t testing.TB) uint64 {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	return min(files.Max, 100_000)/2 - 1000
}

func outside(t testing.TB, override, name string) string {
	t.Helper()
	if path := os.Getenv(override); path != "" {
		return path
	}
	for _, path := range []string{name, "/usr/sbin/" + name} { // where Debian puts daemons
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Fatalf("%s is missing: run these tests with make e2e, or set %s", name, override)
	return ""
}
