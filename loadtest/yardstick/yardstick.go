// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package yardstick is the server that anybody has after an afternoon with opamp-go: its
// server package behind mutual TLS 1.3 with P-256 keys, callbacks that do next to
// nothing, no compression, no bus, no database. It knows its connections and answers
// every message with the agent's uid, and that is all.
//
// Ampora is measured against it, in the same run and under the same load, because
// figures of a shared machine mean little by themselves. So it must stay plain: nothing
// here is tuned, and nothing is left out that opamp-go does by itself.
package yardstick

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/open-telemetry/opamp-go/server"
	"github.com/open-telemetry/opamp-go/server/types"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Server is a plain server.
type Server struct {
	https    *http.Server
	messages atomic.Int64

	mu   sync.Mutex
	open map[types.Connection]struct{}
}

// New makes a server with a key of its own. certificate verifies it.
func New() (s *Server, certificate *x509.Certificate, err error) {
	s = &Server{open: map[types.Connection]struct{}{}}
	opamp, connContext, err := server.New(nil).Attach(server.Settings{Callbacks: types.Callbacks{OnConnecting: s.connecting}})
	if err != nil {
		return nil, nil, err
	}
	own, err := OwnCertificate()
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(rawopamp.Path, opamp)
	s.https = &http.Server{
		Handler: mux, ConnContext: connContext, ReadHeaderTimeout: 10 * time.Second,
		// Any client certificate will do: the handshake costs the same.
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert},
	}
	return s, own.Leaf, nil
}

// Serve serves agents until the listener ends.
func (s *Server) Serve(listener net.Listener) error { return s.https.ServeTLS(listener, "", "") }

func (s *Server) connecting(*http.Request) types.ConnectionResponse {
	return types.ConnectionResponse{Accept: true, ConnectionCallbacks: types.ConnectionCallbacks{
		OnConnected: func(_ context.Context, c types.Connection) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.open[c] = struct{}{}
		},
		OnMessage: func(_ context.Context, _ types.Connection, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
			s.messages.Add(1)
			return &protobufs.ServerToAgent{InstanceUid: m.GetInstanceUid()}
		},
		OnConnectionClose: func(c types.Connection) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
		},
	}}
}

// connections are those that are open now.
func (s *Server) connections() []types.Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]types.Connection, 0, len(s.open))
	for c := range s.open {
		list = append(list, c)
	}
	return list
}

// senders is how many goroutines fan a configuration out.
const senders = 16

// Push sends a configuration to every open connection and returns to how many it could.
func (s *Server) Push(ctx context.Context, hash, body []byte) int64 {
	connections := make(chan types.Connection)
	var sending sync.WaitGroup
	var sent atomic.Int64
	for range senders {
		sending.Go(func() {
			for c := range connections {
				offer := &protobufs.ServerToAgent{RemoteConfig: &protobufs.AgentRemoteConfig{
					ConfigHash: hash,
					Config:     &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{"": {Body: body, ContentType: "text/yaml"}}},
				}}
				if c.Send(ctx, offer) == nil {
					sent.Add(1)
				}
			}
		})
	}
	for _, c := range s.connections() {
		connections <- c
	}
	close(connections)
	sending.Wait()
	return sent.Load()
}

// OwnCertificate is for servers on loopback, good for a day.
func OwnCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "yardstick"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
