// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package rawopamp speaks OpAMP the way a stranger would, well or badly: every byte of
// a frame is the caller's. It is for what no well-behaved client can send, and for
// seeing what such a client hides: statuses of the upgrade, close codes, single frames.
//
// It has no goroutines and no state besides the connection: nothing is sent that the
// caller did not ask for, pongs excepted, with which [Conn.Receive] answers pings. An
// open connection keeps no buffer of its own, so that a process can hold many thousands.
package rawopamp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// Peer is one side of a connection that was not made yet.
type Peer struct {
	// Addr is host:port of the server; the path is always /v1/opamp.
	Addr string
	// TLS verifies the server and brings the client certificate, if there is one.
	TLS *tls.Config
	// Header is sent with the upgrade or the request: the bearer token goes here.
	Header http.Header
	// From is the local address to connect from, nil for any. On Linux all of 127.0.0.0/8
	// can be had: a server that slows down a misbehaving address slows that one down alone.
	From net.IP
}

func (p Peer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if p.From != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: p.From}
		dialer.Control = portAtConnect
	}
	return dialer.DialContext(ctx, network, address)
}

// portAtConnect lets Linux choose the port of a connection from a given address when it
// knows the other end, so that one address is good for all its ports at each server.
func portAtConnect(_, _ string, raw syscall.RawConn) error {
	const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT of ip(7)
	if runtime.GOOS != "linux" {
		return nil
	}
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, bindAddressNoPort, 1) // without it there are fewer ports
	})
}

// Path is where OpAMP is spoken.
const Path = "/v1/opamp"

// StatusError is an upgrade that was refused.
type StatusError struct {
	Status int
	// RetryAfter is the header of that name in seconds, "" if there was none.
	RetryAfter string
}

// Error implements error.
func (e *StatusError) Error() string { return fmt.Sprintf("the upgrade was answered %d", e.Status) }

// CloseError is a close frame of the server.
type CloseError struct {
	Code int
	Text string
}

// Error implements error.
func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d: %s", e.Code, e.Text) }

// Conn is an open WebSocket. One goroutine may receive; senders take turns by themselves.
type Conn struct {
	conn    net.Conn
	in      io.Reader
	writing sync.Mutex
	patient time.Duration // with one write; 0: for ever
}

// Dial connects and upgrades. A refusal of the upgrade is a *[StatusError].
func (p Peer) Dial(ctx context.Context) (*Conn, error) {
	refused := new(StatusError)
	dialer := ws.Dialer{
		NetDial: p.dial, TLSConfig: p.TLS, Header: ws.HandshakeHeaderHTTP(p.Header), ReadBufferSize: 4096,
		OnStatusError: func(status int, _ []byte, response io.Reader) {
			refused.Status = status
			if parsed, err := http.ReadResponse(bufio.NewReader(response), nil); err == nil {
				refused.RetryAfter = parsed.Header.Get("Retry-After")
				_ = parsed.Body.Close()
			}
		},
	}
	conn, in, _, err := dialer.Dial(ctx, "wss://"+p.Addr+Path)
	if refused.Status != 0 {
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", p.Addr, err)
	}
	if in != nil { // the server was faster than the reader of the handshake
		return &Conn{conn: conn, in: in}, nil
	}
	return &Conn{conn: conn, in: conn}, nil
}

// Send sends a message as the specification says: a header of one zero byte, then the
// protobuf, in one binary frame.
func (c *Conn) Send(m *protobufs.AgentToServer) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return c.SendBytes(append([]byte{0}, payload...))
}

// SendBytes sends one binary message with exactly these bytes.
func (c *Conn) SendBytes(data []byte) error {
	return c.SendFrame(ws.NewFrame(ws.OpBinary, true, data), true)
}

// SendFrame sends a frame as it is, masked or (which no client may) not. The payload
// of the caller is not changed.
func (c *Conn) SendFrame(frame ws.Frame, masked bool) error {
	if masked {
		frame = ws.MaskFrame(frame) // copies
	}
	text, err := ws.CompileFrame(frame)
	if err != nil {
		return err
	}
	return c.write(text)
}

// write writes at once, because each write makes a TLS record.
func (c *Conn) write(text []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.patient > 0 {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.patient))
	}
	_, err := c.conn.Write(text)
	return err
}

// SendHeader promises a binary frame of size bytes, without its payload.
func (c *Conn) SendHeader(size int64) error {
	return ws.WriteHeader(c.conn, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Mask: ws.NewMask(), Length: size})
}

// SendClose sends a close frame with the code and no words.
func (c *Conn) SendClose(code int) error {
	return c.SendFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), "")), true) //nolint:gosec // codes have 16 bits
}

// Forever is the wait of a Receive that ends with the connection alone, or with
// [Conn.Interrupt]. It is for connections on which no other wait was used.
const Forever time.Duration = 0

// Receive reads until the next message, at most for wait. The end of the connection is
// a *[CloseError] if the server sent a close frame, which is answered.
func (c *Conn) Receive(wait time.Duration) (*protobufs.ServerToAgent, error) {
	if wait != Forever {
		_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	}
	var data []byte
	for {
		frame, err := ws.ReadFrame(c.in)
		if err != nil {
			return nil, fmt.Errorf("read a frame: %w", err)
		}
		switch frame.Header.OpCode {
		case ws.OpPing:
			if err := c.SendFrame(ws.NewPongFrame(frame.Payload), true); err != nil {
				return nil, err
			}
		case ws.OpClose:
			return nil, c.closed(frame.Payload)
		case ws.OpBinary, ws.OpContinuation:
			if data = append(data, frame.Payload...); frame.Header.Fin {
				return decode(data)
			}
		default:
			return nil, fmt.Errorf("a frame of kind %d", frame.Header.OpCode)
		}
	}
}

func (c *Conn) closed(payload []byte) error {
	_ = c.SendFrame(ws.NewCloseFrame(payload), true) // it may be gone already
	code, text := ws.ParseCloseFrameData(payload)
	return &CloseError{Code: int(code), Text: text}
}

// ReceiveClose reads until the connection ends, whatever else comes.
func (c *Conn) ReceiveClose(wait time.Duration) (*CloseError, error) {
	deadline := time.Now().Add(wait)
	for {
		_, err := c.Receive(time.Until(deadline))
		if closed, ok := errors.AsType[*CloseError](err); ok {
			return closed, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Exchange sends a message and receives the next one.
func (c *Conn) Exchange(m *protobufs.AgentToServer, wait time.Duration) (*protobufs.ServerToAgent, error) {
	if err := c.Send(m); err != nil {
		return nil, err
	}
	return c.Receive(wait)
}

// Interrupt makes a Receive that waits, and any later one, fail. The connection stays open.
func (c *Conn) Interrupt() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }

// LimitWrites bounds each write, the answers to pings too; otherwise they wait for a peer that does not read. Call it
// before anything is sent.
func (c *Conn) LimitWrites(wait time.Duration) { c.patient = wait }

// Narrow makes the kernel keep little of what was not received yet, so that a peer that
// goes on sending has to wait.
func (c *Conn) Narrow() {
	if tcp, ok := raw(c.conn).(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096)
	}
}

// Close cuts the connection without a word, of TLS either.
func (c *Conn) Close() error { return raw(c.conn).Close() }

func raw(conn net.Conn) net.Conn {
	if secured, ok := conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return conn
}

func decode(data []byte) (*protobufs.ServerToAgent, error) {
	header, n := binary.Uvarint(data)
	if n <= 0 || header != 0 {
		return nil, errors.New("the server's message has no valid header")
	}
	m := new(protobufs.ServerToAgent)
	if err := proto.Unmarshal(data[n:], m); err != nil {
		return nil, fmt.Errorf("the server's message: %w", err)
	}
	return m, nil
}
