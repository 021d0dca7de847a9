// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// poller carries one message of an agent that polls. Its session belongs to the agent
// and not to a connection, nor to this gateway: any later poll finds it in the registry,
// and what other gateways have heard meanwhile on the bus.
type poller struct {
	server  *Server
	from    edge.Caller
	letters [][]byte // the agent's mail, as it lies
}

var (
	_ carrier = (*poller)(nil)
	_ carrier = (*link)(nil)
)

func (p *poller) caller() edge.Caller             { return p.from }
func (p *poller) transport() internalv1.Transport { return internalv1.Transport_TRANSPORT_HTTP }

func (p *poller) poller(uid identity.InstanceUID) session.Poller {
	return session.Poller{Identity: session.Key{Tenant: p.from.Agent.Tenant, Agent: p.from.Agent.ID}, UID: uid}
}

// find returns the session as far as it has come at any gateway. One that was claimed
// anew elsewhere is none any more.
func (p *poller) find(ctx context.Context, uid identity.InstanceUID) (*session.Session, error) {
	current := p.server.Registry.Polling(p.poller(uid))
	if current == nil {
		return nil, nil
	}
	if current.Serial != p.from.Serial {
		// It shows another certificate: everybody must know which one to refuse from now on.
		p.server.Registry.Forget(current)
		return nil, nil
	}
	found, err := p.server.Polls.Read(ctx, current.Key)
	switch {
	case err != nil:
		return nil, err
	case found.Standing != nil && found.Standing.Epoch > current.Epoch():
		p.server.Registry.Forget(current)
		return nil, nil
	case found.Standing != nil:
		current.Follow(*found.Standing)
	}
	p.letters = found.Letters
	return current, nil
}

// start adds a session. One that is shared goes on from where other gateways have taken
// it.
func (p *poller) start(ctx context.Context, uid identity.InstanceUID, s *session.Session, shared bool) error {
	if shared {
		found, err := p.server.Polls.Read(ctx, s.Key)
		if err != nil {
			return err
		}
		s.Join(found.Standing)
		p.letters = found.Letters
	}
	p.server.Registry.StartPolling(p.poller(uid), s)
	return nil
}

// errRequested: the end takes its time to become known, and a claim before that would
// bring the old session back.
var errRequested = errors.New("the control plane has asked for the end of the session")

// ready does what the agent's mail asks, so that it goes out with this answer.
func (p *poller) ready(ctx context.Context, s *session.Session, number uint64) error {
	lost := s.Repeated(number)
	p.server.Downlinks.Letters(ctx, s, p.letters, lost)
	if s.Ended() {
		return errRequested
	}
	return nil
}

// Wake leaves the mail for the next poll.
func (p *poller) Wake(*session.Session) {}

// Ping does nothing: an agent that polls shows by its next poll that it lives.
func (p *poller) Ping() {}

// Renew makes an offer of a certificate, which waits for the next poll.
func (p *poller) Renew(s *session.Session, number int64) { go p.server.replace(p, s, number) }

// Close ends the session; there is no connection to end.
func (p *poller) Close(s *session.Session, reason session.EndReason) {
	p.server.Registry.End(s, reason)
}

// tell lets other gateways know how far an agent has come, and what it is about to be
// offered, before it hears our answer: its next message may be theirs.
func (s *Server) tell(ctx context.Context, current *session.Session, sent sending) error {
	if current == nil {
		return nil
	}
	if sent.config != nil {
		current.Sent(sent.config)
	}
	return s.Polls.Write(ctx, current)
}

// Run looks after the sessions of agents that poll, until the context ends: nothing
// breaks when they fall silent. Those over WebSocket end by their read deadlines.
func (s *Server) Run(ctx context.Context) error {
	ticker := time.NewTicker(min(5*time.Second, s.Limits.IdleTime/3+time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.endSilent(ctx); err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "whether silent agents were heard elsewhere is not known", "error", err)
			}
		}
	}
}

// endSilent ends the sessions whose agents no gateway has heard for the idle time. Those
// that another one has heard are its business: they are forgotten here without a word.
// Where the bus does not know any more, they have another idle time.
func (s *Server) endSilent(ctx context.Context) error {
	var silent []*session.Session
	var keys []session.Key
	for _, polling := range s.Registry.AllPolling() {
		if s.silence(polling) >= s.Limits.IdleTime {
			silent, keys = append(silent, polling), append(keys, polling.Key)
		}
	}
	standings, err := s.Polls.Standings(ctx, keys)
	for i := range standings {
		quiet := s.silence(silent[i])
		switch heard := s.heard(silent[i], standings[i]); {
		case quiet < s.Limits.IdleTime: // it came meanwhile
		case heard == elsewhere:
			s.Registry.Forget(silent[i])
		case heard == nowhere, quiet >= 2*s.Limits.IdleTime:
			s.Registry.End(silent[i], session.Idle)
		}
	}
	return err
}

func (s *Server) silence(of *session.Session) time.Duration { return s.Clock().Sub(of.LastSeen()) }

// whereabouts says where an agent was heard that is silent here.
type whereabouts int

const (
	unknown whereabouts = iota
	nowhere
	elsewhere
)

func (s *Server) heard(silent *session.Session, there *session.Standing) whereabouts {
	switch epoch := silent.Epoch(); {
	case there == nil || there.Epoch < epoch:
		return unknown
	case there.Epoch > epoch || s.Clock().Sub(there.LastSeen) < s.Limits.IdleTime:
		return elsewhere
	default:
		return nowhere
	}
}
