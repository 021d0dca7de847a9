// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/place"
	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/loadtest/swarm"
	"gitlab.com/ampora/ampora/loadtest/yardstick"
)

// asTarget makes this test program a target when it is set.
const asTarget = "BENCH_TEST_TARGET"

func TestMain(m *testing.M) {
	switch os.Getenv(asTarget) {
	case "":
		os.Exit(m.Run())
	case "good":
		if err := beTarget(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Println("no place")
	}
}

func beTarget() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, certificate, err := yardstick.New()
	if err != nil {
		return err
	}
	ca := filepath.Join(os.Getenv("BENCH_DIR"), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600); err != nil { //nolint:gosec // the folder is the test's
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(listener) }()
	control := httptest.NewServer(server.Control())
	where := place.Place{OpAMP: []string{listener.Addr().String()}, CAFile: ca, PIDs: []int{os.Getpid()}, Helpers: map[string]int{"self": os.Getpid()}, Ops: []string{control.URL}, Push: control.URL + "/push"}
	if err := where.Announce(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// TestRun: two equal servers are measured in all respects and found to be alike.
func TestRun(t *testing.T) {
	t.Setenv(asTarget, "good")
	b := Bench{
		Targets: []Target{{"one", []string{os.Args[0]}}, {"two", []string{os.Args[0]}}}, Runs: 1, Agents: 20, FloodAgents: 10,
		FloodTime: 500 * time.Millisecond, Pushes: 1, PushBytes: 4096, GroupSize: 20, Env: []string{"GOGC=100"}, Dir: t.TempDir(), Progress: t.Output(),
	}
	identities, err := swarm.OpenIdentities(filepath.Join(b.Dir, "identities"))
	if err != nil {
		t.Fatal(err)
	}
	authority := rig.NewAuthority(t)
	for i := range b.Agents {
		name, _ := url.Parse(fmt.Sprintf("spiffe://test/tenant/default/agent/agent-%d", i)) // it is one
		if err := identities.Add(authority.Agent(t, &x509.Certificate{SerialNumber: big.NewInt(int64(i)), URIs: []*url.URL{name}}, time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	result, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range result.Medians["two"] {
		if !strings.Contains(name, "KiB/connection") && !strings.Contains(name, "helpers") && !strings.Contains(name, "errors") && value <= 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
	if ratio := result.Ratios["two"]["flood messages/s"]; ratio < 0.5 || ratio > 2 {
		t.Errorf("one server makes %.2f as many messages as the same server", ratio)
	}
	if rows := strings.Count(result.Markdown(b.Targets), "\n"); rows != 2+len(result.Medians["two"]) {
		t.Errorf("%d rows in\n%s", rows, result.Markdown(b.Targets))
	}
	if result.Env[0] != "GOGC=100" || len(result.Env) != 1 {
		t.Errorf("the environment is told as %v", result.Env)
	}
}

// TestRefuses: what cannot be measured is not.
func TestRefuses(t *testing.T) {
	t.Setenv(asTarget, "bad")
	self := Target{"self", []string{os.Args[0]}}
	good := Bench{Targets: []Target{self}, Runs: 1, Agents: 1, FloodAgents: 1, Pushes: 1, GroupSize: 1, Dir: t.TempDir(), Progress: t.Output()}
	for name, change := range map[string]func(*Bench){
		"no target":          func(b *Bench) { b.Targets = nil },
		"no run":             func(b *Bench) { b.Runs = 0 },
		"more in the flood":  func(b *Bench) { b.FloodAgents = 2 },
		"does not announce":  func(*Bench) {},
		"cannot be started":  func(b *Bench) { b.Targets = []Target{{"missing", []string{"/missing"}}} },
		"folder not a place": func(b *Bench) { b.Dir = "/dev/null" },
	} {
		b := good
		change(&b)
		if _, err := b.Run(t.Context()); err == nil {
			t.Errorf("%s: measured", name)
		}
	}
	for _, text := range []string{"", "name", "name=", "=command"} {
		if _, err := ParseTarget(text); err == nil {
			t.Errorf("%q is a target", text)
		}
	}
	if target, err := ParseTarget("a=b  c=d"); err != nil || target.Name != "a" || len(target.Command) != 2 || target.Command[1] != "c=d" {
		t.Errorf("%+v, %v", target, err)
	}
}

func TestMedians(t *testing.T) {
	got := medians([]Figures{{"a": 3, "b": 1}, {"a": 1, "b": 2}, {"a": 2}})
	if got["a"] != 2 || got["b"] != 1.5 {
		t.Errorf("%v", got)
	}
}

// TestReceipts: each agent counts once, with the configuration that is expected.
func TestReceipts(t *testing.T) {
	r := newReceipts(2)
	begin := time.Now()
	r.note(0, []byte("before"), begin)
	r.expect([]byte("now"))
	r.note(0, []byte("before"), begin)
	r.note(0, []byte("now"), begin.Add(time.Second))
	r.note(0, []byte("now"), begin.Add(3*time.Second))
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.all(short, begin); err == nil {
		t.Error("one agent is enough for it")
	}
	r.note(1, []byte("now"), begin.Add(2*time.Second))
	if got, err := r.all(t.Context(), begin); err != nil || got[0] != 1 || got[1] != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestConfig: configurations have the size asked for, and no two are the same.
func TestConfig(t *testing.T) {
	first, second := configOf(4096, 1), configOf(4096, 2)
	if len(first) != 4096 || len(second) != 4096 || bytes.Equal(first, second) {
		t.Errorf("%d and %d bytes", len(first), len(second))
	}
}

// TestProcess: this process has used memory and CPU, and belongs to its own family.
func TestProcess(t *testing.T) {
	self := []int{os.Getpid()}
	if kib, err := Resident(self); err != nil || kib < 1000 {
		t.Errorf("%v KiB, %v", kib, err)
	}
	for begin := time.Now(); time.Since(begin) < 50*time.Millisecond; { // at least a tick
	}
	if used, err := CPU(self); err != nil || used <= 0 {
		t.Errorf("%v s, %v", used, err)
	}
	if list := family(os.Getppid()); !strings.Contains(fmt.Sprint(list), fmt.Sprint(os.Getpid())) {
		t.Errorf("%d is not in the family of %d: %v", os.Getpid(), os.Getppid(), list)
	}
	if _, err := CPU([]int{0}); err == nil {
		t.Error("process 0 uses CPU")
	}
}
