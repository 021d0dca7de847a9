// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
)

// Limits bounds what peers may do. All are required.
type Limits struct {
	MessageBytes int           // of one message, all its fragments together
	FrameTime    time.Duration // for a message to arrive, per MiB begun
	WriteTime    time.Duration // for one write
	PingInterval time.Duration // of silence, then we ping
	IdleTime     time.Duration // of silence, then we give up
}

// lingerTime is how long a closed connection is read to its end. Closing with unread
// data makes TCP reset the connection, and the reset overtakes our close frame.
const (
	lingerTime  = time.Second
	lingerBytes = 32 << 20
)

// ending is why and how a connection ends. It is the error of whatever it interrupts.
type ending struct {
	code   ws.StatusCode     // of the close frame; 0: no close frame
	text   string            // of the close frame; shown to the agent's operator
	reason session.EndReason // of the sessions
	reject edge.Reason       // to be counted; "": nobody's fault
	punish bool              // into the penalty box although nothing is to be counted
}

// statusTryAgainLater is registered with IANA for RFC 6455's close codes.
const statusTryAgainLater ws.StatusCode = 1013

// Error is the text of the close frame.
func (e *ending) Error() string { return e.text }

func violation(err error) *ending {
	return &ending{code: ws.StatusProtocolError, text: err.Error(), reason: session.ProtocolError, reject: edge.Malformed}
}

var (
	endGone       = &ending{text: "the peer is gone", reason: session.Closed}
	endIdle       = &ending{code: ws.StatusGoingAway, text: "idle", reason: session.Idle}
	endSlow       = &ending{text: "the peer does not read", reason: session.SlowConsumer, reject: edge.SlowConsumer}
	endOversize   = &ending{code: ws.StatusMessageTooBig, text: "message too big", reason: session.ProtocolError, reject: edge.Oversize}
	endText       = &ending{code: ws.StatusUnsupportedData, text: "binary messages only", reason: session.ProtocolError, reject: edge.Malformed}
	endSlowSender = &ending{code: ws.StatusPolicyViolation, text: "a message did not arrive in time", reason: session.ProtocolError, reject: edge.Malformed}
)

// socket is the server's side of one WebSocket (RFC 6455) without extensions. One
// goroutine calls receive and finish; the others are for any.
type socket struct {
	conn    net.Conn
	ahead   []byte // read and not taken yet: at first what net/http had read before the hijack
	limits  Limits
	clock   func() time.Time
	onSign  func() // a frame arrived: the peer lives
	closing atomic.Pointer[ending]

	// Of the reader.
	heard   time.Time
	inFrame bool
	wait    time.Duration  // the read deadline that is due before the next read; 0: it stands
	small   [64]byte       // what is read ahead: a heartbeat comes as a whole
	signs   session.Bucket // of control frames
	begun   time.Time      // the message under way; zero between messages

	writing sync.Mutex // the writer's turn
	broken  error      // a write failed: TLS cannot write any more
}

// message is what receive returns; release gives its memory back.
type message struct{ data []byte }

// keepBuffer is the largest buffer worth keeping for others.
const keepBuffer = 64 << 10

var messages = sync.Pool{New: func() any { return new(message) }}

func (m *message) release() {
	if cap(m.data) <= keepBuffer {
		m.data = m.data[:0]
		messages.Put(m)
	}
}

// receive returns the next binary message, and answers the control frames before it.
// Its error is an ending.
func (c *socket) receive() (*message, *ending) {
	var m *message
	for {
		header, end := c.header(m)
		if end == nil {
			end = c.admit(header, m)
		}
		if end != nil {
			return nil, end
		}
		if header.OpCode.IsControl() {
			if end := c.control(header); end != nil {
				return nil, end
			}
			continue
		}
		if m == nil {
			m, c.begun = messages.Get().(*message), time.Now()
		}
		if end := c.payload(header, m); end != nil {
			return nil, end
		}
		if header.Fin {
			c.begun = time.Time{}
			return m, nil
		}
	}
}

// header waits for the next frame: between messages as long as the peer shows that it
// lives, inside a message as long as the message may take.
func (c *socket) header(m *message) (ws.Header, *ending) {
	for {
		wait := c.limits.PingInterval
		if m != nil {
			wait = c.left(int64(len(m.data)))
		}
		c.inFrame, c.wait = false, 0
		if end := c.arm(wait); end != nil {
			return ws.Header{}, end
		}
		header, err := ws.ReadHeader(c)
		switch {
		case err == nil:
			c.heard = c.clock()
			c.onSign()
			return header, nil
		case errors.Is(err, ws.ErrHeaderLengthMSB), errors.Is(err, ws.ErrHeaderLengthUnexpected):
			return header, violation(err)
		case !errors.Is(err, os.ErrDeadlineExceeded) || c.closing.Load() != nil:
			return header, c.ended(endGone)
		case c.inFrame || m != nil:
			return header, endSlowSender
		case c.clock().Sub(c.heard) >= c.limits.IdleTime:
			return header, endIdle
		}
		if err := c.write(ws.OpPing, nil); err != nil {
			return header, c.ended(endGone)
		}
	}
}

// left is the time that a message of the size still has to arrive. All its fragments
// share it: a peer that sent them one by one could otherwise hold their memory for ever.
func (c *socket) left(size int64) time.Duration {
	return time.Until(c.begun.Add(c.limits.FrameTime * time.Duration(size>>20+1)))
}

// Read reads for the frame reader. With the first byte of a frame the idle deadline
// gives way to the deadline for a frame, from when the rest of it has to be waited for;
// inside a message its deadline stays.
func (c *socket) Read(p []byte) (n int, err error) {
	if len(c.ahead) == 0 {
		if c.wait > 0 {
			if end := c.arm(c.wait); end != nil {
				return 0, end
			}
			c.wait = 0
		}
		if len(p) >= len(c.small) {
			n, err = c.conn.Read(p)
			c.began(n)
			return n, err
		}
		n, err = c.conn.Read(c.small[:])
		c.ahead = c.small[:n]
	}
	n = copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	c.began(n)
	return n, err
}

// began notes that bytes of a frame were taken.
func (c *socket) began(n int) {
	if n > 0 && !c.inFrame {
		c.inFrame = true
		if c.begun.IsZero() {
			c.wait = c.limits.FrameTime
		}
	}
}

// arm sets the read deadline, unless the connection is being closed: then the deadline
// that woke the reader must stay.
func (c *socket) arm(wait time.Duration) *ending {
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	return c.closing.Load()
}

// admit checks a frame before anything is allocated for it.
func (c *socket) admit(header ws.Header, m *message) *ending {
	state := ws.StateServerSide
	room := int64(c.limits.MessageBytes) // what came is taken from it: the sum could overflow
	if m != nil {
		state = state.Set(ws.StateFragmented)
		room -= int64(len(m.data))
	}
	if err := ws.CheckHeader(header, state); err != nil {
		return violation(err)
	}
	switch {
	case header.OpCode == ws.OpText:
		return endText
	case header.OpCode.IsData() && header.Length > room:
		return endOversize
	}
	return nil
}

// payload reads and unmasks the payload of a data frame. Memory grows with what has
// arrived, not with what the header promised.
func (c *socket) payload(header ws.Header, m *message) *ending {
	begin := len(m.data)
	c.wait = max(1, c.left(int64(begin)+header.Length))
	for left := int(header.Length); left > 0; {
		m.data = slices.Grow(m.data, min(left, max(4096, len(m.data))))
		room := m.data[len(m.data):min(cap(m.data), len(m.data)+left)]
		n, err := c.Read(room)
		m.data = m.data[:len(m.data)+n]
		if left -= n; err != nil && left > 0 {
			return c.interrupted(err)
		}
	}
	ws.Cipher(m.data[begin:], header.Mask, 0)
	return nil
}

func (c *socket) interrupted(err error) *ending {
	if errors.Is(err, os.ErrDeadlineExceeded) && c.closing.Load() == nil {
		return endSlowSender
	}
	return c.ended(endGone)
}

// control reads and answers a control frame; its length was checked. Those that come
// too fast wait at the peer: no bucket of a session counts them.
func (c *socket) control(header ws.Header) *ending {
	var taken bool
	if c.signs, taken = c.signs.Take(c.clock()); !taken {
		time.Sleep(session.PaceOfMessages)
	}
	payload := make([]byte, header.Length)
	if _, err := io.ReadFull(c, payload); err != nil {
		return c.interrupted(err)
	}
	ws.Cipher(payload, header.Mask, 0)
	if header.OpCode == ws.OpClose {
		return closedByPeer(payload)
	}
	if header.OpCode == ws.OpPing && c.write(ws.OpPong, payload) != nil {
		return c.ended(endGone)
	}
	return nil
}

// closedByPeer answers a close frame with its own code (RFC 6455, section 5.5.1).
func closedByPeer(payload []byte) *ending {
	if len(payload) == 0 {
		return &ending{code: ws.StatusNormalClosure, reason: session.Closed}
	}
	code, text := ws.ParseCloseFrameData(payload)
	if err := ws.CheckCloseFrameData(code, text); err != nil {
		return violation(err)
	}
	return &ending{code: code, reason: session.Closed}
}

var errBroken = errors.New("an earlier write failed")

// write writes one frame.
func (c *socket) write(op ws.OpCode, payload []byte) error {
	return c.compose(op, func(dst []byte) []byte { return append(dst, payload...) })
}

// compose makes a frame in the writer's turn and writes it, so that what is made later
// is written later. payload appends; nil writes nothing. What was written is wiped.
func (c *socket) compose(op ws.OpCode, payload func(dst []byte) []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.broken != nil {
		return c.broken
	}
	frame := messages.Get().(*message)
	defer frame.release()
	data := payload(append(frame.data, make([]byte, maxFrameHeader)...))
	if data == nil {
		return nil
	}
	frame.data = data
	defer clear(data) // an offer may hold a private key
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.limits.WriteTime))
	_, err := c.conn.Write(framed(op, data)) // one frame, one write, as few TLS records as possible
	if err != nil {
		c.broken = errBroken
		end := endGone
		if errors.Is(err, os.ErrDeadlineExceeded) {
			end = endSlow
		}
		c.end(end)
	}
	return err
}

// maxFrameHeader is the room for the header of a frame that is not masked.
const maxFrameHeader = 10

// framed puts the header of a frame right before a payload that has room for it.
func framed(op ws.OpCode, room []byte) []byte {
	var longest [maxFrameHeader]byte
	header := appendHeader(longest[:0], op, len(room)-maxFrameHeader)
	frame := room[maxFrameHeader-len(header):]
	copy(frame, header)
	return frame
}

// appendHeader appends the header of an unmasked final frame (RFC 6455, section 5.2).
func appendHeader(dst []byte, op ws.OpCode, length int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case length < 126:
		return append(dst, byte(length)) //nolint:gosec // below 126
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
	}
}

// end begins the end of the connection: the first ending stays, and the reader wakes.
func (c *socket) end(e *ending) {
	if c.closing.CompareAndSwap(nil, e) {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// ended ends the connection and returns the ending that stays.
func (c *socket) ended(e *ending) *ending {
	c.end(e)
	return c.closing.Load()
}

// raw is the connection without TLS.
func (c *socket) raw() net.Conn {
	if secured, ok := c.conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return c.conn
}

// cut ends the connection at once, whoever reads or writes.
func (c *socket) cut() { _ = c.raw().Close() }

// finish ends the connection as e says: the close frame, then TCP, without waiting for
// TLS to say goodbye as well.
func (c *socket) finish(e *ending) {
	raw := c.raw()
	defer func() { _ = raw.Close() }()
	if e.code == 0 || c.write(ws.OpClose, ws.NewCloseFrameBody(e.code, e.text)) != nil {
		return
	}
	if half, ok := raw.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = raw.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, raw, lingerBytes)
}
