// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"gitlab.com/ampora/ampora/control/internal/revocation"
	"gitlab.com/ampora/ampora/shared/keypair"
)

// Times of the API's listener. How long a peer may take for a request or an answer is bounded by the handler (package api).
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 64 << 10
	shutdownTimeout = 10 * time.Second
)

// serveAPI serves the public API until ctx is done: Connect, gRPC and gRPC-Web on one port, over TLS or on loopback.
func (c *Control) serveAPI(ctx context.Context) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: c.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		Protocols: protocols,
	}
	listen := net.ListenConfig{}
	l, err := listen.Listen(ctx, "tcp", c.config.API.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_HTTP_ADDR: %w", err)
	}
	if c.config.API.CertFile == "" {
		protocols.SetUnencryptedHTTP2(true)
	} else {
		protocols.SetHTTP2(true)
		if l, err = c.overTLS(l); err != nil {
			return err
		}
	}
	c.deps.Log.InfoContext(ctx, "the API listens", "address", l.Addr().String(), "tls", c.config.API.CertFile != "")
	return c.serve(ctx, server, l)
}

// overTLS ends TLS on the API's listener, with the pair that is in the files.
func (c *Control) overTLS(l net.Listener) (net.Listener, error) {
	pair, err := keypair.Open(c.config.API.CertFile, c.config.API.KeyFile, c.deps.Now, c.deps.Log)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("AMPORA_HTTP_TLS_CERT_FILE: %w", err)
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Certificate, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// servePKI hands out revocation lists and answers about certificates until ctx is done, to anybody and in clear: whoever checks a certificate could not
// check that of a server which told it how (RFC 5280, section 8).
func (c *Control) servePKI(ctx context.Context) error {
	server := &http.Server{
		Handler: revocation.Handler(c.lists, c.answers), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: idleTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	listen := net.ListenConfig{}
	l, err := listen.Listen(ctx, "tcp", c.config.PKI.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_PKI_ADDR: %w", err)
	}
	c.deps.Log.InfoContext(ctx, "revocation lists and OCSP answers are handed out", "address", l.Addr().String())
	return c.serve(ctx, server, l)
}

// serve serves on a listener until ctx is done. Calls that are under way then get shutdownTimeout to end well: theirs is
// not the context that ended.
func (c *Control) serve(ctx context.Context, server *http.Server, l net.Listener) error {
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		stopped <- server.Shutdown(stopping)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	if err := <-stopped; err != nil {
		// Calls that did not end in time; their clients see a broken connection and ask again.
		_ = server.Close()
	}
	return nil
}
