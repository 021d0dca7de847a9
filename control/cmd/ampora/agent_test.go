// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// agent is the client's end of OpAMP over a WebSocket, as far as one test needs it.
type agent struct {
	t        *testing.T
	conn     net.Conn
	in       io.Reader
	uid      uuid.UUID
	sequence uint64
}

func dial(t *testing.T, address string, config *tls.Config, header http.Header) *agent {
	t.Helper()
	dialer := ws.Dialer{TLSConfig: config, Header: ws.HandshakeHeaderHTTP(header), Timeout: 10 * time.Second}
	conn, buffered, _, err := dialer.Dial(t.Context(), "wss://"+address+"/v1/opamp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	a := &agent{t: t, conn: conn, in: conn, uid: uuid.New()}
	if buffered != nil {
		a.in = buffered
	}
	return a
}

// enrolled is the identity that the server gives to the bearer of a token: a key and a certificate of the server's making.
func enrolled(t *testing.T, address string, config *tls.Config, token string) tls.Certificate {
	t.Helper()
	a := dial(t, address, config, http.Header{"Authorization": {"Bearer " + token}})
	a.say(&protobufs.AgentToServer{Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings)})
	offer := a.hear().GetConnectionSettings().GetOpamp().GetCertificate()
	pair, err := tls.X509KeyPair(offer.GetCert(), offer.GetPrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (a *agent) say(m *protobufs.AgentToServer) {
	a.t.Helper()
	m.InstanceUid, m.SequenceNum = a.uid[:], a.sequence
	a.sequence++
	payload, err := proto.Marshal(m)
	if err == nil {
		err = wsutil.WriteClientBinary(a.conn, append([]byte{0}, payload...))
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// hear returns the next message.
func (a *agent) hear() *protobufs.ServerToAgent {
	a.t.Helper()
	_ = a.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		frame, err := ws.ReadFrame(a.in)
		if err == nil && frame.Header.OpCode == ws.OpPing {
			err = wsutil.WriteClientMessage(a.conn, ws.OpPong, frame.Payload)
		}
		if err == nil && frame.Header.OpCode == ws.OpClose {
			err = errors.New(string(frame.Payload))
		}
		if err != nil {
			a.t.Fatal(err)
		}
		if frame.Header.OpCode != ws.OpBinary {
			continue
		}
		m := new(protobufs.ServerToAgent)
		if err := proto.Unmarshal(frame.Payload[1:], m); err != nil {
			a.t.Fatal(err)
		}
		return m
	}
}

// offer reads until a configuration is offered, and returns its hash.
func (a *agent) offer() []byte {
	a.t.Helper()
	for {
		if offer := a.hear().GetRemoteConfig(); offer != nil {
			return offer.GetConfigHash()
		}
	}
}

// status says how far the agent is with an offer.
func (a *agent) status(offer []byte, state protobufs.RemoteConfigStatuses) {
	a.t.Helper()
	a.say(&protobufs.AgentToServer{
		Capabilities:       uint64(agentCapabilities),
		RemoteConfigStatus: &protobufs.RemoteConfigStatus{LastRemoteConfigHash: offer, Status: state},
	})
}

const agentCapabilities = protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig | protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig
