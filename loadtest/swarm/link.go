// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// link is an open connection of one agent. One goroutine receives; cut and interrupt are
// for any; sends come one at a time.
type link interface {
	// send sends a message. An error ends the connection.
	send(payload []byte) error
	// repeats says whether a message that send failed on is to be sent again, as it was.
	repeats(err error) bool
	// receive waits for the next message of the server.
	receive() (*protobufs.ServerToAgent, error)
	// interrupt makes receive fail, without a sign to the server.
	interrupt()
	// narrow makes unread messages pile up at the server.
	narrow()
	// farewell begins the end of the transport: no more is sent.
	farewell()
	// cut ends the connection without a word.
	cut()
}

// Times of a connection.
const (
	dialTime  = 40 * time.Second
	writeTime = 30 * time.Second
	pollTime  = 40 * time.Second
)

// socket is a WebSocket.
type socket struct{ conn *rawopamp.Conn }

func dialSocket(ctx context.Context, peer rawopamp.Peer) (link, error) {
	conn, err := peer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	conn.LimitWrites(writeTime)
	return &socket{conn}, nil
}

func (s *socket) send(payload []byte) error {
	return s.conn.SendBytes(append([]byte{0}, payload...))
}

func (s *socket) repeats(error) bool                         { return false }
func (s *socket) receive() (*protobufs.ServerToAgent, error) { return s.conn.Receive(rawopamp.Forever) }
func (s *socket) interrupt()                                 { s.conn.Interrupt() }
func (s *socket) narrow()                                    { s.conn.Narrow() }
func (s *socket) farewell()                                  { _ = s.conn.SendClose(int(ws.StatusNormalClosure)) }
func (s *socket) cut()                                       { _ = s.conn.Close() }

// poll is a kept-alive connection for polls. What they are answered is queued for receive.
type poll struct {
	conn *rawopamp.Poller

	mu      sync.Mutex
	answers []*protobufs.ServerToAgent
	failed  error         // why it ended
	news    chan struct{} // of the two above
}

func dialPoll(ctx context.Context, peer rawopamp.Peer) (link, error) {
	conn, err := peer.DialPoll(ctx)
	if err != nil {
		return nil, err
	}
	return &poll{conn: conn, news: make(chan struct{}, 1)}, nil
}

func (p *poll) send(payload []byte) error {
	answer, err := p.conn.Poll(payload, pollTime)
	if err != nil {
		p.end(err)
		return err
	}
	p.mu.Lock()
	p.answers = append(p.answers, answer)
	p.mu.Unlock()
	p.ring()
	return nil
}

// repeats says that opamp-go sends the message again: the server did not take it, or may
// not have. Whatever else it is answered, the message is dropped, and the sequence has a hole.
func (p *poll) repeats(err error) bool {
	status, refused := errors.AsType[*rawopamp.StatusError](err)
	return !refused || status.Status == http.StatusServiceUnavailable || status.Status == http.StatusTooManyRequests
}

func (p *poll) receive() (*protobufs.ServerToAgent, error) {
	for {
		p.mu.Lock()
		if len(p.answers) > 0 {
			answer := p.answers[0]
			p.answers = p.answers[1:]
			p.mu.Unlock()
			return answer, nil
		}
		err := p.failed
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
		<-p.news
	}
}

func (p *poll) ring() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *poll) end(err error) {
	p.mu.Lock()
	if p.failed == nil {
		p.failed = err
	}
	p.mu.Unlock()
	p.ring()
	_ = p.conn.Close()
}

func (p *poll) interrupt() { p.end(net.ErrClosed) }
func (p *poll) narrow()    {}
func (p *poll) farewell()  { p.cut() }
func (p *poll) cut()       { p.end(net.ErrClosed) }
