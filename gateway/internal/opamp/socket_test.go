// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

func newSocket(conn net.Conn) *socket {
	return &socket{
		conn: conn, clock: time.Now, heard: time.Now(), onSign: func() {},
		limits: Limits{MessageBytes: 1 << 16, FrameTime: time.Second, WriteTime: time.Second, PingInterval: time.Second, IdleTime: 3 * time.Second},
	}
}

// replay is a connection that was sent some bytes and then closed.
type replay struct {
	net.Conn
	data    *bytes.Reader
	written bytes.Buffer
	largest int // buffer it was asked to fill
}

func (r *replay) Read(p []byte) (int, error) {
	r.largest = max(r.largest, len(p))
	return r.data.Read(p)
}
func (r *replay) Write(p []byte) (int, error)      { return r.written.Write(p) }
func (r *replay) SetReadDeadline(time.Time) error  { return nil }
func (r *replay) SetWriteDeadline(time.Time) error { return nil }

func compile(frames ...ws.Frame) []byte {
	var out []byte
	for _, frame := range frames {
		out = append(out, ws.MustCompileFrame(ws.MaskFrame(frame))...)
	}
	return out
}

// Whatever bytes come: the reader ends, never hands out more than the limit, never
// reserves memory for what has not come, and writes nothing but whole frames.
func FuzzSocket(f *testing.F) {
	f.Add(compile(ws.NewBinaryFrame([]byte("\x00hello"))))
	f.Add(compile(ws.NewFrame(ws.OpBinary, false, []byte("a")), ws.NewPingFrame([]byte("p")), ws.NewFrame(ws.OpContinuation, true, []byte("b"))))
	f.Add(compile(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "bye"))))
	f.Add(compile(ws.NewTextFrame([]byte("t"))))
	f.Add(append(compile(ws.NewFrame(ws.OpBinary, false, []byte("a"))), longest...))
	f.Add([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := &replay{data: bytes.NewReader(data)}
		c := newSocket(conn)
		for {
			m, end := c.receive()
			if end != nil {
				break
			}
			if len(m.data) > c.limits.MessageBytes {
				t.Fatalf("a message of %d bytes", len(m.data))
			}
			m.release()
		}
		if bound := 2*len(data) + 8192; conn.largest > max(bound, keepBuffer) {
			t.Fatalf("%d bytes were reserved for %d", conn.largest, len(data))
		}
		for reader := bytes.NewReader(conn.written.Bytes()); reader.Len() > 0; {
			if _, err := ws.ReadFrame(reader); err != nil {
				t.Fatalf("half a frame was written: %v", err)
			}
		}
	})
}

// longest is the header of a continuation of 2^63-1 bytes, the most that one can announce.
var longest = []byte{0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}

// What has come and what is announced are more together than any integer can say.
func TestFragmentOfAnyLengthCountsAgainstTheLimit(t *testing.T) {
	sent := append(compile(ws.NewFrame(ws.OpBinary, false, []byte("a"))), longest...)
	c := newSocket(&replay{data: bytes.NewReader(sent)})
	if _, end := c.receive(); end != endOversize {
		t.Errorf("it ended with %v", end)
	}
}

// The time for a message is one for all its fragments, or a peer could hold its memory
// for ever.
func TestFragmentsShareTheTimeOfTheirMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newSocket(ours)
		var writing sync.WaitGroup
		writing.Go(func() {
			op := ws.OpBinary
			for {
				if _, err := theirs.Write(compile(ws.NewFrame(op, false, nil))); err != nil {
					return
				}
				op = ws.OpContinuation
				time.Sleep(c.limits.FrameTime / 4) // of the bubble's clock
			}
		})
		began := time.Now()
		if _, end := c.receive(); end != endSlowSender {
			t.Errorf("it ended with %v", end)
		}
		if took := time.Since(began); took != c.limits.FrameTime {
			t.Errorf("the message was given %v", took)
		}
		_ = ours.Close()
		writing.Wait() // it may just be between two fragments
	})
}

// The begin of a frame may come with the frame before it. The peer is slow if the rest does
// not follow, and not silent.
func TestRestOfAFrameThatWasReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _ = ours.Close() }()
		c := newSocket(ours)
		c.limits.PingInterval = time.Hour
		whole := compile(ws.NewBinaryFrame([]byte("a")))
		go func() { _, _ = theirs.Write(append(whole, whole[:3]...)) }()
		if m, end := c.receive(); end != nil || string(m.data) != "a" {
			t.Fatalf("the first frame is %v, %v", m, end)
		}
		began := time.Now()
		if _, end := c.receive(); end != endSlowSender || time.Since(began) != c.limits.FrameTime {
			t.Errorf("it ended with %v after %v", end, time.Since(began))
		}
	})
}

func TestSilentPeerIsPingedThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newSocket(ours)
		pings := make(chan int, 1)
		go func() {
			n := 0
			for {
				if frame, err := ws.ReadFrame(theirs); err != nil || frame.Header.OpCode != ws.OpPing {
					pings <- n
					return
				}
				n++
			}
		}()
		began := time.Now()
		if _, end := c.receive(); end != endIdle {
			t.Errorf("it ended with %v", end)
		}
		if silence := time.Since(began); silence != 3*time.Second {
			t.Errorf("it ended after %v", silence)
		}
		_ = ours.Close()
		if n := <-pings; n != 2 {
			t.Errorf("there were %d pings", n)
		}
	})
}

func TestPongsKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newSocket(ours)
		go func() {
			for range 10 {
				frame, err := ws.ReadFrame(theirs)
				if err != nil || frame.Header.OpCode != ws.OpPing {
					t.Errorf("%v, %v", frame.Header, err)
				}
				_, _ = theirs.Write(compile(ws.NewPongFrame(nil)))
			}
			_ = theirs.Close()
		}()
		began := time.Now()
		if _, end := c.receive(); end != endGone {
			t.Errorf("it ended with %v", end)
		}
		if lived := time.Since(began); lived < 10*time.Second {
			t.Errorf("it lived %v", lived)
		}
	})
}

// A flood of pings is answered at a pace.
func TestFloodOfPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pings = 1000
		ours, theirs := net.Pipe()
		c := newSocket(ours)
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			for range pings {
				_, _ = theirs.Write(compile(ws.NewPingFrame([]byte("p"))))
			}
			_ = theirs.Close()
		}()
		began := time.Now()
		if _, end := c.receive(); end != endGone {
			t.Errorf("it ended with %v", end)
		}
		if took := time.Since(began); took < 5*time.Second {
			t.Errorf("%d pings took %v", pings, took)
		}
	})
}

func TestPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _ = theirs.Close() }()
		c := newSocket(ours)
		ended := make(chan *ending, 1)
		go func() {
			_, end := c.receive()
			ended <- end
		}()
		began := time.Now()
		if err := c.write(ws.OpBinary, []byte("x")); err == nil {
			t.Error("the write succeeded")
		}
		if took := time.Since(began); took != c.limits.WriteTime {
			t.Errorf("the write took %v", took)
		}
		if end := <-ended; end != endSlow {
			t.Errorf("the reader ended with %v", end)
		}
	})
}

func TestEndingWakesTheReaderOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newSocket(ours)
		ended := make(chan *ending, 1)
		go func() {
			_, end := c.receive()
			ended <- end
			c.finish(end)
		}()
		synctest.Wait()
		began := time.Now()
		first := endFor("REQUESTED")
		c.end(first)
		if got := c.ended(endDrained); got != first {
			t.Errorf("a second ending replaced the first: %v", got)
		}
		frame, err := ws.ReadFrame(theirs)
		if err != nil || frame.Header.OpCode != ws.OpClose {
			t.Errorf("%v, %v", frame.Header, err)
		}
		if got := <-ended; got != first || time.Since(began) > 0 {
			t.Errorf("the reader ended with %v after %v", got, time.Since(began))
		}
		if _, err := io.ReadAll(theirs); err != nil {
			t.Errorf("the connection is open: %v", err)
		}
	})
}
