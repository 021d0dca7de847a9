// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gatewaytest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Agent is one OpAMP connection over WebSocket, from the agent's side.
type Agent struct {
	t    testing.TB
	conn net.Conn
	read interface{ Read([]byte) (int, error) }
	UID  identity.InstanceUID
	seq  uint64
}

// Dial connects to the address; header is sent with the upgrade. The error holds the
// HTTP status if the upgrade was refused.
func Dial(t testing.TB, address string, config *tls.Config, header http.Header) (*Agent, error) {
	dialer := ws.Dialer{TLSConfig: config, Header: ws.HandshakeHeaderHTTP(header), Timeout: 10 * time.Second}
	conn, buffered, _, err := dialer.Dial(context.Background(), "wss://"+address+"/v1/opamp")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	agent := &Agent{t: t, conn: conn, read: conn}
	rand.Read(agent.UID[:])
	if buffered != nil {
		agent.read = buffered
	}
	return agent, nil
}

// Status is the HTTP status of a refused upgrade, or 0.
func Status(err error) int {
	var status ws.StatusError
	if errors.As(err, &status) {
		return int(status)
	}
	return 0
}

// Conn is the connection, to misuse.
func (a *Agent) Conn() net.Conn { return a.conn }

// Close closes TCP without a close frame.
func (a *Agent) Close() { _ = a.conn.Close() }

// Message fills in uid and the next sequence number.
func (a *Agent) Message(message *protobufs.AgentToServer) *protobufs.AgentToServer {
	message.InstanceUid = a.UID[:]
	message.SequenceNum = a.seq
	a.seq++
	return message
}

// Full is a first report as agents send it.
func Full(capabilities protobufs.AgentCapabilities) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{
		Capabilities:     uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus | capabilities), //nolint:gosec // a bit mask
		AgentDescription: &protobufs.AgentDescription{},
		Health:           &protobufs.ComponentHealth{Healthy: true, StartTimeUnixNano: 1},
	}
}

// Send sends a message with uid, number and header.
func (a *Agent) Send(message *protobufs.AgentToServer) {
	a.t.Helper()
	data, err := proto.Marshal(a.Message(message))
	if err != nil {
		a.t.Fatal(err)
	}
	a.SendBytes(append([]byte{0}, data...))
}

// SendBytes sends a binary WebSocket message.
func (a *Agent) SendBytes(data []byte) {
	a.t.Helper()
	if err := wsutil.WriteClientBinary(a.conn, data); err != nil {
		a.t.Fatalf("send: %v", err)
	}
}

// Frame sends one frame as it is given, masked if its header says so.
func (a *Agent) Frame(frame ws.Frame) {
	a.t.Helper()
	if err := ws.WriteFrame(a.conn, frame); err != nil {
		a.t.Fatalf("send frame: %v", err)
	}
}

// Closed is the close frame that ended a connection.
type Closed struct {
	Code ws.StatusCode
	Text string
}

// Error is the code and the text.
func (c Closed) Error() string { return fmt.Sprintf("closed with %d %q", c.Code, c.Text) }

// Next returns the next message, answering pings before it. The error is a [Closed], or
// the network's.
func (a *Agent) Next() (*protobufs.ServerToAgent, error) {
	_ = a.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		frame, err := ws.ReadFrame(a.read)
		if err != nil {
			return nil, err
		}
		switch op := frame.Header.OpCode; {
		case op == ws.OpPing:
			if err := wsutil.WriteClientMessage(a.conn, ws.OpPong, frame.Payload); err != nil {
				return nil, err
			}
		case op == ws.OpClose:
			code, text := ws.ParseCloseFrameData(frame.Payload)
			return nil, Closed{code, text}
		case op == ws.OpBinary:
			if len(frame.Payload) == 0 || frame.Payload[0] != 0 {
				return nil, errors.New("a message without a header")
			}
			var message protobufs.ServerToAgent
			if err := proto.Unmarshal(frame.Payload[1:], &message); err != nil {
				return nil, err
			}
			return &message, nil
		}
	}
}

// Receive is Next for when a message must come.
func (a *Agent) Receive() *protobufs.ServerToAgent {
	a.t.Helper()
	message, err := a.Next()
	if err != nil {
		a.t.Fatalf("receive: %v", err)
	}
	return message
}

// Exchange sends a message and returns its answer.
func (a *Agent) Exchange(message *protobufs.AgentToServer) *protobufs.ServerToAgent {
	a.t.Helper()
	a.Send(message)
	return a.Receive()
}

// Restart begins to count anew, as an agent that restarted.
func (a *Agent) Restart() { a.seq = 0 }

// Skip leaves out sequence numbers.
func (a *Agent) Skip(n uint64) { a.seq += n }

// WaitClosed reads until the connection ends and returns the code of the close frame; 0
// if there was none.
func (a *Agent) WaitClosed() ws.StatusCode {
	a.t.Helper()
	for {
		_, err := a.Next()
		var closed Closed
		switch {
		case errors.As(err, &closed):
			return closed.Code
		case errors.Is(err, context.DeadlineExceeded):
			a.t.Fatal("the connection was not closed")
		case err != nil:
			return 0
		}
	}
}
