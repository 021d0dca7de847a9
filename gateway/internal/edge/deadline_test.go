// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener with one connection.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { close(l.closed); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial serves the handler as [NewServer] does, less TLS, and connects to it.
func dial(t *testing.T, handler http.HandlerFunc) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	listener := &pipes{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- ours
	server := &http.Server{Handler: Bounded(handler), ReadHeaderTimeout: requestTime}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = theirs.Close(); _ = server.Close() })
	return theirs
}

func refuseAll(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }

const announced = "POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 4\r\n\r\n"

// A peer that nobody admitted announces a body and never sends it.
func TestBodyThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, refuseAll)
		began := time.Now()
		if _, err := io.WriteString(conn, announced); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(began.Add(time.Hour))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("the connection is open: %v", err)
		}
		if took := time.Since(began); took > requestTime+time.Second {
			t.Errorf("it was closed after %v", took)
		}
	})
}

func TestAnswerThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, refuseAll)
		began := time.Now()
		_ = conn.SetWriteDeadline(began.Add(time.Hour))
		for {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"); err == nil {
				continue
			}
			if took := time.Since(began); took > answerTime+time.Second {
				t.Errorf("it was closed after %v", took)
			}
			return
		}
	})
}

// What comes after the body may take longer than the body: signing by a key management
// service, or a claim.
func TestHandlerMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dial(t, func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != "body" {
				t.Errorf("read %q, %v", body, err)
			}
			select {
			case <-time.After(2 * requestTime): // of the bubble's clock
			case <-r.Context().Done():
				t.Errorf("the request was cancelled: %v", r.Context().Err())
			}
		})
		if _, err := io.WriteString(conn, announced+"body"); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("answered %d", response.StatusCode)
		}
	})
}
