// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/shared/run"
)

// Bounds of the internal service. Its calls are short; the longest body of one is PutBodies'.
const (
	internalReadTime  = 30 * time.Second
	internalWriteTime = time.Minute
	internalMaxBytes  = 16 << 20
)

// Service is the internal service for gateways of other processes, over mutual TLS. It stops after the loops it feeds
// have begun to stop and before the database does.
func (c *Control) Service() run.Task { return run.Task{Name: "internal service", Run: c.serveGateways} }

// serveGateways serves until ctx is done. Who calls is decided at each call (gateways.Gate); the handshake alone refuses
// whoever shows a certificate of somebody else. Without one nothing but Join can be called.
func (c *Control) serveGateways(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.config.Internal.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_INTERNAL_ADDR: %w", err)
	}
	certificate, err := c.controlCertificate(ctx)
	if err != nil {
		_ = listener.Close()
		return err
	}
	mux := http.NewServeMux()
	connecthttp.Mount(mux, c.remote, connecthttp.WithReadMaxBytes(internalMaxBytes))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: internalReadTime, WriteTimeout: internalWriteTime,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, Protocols: protocols,
		ErrorLog: slog.NewLogLogger(c.deps.Log.Handler(), slog.LevelDebug),
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: certificate, NextProtos: []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true, // a resumed connection would not show the present certificate
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return c.trustingGateways(hello.Context(), config)
	}
	c.deps.Log.InfoContext(ctx, "the internal service listens", "address", listener.Addr().String())
	return c.serve(ctx, server, tls.NewListener(listener, config))
}

// trustingGateways is the configuration of a handshake with the roots that gateways have now.
func (c *Control) trustingGateways(ctx context.Context, base *tls.Config) (*tls.Config, error) {
	trust, err := c.authority.GatewayTrust(ctx, c.deps.Now())
	if err != nil {
		return nil, err //nolint:wrapcheck // ends a handshake
	}
	config := base.Clone()
	config.GetConfigForClient = nil
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	for _, root := range trust.Roots {
		config.ClientCAs.AddCert(root)
	}
	return config, nil
}
