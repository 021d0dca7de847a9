// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/instrument"
)

// Server ends TLS for agents and hands their requests to a handler.
//
// Client certificates are asked for and verified here, not by crypto/tls: a foreign
// one must be counted and logged, and a caller must get its 503 when there is no
// trust to verify with.
type Server struct {
	http       *http.Server
	trust      *Trust
	rejections *Rejections
	slots      chan struct{}
	open       chan struct{}
	base       *tls.Config
	current    atomic.Pointer[configured]
	handshakes instrument.Histogram
}

type configured struct {
	snapshot *Snapshot
	config   *tls.Config
}

// ServerConfig is what a [Server] needs.
type ServerConfig struct {
	Handler    http.Handler
	Trust      *Trust
	Rejections *Rejections
	Log        *slog.Logger
	// Certificate gives the server's certificate for each handshake.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Handshakes is how many handshakes may compute at a time.
	Handshakes int
	// Connections is how many may be open, admitted or not. One more is closed at once.
	Connections int
}

// NewServer makes a server and its histogram on the meter.
func NewServer(c ServerConfig, meter metric.Meter) (*Server, error) {
	made := instrument.On(meter)
	s := &Server{trust: c.Trust, rejections: c.Rejections, slots: make(chan struct{}, c.Handshakes), open: make(chan struct{}, c.Connections)}
	s.handshakes = made.Histogram("ampora_gateway_handshake_duration", "s",
		"TLS handshakes, from the hello of the client to its first request, with the wait for others that compute.",
		instrument.Seconds, instrument.By("outcome", "done", "failed"))
	s.base = &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         c.Certificate,
		ClientAuth:             tls.RequestClientCert,
		VerifyConnection:       s.verifyConnection,
		SessionTicketsDisabled: true, // connections live long, and a resumed one would skip revocation
		NextProtos:             []string{"h2", "http/1.1"},
	}
	// No ReadTimeout and no WriteTimeout: they would end WebSockets and slow, honest
	// uploads alike. Bodies have deadlines of their own.
	s.http = &http.Server{
		Handler:           c.Handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ConnState:         s.connState,
	}
	config := s.base.Clone()
	config.GetConfigForClient = s.configForClient
	s.http.TLSConfig = config
	return s, made.Err()
}

// Open is the number of open connections, admitted or not.
func (s *Server) Open() int { return len(s.open) }

// connState measures the handshake of a connection, once: crypto/tls tells nobody when it is over, but net/http then
// waits for a request, which clients of TLS 1.3 send along with their last flight.
func (s *Server) connState(conn net.Conn, state http.ConnState) {
	secured, ok := conn.(*tls.Conn)
	if !ok || state == http.StateNew || state == http.StateIdle {
		return
	}
	under, ok := secured.NetConn().(*slottedConn)
	if !ok {
		return
	}
	if hello := under.hello.Swap(0); hello != 0 {
		outcome := "done"
		if state == http.StateClosed {
			outcome = "failed"
		}
		s.handshakes.Took(context.Background(), time.Since(time.Unix(0, hello)), outcome)
	}
}

// Serve accepts connections until [Server.Shutdown].
func (s *Server) Serve(listener net.Listener) error {
	err := s.http.ServeTLS(slotted{Listener: listener, slots: s.slots, open: s.open}, "", "")
	if err == http.ErrServerClosed {
		return nil
	}
	return err
}

// Shutdown stops accepting, and waits for requests under way; hijacked connections are
// not its business.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends what Shutdown waits for.
func (s *Server) Close() error { return s.http.Close() }

// configForClient runs between the hello of the client and our first flight, which is
// the expensive part of a handshake: it takes a slot, which the first write gives
// back. Nothing in between waits for the client, so nobody can hold a slot.
func (s *Server) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if conn, ok := hello.Conn.(*slottedConn); ok {
		conn.hello.Store(time.Now().UnixNano())
		if err := conn.acquire(hello.Context()); err != nil {
			return nil, err
		}
	}
	snapshot, err := s.trust.Current()
	if err != nil {
		return s.base, nil //nolint:nilerr // the handler answers 503
	}
	if c := s.current.Load(); c != nil && c.snapshot == snapshot {
		return c.config, nil
	}
	config := s.base.Clone()
	config.ClientCAs = snapshot.hints // the names in the certificate request
	s.current.Store(&configured{snapshot: snapshot, config: config})
	return config, nil
}

// verifyConnection refuses a bad client certificate in the handshake. [Trust.Identify]
// verifies again for every request, against what is revoked by then.
func (s *Server) verifyConnection(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	snapshot, err := s.trust.Current()
	if err != nil {
		return nil //nolint:nilerr // the handler answers 503
	}
	leaf := state.PeerCertificates[0]
	if _, _, err := snapshot.verify(leaf, s.trust.clock()); err != nil {
		s.rejections.Reject(context.Background(), AuthFailed, err, slog.String("serial", leaf.SerialNumber.Text(16)), slog.String("issuer", leaf.Issuer.String()))
		return err
	}
	return nil
}

// slotted is a listener that bounds its open connections, because those that nobody
// admitted cost memory as well, and the handshakes among them that compute at a time.
type slotted struct {
	net.Listener
	slots chan struct{}
	open  chan struct{}
}

// Accept wraps the next connection for which there is room.
func (l slotted) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.open <- struct{}{}:
			return &slottedConn{Conn: conn, slots: l.slots, leave: sync.OnceFunc(func() { <-l.open })}, nil
		default:
			_ = conn.Close()
		}
	}
}

type slottedConn struct {
	net.Conn
	slots chan struct{}
	held  atomic.Bool
	hello atomic.Int64 // when it came, in nanoseconds, until the handshake is over
	leave func()
}

func (c *slottedConn) acquire(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		c.held.Store(true)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *slottedConn) release() {
	if c.held.CompareAndSwap(true, false) {
		<-c.slots
	}
}

// Write gives the slot back: our first flight is computed.
func (c *slottedConn) Write(p []byte) (int, error) {
	c.release()
	return c.Conn.Write(p)
}

// Close gives the place back, and the slot of a handshake that failed before.
func (c *slottedConn) Close() error {
	c.release()
	c.leave()
	return c.Conn.Close()
}

// CloseWrite ends our half of a TCP connection, so that the other half can be read to
// its end.
func (c *slottedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}
