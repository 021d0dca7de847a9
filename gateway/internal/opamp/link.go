// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// maxChildren bounds the sessions of one connection.
const maxChildren = 1000

// link is a WebSocket of an identity and the sessions on it: one, or those of a parent
// and its children.
type link struct {
	server  *Server
	socket  *socket
	from    edge.Caller
	strikes strikes // of the reader
	begins  session.Bucket
	waking  atomic.Bool
	again   atomic.Bool

	mu       sync.Mutex
	sessions []*session.Session // by uid; nearly always one
}

func newLink(server *Server, socket *socket, from edge.Caller) *link {
	l := &link{server: server, socket: socket, from: from, begins: session.FullBucket(server.Clock())}
	socket.onSign = l.touch
	return l
}

// run answers messages until the connection ends, and ends its sessions, whatever happens.
func (l *link) run(ctx context.Context) (end *ending) {
	end = endGone
	defer func() {
		// Nothing that was asked of the connection meanwhile counts any more.
		end = l.socket.ended(end)
		for _, s := range l.all() {
			l.server.Registry.End(s, end.reason)
		}
	}()
	expiry := time.AfterFunc(l.from.NotAfter.Sub(l.server.Clock()), func() { l.socket.end(endExpired) })
	defer expiry.Stop()
	return l.loop(ctx)
}

func (l *link) loop(ctx context.Context) *ending {
	for {
		message, end := l.socket.receive()
		if end != nil {
			return end
		}
		out := l.take(ctx, message)
		message.release()
		if err := l.write(ctx, out.answer, out.session); err != nil {
			return endGone
		}
		if out.end != nil {
			return out.end
		}
		if out.limited {
			time.Sleep(session.PaceOfMessages) // what comes faster waits at the peer, not here
		}
	}
}

// take handles one WebSocket message.
func (l *link) take(ctx context.Context, m *message) outcome {
	payload, err := decodeFrame(m.data)
	switch {
	case errors.Is(err, errHeaderless):
		return outcome{answer: toNobody().badRequest("messages without a header are not supported: the agent is too old"), end: violation(err)}
	case err != nil:
		return l.judge(l.server.refuse(ctx, l, toNobody().badRequest("the message has no valid header"), edge.Malformed, err))
	}
	return l.judge(l.server.exchange(ctx, l, payload))
}

// judge ends a connection that sends bad messages time and again.
func (l *link) judge(out outcome) outcome {
	if out.fault == "" {
		return out
	}
	// A refused uid ends the connection that was opened for it, but not that of a
	// parent, whose other agents are not to blame.
	if out.end != nil && l.carries() > 0 {
		l.server.Rejections.Reject(context.Background(), out.fault, out.end, edge.Known(l.from)...)
		out.end = nil
	}
	if l.strikes.add(l.server.Clock()) && out.end == nil {
		out.end = &ending{code: ws.StatusPolicyViolation, text: "too many bad messages", reason: session.ProtocolError, punish: true}
	}
	return out
}

// write writes an answer with the mail of its session.
func (l *link) write(ctx context.Context, reply answer, to *session.Session) error {
	var sent sending
	err := l.socket.compose(ws.OpBinary, func(dst []byte) []byte {
		var posted answer
		posted, sent = l.server.post(ctx, reply, to)
		return posted.append(beginFrame(dst), sent)
	})
	l.server.written(to, sent, err)
	if sent.left {
		l.Wake(to)
	}
	return err
}

// Wake writes the mail of the link's sessions, by one goroutine at a time.
func (l *link) Wake(*session.Session) {
	l.again.Store(true)
	if l.waking.CompareAndSwap(false, true) {
		go l.flush()
	}
}

func (l *link) flush() {
	for {
		l.again.Store(false)
		for _, s := range l.all() {
			if err := l.push(s); err != nil {
				break
			}
		}
		l.waking.Store(false)
		if !l.again.Load() || !l.waking.CompareAndSwap(false, true) {
			return
		}
	}
}

// push writes the mail of a session, if there is any left when its turn comes.
func (l *link) push(to *session.Session) error {
	var sent sending
	err := l.socket.compose(ws.OpBinary, func(dst []byte) []byte {
		if !to.HasMail() {
			return nil
		}
		var posted answer
		if posted, sent = l.server.post(l.server.life, newAnswer(to.UID), to); !sent.any() && !posted.says() {
			return nil // the mail could not be sent after all
		}
		return posted.append(beginFrame(dst), sent)
	})
	l.server.written(to, sent, err)
	if sent.left {
		l.again.Store(true) // one goroutine flushes, and it is this
	}
	return err
}

// Ping asks the peer for a pong, without waiting for the writer's turn.
func (l *link) Ping() {
	go func() { _ = l.socket.write(ws.OpPing, nil) }()
}

// Renew makes an offer of a certificate.
func (l *link) Renew(s *session.Session, number int64) { go l.server.replace(l, s, number) }

// Close ends the connection, or takes one of several sessions off it.
func (l *link) Close(s *session.Session, reason session.EndReason) {
	if !reason.Distrust() && l.carriesBeside(s) {
		l.server.Registry.End(s, reason)
		return
	}
	l.socket.end(endFor(reason))
}

// endFor is how a connection ends when we end its session.
func endFor(reason session.EndReason) *ending {
	if reason == session.Drained {
		return endElsewhere
	}
	end := &ending{code: ws.StatusPolicyViolation, text: string(reason), reason: reason, punish: true}
	if reason.Distrust() {
		end.reject = edge.AuthFailed
	}
	return end
}

// endElsewhere sends an agent to whichever gateway it is led to next. It did nothing wrong.
var endElsewhere = &ending{code: ws.StatusGoingAway, text: "connect again, this gateway is drained", reason: session.Drained}

// endExpired ends a connection with the certificate that opened it. Its agent may have
// another by now.
var endExpired = &ending{code: ws.StatusPolicyViolation, text: "the certificate has expired", reason: session.Expired}

func (l *link) caller() edge.Caller             { return l.from }
func (l *link) transport() internalv1.Transport { return internalv1.Transport_TRANSPORT_WEBSOCKET }

// paceBegins slows a connection down that begins sessions faster than agents do: each is a claim that control answers
// from its database. It is called by the reader alone, which so waits at the peer's expense.
func (l *link) paceBegins() {
	var free bool
	if l.begins, free = l.begins.Take(l.server.Clock()); !free {
		time.Sleep(session.PaceOfMessages)
	}
}

func (l *link) find(_ context.Context, uid identity.InstanceUID) (*session.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.index(uid); i >= 0 && !l.sessions[i].Ended() {
		return l.sessions[i], nil
	}
	return nil, nil
}

// index is that of the session of a uid; negative if there is none. The lock is held.
func (l *link) index(uid identity.InstanceUID) int {
	return slices.IndexFunc(l.sessions, func(s *session.Session) bool { return s.UID == uid })
}

func (l *link) ready(context.Context, *session.Session, uint64) error { return nil }

func (l *link) start(_ context.Context, uid identity.InstanceUID, s *session.Session, _ bool) error {
	l.mu.Lock()
	if i := l.index(uid); i >= 0 {
		l.sessions[i] = s
	} else {
		l.sessions = append(l.sessions, s)
	}
	l.mu.Unlock()
	l.server.Registry.Start(s)
	return nil
}

// carries counts the live sessions, and forgets those that have ended: agents behind a
// parent come and go while it stays.
func (l *link) carries() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = slices.DeleteFunc(l.sessions, (*session.Session).Ended)
	return len(l.sessions)
}

// carriesBeside says whether there is a live session but this one.
func (l *link) carriesBeside(this *session.Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.sessions, func(s *session.Session) bool { return s != this && !s.Ended() })
}

func (l *link) all() []*session.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sessions)
}

// touch is a sign of life of the peer, and so of all its agents.
func (l *link) touch() {
	now := l.server.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sessions {
		s.Touch(now)
	}
}

// strikes counts bad messages of a connection.
type strikes struct {
	since time.Time
	count int
}

// add says whether this is the third within a minute.
func (s *strikes) add(now time.Time) bool {
	if now.Sub(s.since) > time.Minute {
		s.since, s.count = now, 0
	}
	s.count++
	return s.count >= 3
}
