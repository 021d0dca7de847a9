// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// agent is one simulated agent. Its run reads; everything else happens under its lock.
type agent struct {
	swarm    *Swarm
	identity Identity
	polls    bool
	dials    atomic.Int64
	took     bool // of the run alone: a certificate, since it connected

	mu sync.Mutex
	self
	link     link   // nil while it is not connected
	sequence uint64 // of the next message
	owed     parts  // what changed since the last message
	unsent   []byte // a message that must be sent again before any other
	beat     *time.Timer
	interval time.Duration
	attempt  int  // at a configuration; grows
	spared   bool // that attempt does not fail
	answered bool
	waiting  int // messages without an answer
	asked    time.Time
	frozen   chan struct{} // closed at its thaw; nil unless it neither reads nor writes
	slow     time.Time     // it reads slowly until then
	left     bool          // it left the old connection open
	cloned   bool
	story    story
}

// farewellTime is how long the server may take to close in turn.
const farewellTime = 5 * time.Second

func newAgent(s *Swarm, index int, identity Identity) *agent {
	now := time.Now()
	a := &agent{swarm: s, identity: identity, polls: s.config.Transport.polls(index), interval: s.config.Heartbeat, owed: everything}
	a.self = self{name: fmt.Sprintf("%s-%05d", s.config.Name, index), index: index, started: now, changed: now}
	// The same agent has the same uid each time, as one has that keeps it in a file.
	hash := sha256.Sum256([]byte(identity.SPIFFE))
	copy(a.uid[:], hash[:])
	a.uid[6], a.uid[8] = a.uid[6]&0x0f|0x80, a.uid[8]&0x3f|0x80 // UUIDv8 (RFC 9562, section 5.8)
	a.beat = time.AfterFunc(time.Hour, a.heartbeat)
	a.beat.Stop()
	return a
}

// run connects, and connects again, until ctx ends.
func (a *agent) run(ctx context.Context) {
	var pause backoff
	for ctx.Err() == nil {
		l, err := a.dial(ctx)
		if err == nil {
			pause = backoff{}
			err = a.converse(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		a.tell(err)
		a.swarm.count.failed(err, l == nil)
		// After a connection that was accepted agents come back at once.
		if l == nil || refused(err) {
			_ = sleep(ctx, pause.next(err))
		}
	}
}

// dial connects from a goroutine of its own, whose stack has grown with the handshake
// when it ends.
func (a *agent) dial(ctx context.Context) (l link, err error) {
	if err := a.swarm.doors.enter(ctx); err != nil {
		return nil, err
	}
	peer := a.swarm.config.Target.peer(a.index, a.index+int(a.dials.Add(1))-1).With(a.identity.Certificate)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.swarm.doors.leave()
		begin := time.Now()
		if l, err = a.connect(ctx, peer); err == nil {
			a.swarm.count.Connect.add(time.Since(begin))
		}
	}()
	<-done
	return l, err
}

func (a *agent) connect(ctx context.Context, peer rawopamp.Peer) (link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if a.polls {
		return dialPoll(ctx, peer)
	}
	return dialSocket(ctx, peer)
}

// converse speaks over one connection until it ends.
func (a *agent) converse(ctx context.Context, l link) error {
	defer a.detach(ctx, l)
	a.attach(l)
	if ctx.Err() != nil { // it was stopped before it could be told
		return ctx.Err()
	}
	for {
		m, err := l.receive()
		if err != nil {
			return err
		}
		if a.hear(m) {
			_ = sleep(ctx, slowness)
		}
		if a.took {
			a.took = false
			return errTook
		}
	}
}

// errTook ends a connection whose certificate was replaced: the agent comes back with the new one, as supervisors do.
var errTook = fmt.Errorf("it took a certificate: %w", net.ErrClosed)

func (a *agent) attach(l link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link, a.waiting, a.left = l, 0, false
	a.swarm.count.online.Add(1)
	a.story.add(turn{words: "connected"})
	a.flush()
	// The first heartbeat spreads those who came at the same time.
	a.beat.Reset(rand.N(a.interval + 1))
}

// detach gives the connection up; one that is frozen only when it thaws.
func (a *agent) detach(ctx context.Context, l link) {
	a.mu.Lock()
	frozen := a.frozen
	a.mu.Unlock()
	if frozen != nil {
		select {
		case <-frozen:
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link, a.frozen = nil, nil
	a.beat.Stop()
	a.swarm.count.online.Add(-1)
	if a.left {
		time.AfterFunc(leftOpen, l.cut)
		return
	}
	l.cut()
}

func (a *agent) heartbeat() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flush()
}

// hear takes a message of the server, and says whether to be slow now.
func (a *agent) hear(m *protobufs.ServerToAgent) (slow bool) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swarm.count.Answers.Add(1)
	a.answered = true
	if a.waiting == 1 {
		a.swarm.count.Answer.add(now.Sub(a.asked))
	}
	a.waiting = max(0, a.waiting-1)
	if refusal := m.GetErrorResponse(); refusal != nil {
		a.story.add(turn{words: refusal.GetErrorMessage()})
		a.swarm.count.error("error response: " + refusal.GetErrorMessage())
	}
	if a.obey(m, now) {
		a.flush()
	} else {
		a.again(now)
	}
	return now.Before(a.slow)
}

// obey does what a message asks for, and says whether there is something to report.
func (a *agent) obey(m *protobufs.ServerToAgent, now time.Time) (news bool) {
	if m.GetFlags()&uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState) != 0 {
		a.swarm.count.FullStateAsked.Add(1)
		a.story.add(turn{words: "asked for the full state"})
		a.owed |= everything | allComponents
		news = true
	}
	if m.GetFlags()&uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportAvailableComponents) != 0 {
		a.swarm.count.ComponentsAsked.Add(1)
		a.owed |= allComponents
		news = true
	}
	if uid := m.GetAgentIdentification().GetNewInstanceUid(); len(uid) == len(a.uid) {
		copy(a.uid[:], uid)
		a.owed |= ofDescription | ofEffective
		news = true
	}
	if seconds := m.GetConnectionSettings().GetOpamp().GetHeartbeatIntervalSeconds(); seconds > 0 {
		a.interval = time.Duration(seconds) * time.Second //nolint:gosec // the server's word
	}
	if offer := m.GetConnectionSettings().GetOpamp().GetCertificate(); offer != nil && a.swarm.config.TakesOffers {
		a.take(offer)
	}
	if offer := m.GetRemoteConfig(); offer != nil {
		news = a.offered(offer, now) || news
	}
	return news
}

// take takes a certificate that the server offers.
func (a *agent) take(offer *protobufs.TLSCertificate) {
	certificate, err := takeOffer(offer)
	if err != nil {
		a.swarm.count.error("offer: " + err.Error())
		return
	}
	identity, err := newIdentity(certificate)
	if err != nil || identity.SPIFFE != a.identity.SPIFFE {
		a.swarm.count.error("an offer of another identity")
		return
	}
	a.identity, a.took = identity, true
	a.swarm.count.Certificates.Add(1)
	a.story.add(turn{words: "took a certificate"})
}

// leave says goodbye, first to OpAMP, then to the transport, whose end the server may
// announce in turn.
func (a *agent) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil {
		return
	}
	a.owed |= goodbye
	a.flush()
	a.link.farewell()
	time.AfterFunc(farewellTime, a.link.cut)
}

func (a *agent) tell(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.story.add(turn{words: kindOf(err)})
}

// ready says whether the agent is connected, has said everything and was answered.
func (a *agent) ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link != nil && a.frozen == nil && a.owed == 0 && a.waiting == 0 && a.unsent == nil
}
