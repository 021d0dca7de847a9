// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/open-telemetry/opamp-go/server"
	"github.com/open-telemetry/opamp-go/server/types"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// patience is how long tests wait for what happens in the background.
const patience = 20 * time.Second

// opampServer is a plain server of opamp-go behind mutual TLS, which remembers what it
// was told. answer and refuse are what tests put in its way.
type opampServer struct {
	t       *testing.T
	target  Target
	answer  func(*protobufs.AgentToServer) *protobufs.ServerToAgent
	refuse  func(attempt int) (status int, header map[string]string)
	changed chan struct{}

	mu       sync.Mutex
	heard    []*protobufs.AgentToServer
	open     []types.Connection
	attempts int
}

// startServer starts a server, and makes identities that it takes.
func startServer(t *testing.T, agents int) (*opampServer, []Identity) {
	t.Helper()
	s := &opampServer{t: t, changed: make(chan struct{}, 1)}
	handler, connContext, err := server.New(nil).Attach(server.Settings{Callbacks: types.Callbacks{OnConnecting: s.connecting}})
	if err != nil {
		t.Fatal(err)
	}
	authority := rig.NewAuthority(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM())
	https := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	https.Config.ConnContext = connContext
	https.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	https.StartTLS()
	t.Cleanup(https.Close)
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())
	s.target = Target{Addresses: []string{strings.TrimPrefix(https.URL, "https://")}, Roots: roots}
	return s, testIdentities(t, authority, agents)
}

func (s *opampServer) connecting(*http.Request) types.ConnectionResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	if s.refuse != nil {
		if status, header := s.refuse(s.attempts); status != 0 {
			return types.ConnectionResponse{HTTPStatusCode: status, HTTPResponseHeader: header}
		}
	}
	return types.ConnectionResponse{Accept: true, ConnectionCallbacks: types.ConnectionCallbacks{
		OnConnected: func(_ context.Context, c types.Connection) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.open = append(s.open, c)
		},
		OnMessage: s.message,
	}}
}

func (s *opampServer) message(_ context.Context, _ types.Connection, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, proto.CloneOf(m))
	select {
	case s.changed <- struct{}{}:
	default:
	}
	reply := &protobufs.ServerToAgent{}
	if s.answer != nil {
		reply = s.answer(m)
	}
	reply.InstanceUid = m.GetInstanceUid()
	return reply
}

// await waits until what was heard satisfies the test, and returns it.
func (s *opampServer) await(what string, holds func([]*protobufs.AgentToServer) bool) []*protobufs.AgentToServer {
	s.t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		heard := s.heard[:len(s.heard):len(s.heard)]
		s.mu.Unlock()
		if holds(heard) {
			return heard
		}
		select {
		case <-s.changed:
		case <-late:
			s.t.Fatalf("waited for %s; heard %v", what, heard)
		}
	}
}

func atLeast(n int) func([]*protobufs.AgentToServer) bool {
	return func(heard []*protobufs.AgentToServer) bool { return len(heard) >= n }
}

func testIdentities(t *testing.T, authority *rig.Authority, count int) (list []Identity) {
	t.Helper()
	for i := range count {
		one, err := newIdentity(authority.Agent(t, testLeaf(i), time.Now().Add(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, one)
	}
	return list
}

// startSwarm starts agents that never beat by themselves, and stops them with the test.
func startSwarm(t *testing.T, s *opampServer, identities []Identity, change func(*Config)) *Swarm {
	t.Helper()
	config := Config{Target: s.target, Transport: WebSocket, Name: "test", Heartbeat: time.Hour, Dials: 8}
	if change != nil {
		change(&config)
	}
	made, err := New(config, identities)
	if err != nil {
		t.Fatal(err)
	}
	made.Start()
	t.Cleanup(made.Stop)
	return made
}
