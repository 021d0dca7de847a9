// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestDemo runs what a newcomer runs first, without a terminal: it tells the whole story,
// leaves nothing behind and ends well.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ports := []string{rig.FreePort(t), rig.FreePort(t), rig.FreePort(t)}

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	demo := exec.CommandContext(ctx, filepath.Join(rig.Root(t), "infra", "dev", "demo.sh"))
	demo.Env = append(os.Environ(), // it builds with Go, which needs its caches
		"DEMO_DIR="+dir, "DEMO_BIN="+filepath.Dir(rig.Ours(t, "ampora")), "DEMO_AGENTS="+filepath.Dir(rig.Theirs(t, "otelcol")),
		"DEMO_HTTP_PORT="+ports[0], "DEMO_OPAMP_PORT="+ports[1], "DEMO_OPS_PORT="+ports[2])
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Its programs are in groups of their own: it is asked to end, and ends them.
	demo.Cancel = func() error { return demo.Process.Signal(syscall.SIGTERM) }
	demo.WaitDelay = time.Minute
	var out bytes.Buffer
	demo.Stdout, demo.Stderr = &out, &out
	if err := demo.Run(); err != nil {
		t.Fatalf("the demo: %v\n%s", err, out.String())
	}
	for _, want := range []string{"edge@1  applied", "edge-broken@1  failed", "Put back to:", "Where to look"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not tell %q:\n%s", want, out.String())
		}
	}
	leavesNothing(t, dir, ports)
}

func leavesNothing(t *testing.T, dir string, ports []string) {
	t.Helper()
	for _, port := range ports {
		if conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("something still listens on port %s", port)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		line, err := os.ReadFile(process)
		if err == nil && bytes.Contains(line, []byte(dir)) {
			t.Errorf("%s still runs: %s", process, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
	}
}
