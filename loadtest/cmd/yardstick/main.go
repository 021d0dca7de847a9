// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command yardstick runs the plain server that Ampora is measured against, until it is
// told to stop. bench starts it.
package main

import (
	"context"
	"encoding/pem"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/place"
	"gitlab.com/ampora/ampora/loadtest/yardstick"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "yardstick:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("yardstick", flag.ContinueOnError)
	opamp := flags.String("opamp", "127.0.0.1:0", "where agents connect")
	control := flags.String("control", "127.0.0.1:0", "where it is controlled and looked at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, certificate, err := yardstick.New()
	if err != nil {
		return err
	}
	caFile := filepath.Join(os.Getenv("BENCH_DIR"), "yardstick-ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o644); err != nil { //nolint:gosec // a certificate, for anybody to read
		return err
	}
	agents, err := new(net.ListenConfig).Listen(ctx, "tcp", *opamp)
	if err != nil {
		return err
	}
	controllers, err := new(net.ListenConfig).Listen(ctx, "tcp", *control)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(agents) }()
	go func() {
		failed <- (&http.Server{Handler: server.Control(), ReadHeaderTimeout: 10 * time.Second}).Serve(controllers)
	}()
	url := "http://" + controllers.Addr().String()
	where := place.Place{OpAMP: []string{agents.Addr().String()}, CAFile: caFile, PIDs: []int{os.Getpid()}, Ops: []string{url}, Push: url + "/push"}
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
