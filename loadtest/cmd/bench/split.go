// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/loadtest/place"
	"gitlab.com/ampora/ampora/loadtest/yardstick"
)

// launchSplit starts a gateway and a control process around a Redis of their own and a PostgreSQL, and says where the
// gateway is: its CPU and memory are what is compared, those of the others are told apart. All starts of one run share
// database, keys and the gateway's identity.
func launchSplit(ctx context.Context, args []string, _ io.Writer) error {
	flags := flag.NewFlagSet("bench launch-split", flag.ContinueOnError)
	programs := flags.String("programs", "bin", "folder of the programs")
	redis := flags.String("redis", "redis-server", "the program of Redis")
	base, database, postmaster, err := ownPlace(ctx, flags, args, "_split")
	if err != nil {
		return err
	}
	addresses, err := freeAddresses(ctx, 6)
	if err != nil {
		return err
	}
	s := &split{
		dir: filepath.Join(base, "split"), programs: *programs, redis: *redis, database: database,
		busAddr: addresses[0], api: addresses[1], internal: addresses[2], controlOps: addresses[3], opamp: addresses[4], gatewayOps: addresses[5],
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.serve(ctx, postmaster)
}

// split is an installation in parts.
type split struct {
	dir, programs, redis, database                        string
	busAddr, api, internal, controlOps, opamp, gatewayOps string
}

// serve starts the parts, one after the other, says where they are, and stops them in the opposite order.
func (s *split) serve(ctx context.Context, postmaster int) (err error) {
	where := place.Place{
		OpAMP: []string{s.opamp}, CAFile: s.file("tls.crt"), Ops: []string{"http://" + s.gatewayOps},
		API: "http://" + s.api, TokenFile: s.file("api.token"), Helpers: map[string]int{},
	}
	if postmaster != 0 {
		where.Helpers["postgresql"] = postmaster
	}
	failed := make(chan error, 3)
	stops := []func(){}
	defer func() {
		for _, stop := range slices.Backward(stops) {
			stop()
		}
	}()
	for _, p := range []part{{"redis", "", s.bus}, {"control", s.controlOps, s.control}, {"gateway", s.gatewayOps, s.gateway}} {
		pid, stop, err := p.start(ctx, failed)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		where.Helpers[p.name], stops = pid, append(stops, stop)
	}
	where.PIDs = []int{where.Helpers["gateway"]}
	delete(where.Helpers, "gateway")
	if err := where.Announce(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// part is one program.
type part struct {
	name, ops string
	command   func(context.Context, ...string) *exec.Cmd
}

// start starts the program, waits until it is ready, and returns how to stop it. That it ended is told to failed.
func (p part) start(ctx context.Context, failed chan<- error) (pid int, stop func(), err error) {
	living, end := context.WithCancel(context.WithoutCancel(ctx))
	cmd, ended, gone := p.command(living), make(chan error, 1), make(chan struct{})
	if err := cmd.Start(); err != nil {
		end()
		return 0, nil, err
	}
	go func() {
		ended <- cmd.Wait()
		failed <- fmt.Errorf("%s ended by itself", p.name)
		close(gone)
	}()
	stop = func() { end(); <-gone }
	if p.ops == "" {
		return cmd.Process.Pid, stop, nil
	}
	if err := ready(ctx, "http://"+p.ops, ended); err != nil {
		stop()
		return 0, nil, err
	}
	return cmd.Process.Pid, stop, nil
}

func (s *split) file(name string) string { return filepath.Join(s.dir, name) }

// prepare makes what a first start needs, unless it is there.
func (s *split) prepare(ctx context.Context) error {
	if _, err := os.Stat(s.file("gateway.token")); err == nil {
		return nil
	}
	certificate, err := yardstick.OwnCertificate()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	master := make([]byte, 32)
	rand.Read(master)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"tls.crt":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		"tls.key":    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"master.key": []byte(base64.StdEncoding.EncodeToString(master)),
	} {
		if err := os.WriteFile(s.file(name), text, 0o600); err != nil {
			return err
		}
	}
	for _, command := range []struct {
		out  string
		args []string
	}{
		{"migrated", []string{"migrate", "up"}},
		{"api.token", []string{"bootstrap-admin"}},
		{"gateway.token", []string{"join-token", "--gateway", "bench", "--all-tenants", "--ca-out", s.file("control-ca.pem")}},
	} {
		cmd := s.control(ctx, command.args...)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ampora-control %s: %w", command.args[0], err)
		}
		if err := os.WriteFile(s.file(command.out), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *split) command(ctx context.Context, program string, args, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the caller's own choice
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(environ(), env...), s.dir, os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

func (s *split) control(ctx context.Context, args ...string) *exec.Cmd {
	return s.command(ctx, s.program("ampora-control"), args, []string{
		"AMPORA_MODE=development", "AMPORA_TRUST_DOMAIN=ampora.local", "AMPORA_DATABASE_URL=" + s.database, "AMPORA_MASTER_KEY_FILE=" + s.file("master.key"),
		"AMPORA_HTTP_ADDR=" + s.api, "AMPORA_PKI_ADDR=127.0.0.1:0", "AMPORA_INTERNAL_ADDR=" + s.internal, "AMPORA_OPS_ADDR=" + s.controlOps,
		"AMPORA_BUS_URL=redis://" + s.busAddr, "AMPORA_LOG_LEVEL=ERROR",
	})
}

func (s *split) gateway(ctx context.Context, _ ...string) *exec.Cmd {
	return s.command(ctx, s.program("ampora-gateway"), nil, []string{
		"AMPORA_OPAMP_ADDR=" + s.opamp, "AMPORA_OPAMP_TLS_CERT_FILE=" + s.file("tls.crt"), "AMPORA_OPAMP_TLS_KEY_FILE=" + s.file("tls.key"),
		"AMPORA_CONTROL_URL=https://" + s.internal, "AMPORA_CONTROL_CA_FILE=" + s.file("control-ca.pem"),
		"AMPORA_JOIN_TOKEN_FILE=" + s.file("gateway.token"), "AMPORA_GATEWAY_IDENTITY_DIR=" + s.file("identity"),
		"AMPORA_BUS_URL=redis://" + s.busAddr, "AMPORA_OPS_ADDR=" + s.gatewayOps, "AMPORA_DRAIN_DURATION=1s", "AMPORA_LOG_LEVEL=ERROR",
	})
}

func (s *split) bus(ctx context.Context, _ ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(s.busAddr) // it is ours
	cmd := s.command(ctx, s.redis, []string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"}, nil)
	cmd.Stdout = nil
	return cmd
}

func (s *split) program(name string) string {
	path, err := filepath.Abs(filepath.Join(s.programs, name))
	if err != nil {
		return name
	}
	return path
}
