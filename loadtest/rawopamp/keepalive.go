// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rawopamp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// Poller is an open connection for polls, one after the other, over HTTP/1.1. It is for
// one goroutine, but [Poller.Close] is for any.
type Poller struct {
	conn   net.Conn
	in     *bufio.Reader
	header http.Header
	addr   string
}

// DialPoll connects without sending anything yet.
func (p Peer) DialPoll(ctx context.Context) (*Poller, error) {
	plain, err := p.dial(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	config := p.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(p.Addr)
	}
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("dial %s: %w", p.Addr, err)
	}
	return &Poller{conn: conn, in: bufio.NewReaderSize(conn, 1024), header: p.Header, addr: p.Addr}, nil
}

// Poll sends a message in protobuf's bytes and reads its answer, at most for wait. Any
// status but 200 is a *[StatusError], after which the connection is still good.
func (p *Poller) Poll(payload []byte, wait time.Duration) (*protobufs.ServerToAgent, error) {
	_ = p.conn.SetDeadline(time.Now().Add(wait))
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+p.addr+Path, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	for key, values := range p.header {
		request.Header[key] = values
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	var text bytes.Buffer
	if err := request.Write(&text); err != nil { // into memory
		return nil, err
	}
	if _, err := p.conn.Write(text.Bytes()); err != nil {
		return nil, fmt.Errorf("send a poll: %w", err)
	}
	response, err := http.ReadResponse(p.in, request)
	if err != nil {
		return nil, fmt.Errorf("read the answer of a poll: %w", err)
	}
	defer response.Body.Close()
	answer, err := readAnswer(response)
	switch {
	case err != nil:
		return nil, err
	case answer.Status != http.StatusOK || answer.Message == nil:
		return nil, &StatusError{Status: answer.Status, RetryAfter: answer.Header.Get("Retry-After")}
	}
	return answer.Message, nil
}

// Close cuts the connection without a word.
func (p *Poller) Close() error { return raw(p.conn).Close() }
