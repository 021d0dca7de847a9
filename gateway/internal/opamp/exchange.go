// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
)

// carrier is what brings messages of one identity: a WebSocket, or a poll. It is the
// link of the sessions that begin over it. find returns the session of a uid, or nil;
// start adds one, which other gateways serve as well if it is shared; ready prepares one
// for the message with a number. An error says that the message cannot be taken now. All
// are called by the goroutine that handles the message alone.
type carrier interface {
	session.Link
	caller() edge.Caller
	transport() internalv1.Transport
	find(context.Context, identity.InstanceUID) (*session.Session, error)
	start(ctx context.Context, uid identity.InstanceUID, s *session.Session, shared bool) error
	ready(ctx context.Context, s *session.Session, number uint64) error
}

// Times of what a message may wait for.
const (
	claimTime = session.ContestWait + 10*time.Second
	storeTime = 5 * time.Second
	retryTime = 30 * time.Second
)

// outcome is what came of one message.
type outcome struct {
	answer  answer
	session *session.Session // whose mail goes along; nil if there is none
	end     *ending          // of the connection, after the answer
	fault   edge.Reason      // the message was bad: malformed ones are counted against the connection
	shed    bool             // the message was not taken, for no fault of its own
	limited bool             // it was shed because there are too many
}

var parsed = sync.Pool{New: func() any { return new(protobufs.AgentToServer) }}

// exchange handles one message of an identity and makes its answer.
func (s *Server) exchange(ctx context.Context, c carrier, payload []byte) outcome {
	transport, began := transportNames[c.transport()], s.Clock()
	s.metrics.received.Add(ctx, 1, transport)
	defer func() { s.metrics.took.Took(ctx, s.Clock().Sub(began), transport) }()
	message := parsed.Get().(*protobufs.AgentToServer)
	defer func() { message.Reset(); parsed.Put(message) }()
	news, err := parse(payload, message)
	if err != nil {
		return s.refuse(ctx, c, toNobody().badRequest("the message is not a valid AgentToServer"), edge.Malformed, err)
	}
	uid, err := identity.ParseInstanceUID(message.GetInstanceUid())
	if err != nil {
		return s.refuse(ctx, c, toNobody().badRequest("instance_uid must have 16 bytes"), edge.Malformed, err)
	}
	reply := newAnswer(uid)
	current, err := s.session(ctx, c, uid)
	if err == nil {
		err = c.ready(ctx, current, message.GetSequenceNum())
	}
	if err != nil {
		return s.turnAway(ctx, c, reply, err)
	}
	return s.arrive(ctx, c, current, incoming{message, payload, news}, reply)
}

// session finds the session of a uid or begins one.
func (s *Server) session(ctx context.Context, c carrier, uid identity.InstanceUID) (*session.Session, error) {
	current, err := c.find(ctx, uid)
	if err != nil || current != nil {
		return current, err
	}
	return s.begin(ctx, c, uid)
}

// incoming is an agent's message, as parsed and as received.
type incoming struct {
	*protobufs.AgentToServer
	payload []byte
	news    bool // it is more than a heartbeat
}

// arrive takes a message of a session.
func (s *Server) arrive(ctx context.Context, c carrier, current *session.Session, message incoming, reply answer) outcome {
	verdict := current.Arrive(session.Arrival{
		Sequence: message.GetSequenceNum(), Capabilities: message.GetCapabilities(), News: message.news,
		Tells: tells(message.AgentToServer), Reports: reports(message.GetCapabilities()),
	}, s.Clock())
	if verdict.Limited {
		s.Rejections.Reject(ctx, edge.RateLimited, nil, edge.Known(c.caller())...)
		return outcome{answer: reply.unavailable(), session: current, shed: true, limited: true}
	}
	if verdict.Relay {
		defer current.Settled()
	}
	if verdict.Restart {
		if err := s.restart(ctx, c, current); err != nil {
			return s.turnAway(ctx, c, reply, err)
		}
	}
	ask := verdict.Relay && asksComponents(current, message.GetAvailableComponents())
	if verdict.Relay {
		if err := s.relay(ctx, current, message, verdict); err != nil {
			return s.shed(ctx, c, current, reply, err)
		}
	}
	if current.Greet() {
		reply = reply.greet()
	}
	if message.GetAgentDisconnect() != nil {
		s.Registry.End(current, session.AgentDisconnect)
		return outcome{answer: reply, session: current}
	}
	if verdict.Ask {
		s.metrics.fullState.Add(ctx, 1, missed)
		reply = reply.askFullState()
	}
	if ask {
		reply = reply.askComponents()
	}
	if csr := certificateRequest(message.AgentToServer); len(csr) > 0 {
		return s.renew(ctx, c, current, reply, csr)
	}
	return outcome{answer: reply, session: current}
}

func asksComponents(current *session.Session, components *protobufs.AvailableComponents) bool {
	return len(components.GetHash()) > 0 && current.AskComponents(components.GetHash(), len(components.GetComponents()) > 0)
}

// begin claims the session of a uid.
func (s *Server) begin(ctx context.Context, c carrier, uid identity.InstanceUID) (*session.Session, error) {
	if l, shared := c.(*link); shared {
		if l.carries() >= maxChildren {
			return nil, &session.Refusal{Reason: "CHILDREN_EXHAUSTED"}
		}
		l.paceBegins()
	}
	claim := s.claim(c, uid)
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	result, err := s.Claims.Claim(ctx, claim, c)
	if err != nil {
		return nil, err
	}
	caller := c.caller()
	key := session.Key{Tenant: caller.Agent.Tenant, Agent: identity.AgentID(result.GetAgentId())}
	begun := session.New(session.Claimed{
		Key: key, UID: uid, Serial: caller.Serial, Issuer: caller.Issuer, Epoch: result.GetEpoch(),
		LastSequence: result.GetLastSequence(), StateKnown: result.GetStateKnown(),
		AfterOwnOffer: s.ownOffer.forget(key, s.Clock()) || result.GetAfterOffer(),
	}, c, s.Clock())
	if err := c.start(ctx, uid, begun, result.GetShared()); err != nil {
		return nil, err
	}
	if !result.GetShared() {
		s.metrics.started.Add(ctx, 1, transportNames[c.transport()])
	}
	if !s.Admission.Stands(caller) {
		c.Close(begun, session.Revoked)
		return nil, &session.Refusal{Reason: "CERTIFICATE_REVOKED"}
	}
	return begun, nil
}

// restart claims a session again under a new epoch.
func (s *Server) restart(ctx context.Context, c carrier, current *session.Session) error {
	claim := s.claim(c, current.UID)
	claim.Takeover, claim.HolderEpoch = internalv1.Takeover_TAKEOVER_RESTART, current.Epoch()
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	result, err := s.Claims.Claim(ctx, claim, c)
	if _, refused := errors.AsType[*session.Refusal](err); refused {
		s.Registry.End(current, session.Superseded)
	}
	if err != nil {
		current.Doubt() // the message that began anew is lost
		return err
	}
	if !current.Rebind(result.GetEpoch()) {
		s.Publisher.Ended(current, session.Closed)
		return relay.ErrEnded
	}
	return nil
}

// Reclaim claims every live session anew, after the gateway's lease was lost, and goes
// on until it has an answer for each or the context ends. Sessions that are not ours any
// more end.
func (s *Server) Reclaim(ctx context.Context) {
	slots := make(chan struct{}, reclaimParallel)
	var claiming sync.WaitGroup
	for current := range s.Registry.All() {
		slots <- struct{}{}
		claiming.Go(func() {
			defer func() { <-slots }()
			for ctx.Err() == nil && !current.Ended() && !s.reclaim(ctx, current) {
				_ = run.Sleep(ctx, time.Second+rand.N(time.Second))
			}
		})
	}
	claiming.Wait()
}

// reclaimParallel fills the batches of claims.
const reclaimParallel = 2000

// reclaim says whether there was an answer. Without one the session is kept: nothing is
// wrong with its agent.
func (s *Server) reclaim(ctx context.Context, current *session.Session) (answered bool) {
	c, ok := current.Link.(carrier)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, claimTime)
	defer cancel()
	result, err := s.Claims.Again(ctx, s.claim(c, current.UID))
	if _, refused := errors.AsType[*session.Refusal](err); refused {
		s.Log.WarnContext(ctx, "a session was not claimed again", "tenant", current.Key.Tenant, "agent", current.Key.Agent, "error", err)
		c.Close(current, session.Superseded)
		return true
	}
	if err != nil {
		return false
	}
	if result.GetShared() {
		// It goes on at other gateways, and nothing of it is lost. If they began it anew, the next poll finds that.
		if result.GetEpoch() != current.Epoch() {
			s.Registry.Forget(current)
		}
		return true
	}
	if !current.Reclaim(result.GetEpoch(), result.GetLastSequence(), result.GetStateKnown()) {
		s.Publisher.Ended(current, session.Closed)
	}
	if c.transport() == internalv1.Transport_TRANSPORT_HTTP {
		_ = s.Polls.Write(ctx, current) // else the next poll says so
	}
	return true
}

func (s *Server) claim(c carrier, uid identity.InstanceUID) *internalv1.Claim {
	caller := c.caller()
	return &internalv1.Claim{
		Tenant: string(caller.Agent.Tenant), AgentId: string(caller.Agent.ID),
		Serial: string(caller.Serial), Fingerprint: string(caller.Fingerprint),
		InstanceUid: uid[:], Transport: c.transport(), Peer: caller.Peer,
	}
}

// relay stores the bodies of a message and queues the rest of it.
func (s *Server) relay(ctx context.Context, current *session.Session, message incoming, verdict session.Verdict) error {
	ctx, span := s.reporting(ctx, current, message.AgentToServer)
	defer span.End()
	healthKnown := message.GetHealth() != nil && proto.Size(message.GetHealth()) > 0
	afterOwnOffer := current.AfterOwnOffer(healthKnown) && message.GetHealth() != nil
	report := &relayv1.Report{
		Sequence: message.GetSequenceNum(), AgentToServer: message.payload, AfterOwnOffer: afterOwnOffer,
		InDoubt: verdict.InDoubt, Whole: verdict.Whole,
	}
	cuttings, err := cut(message.AgentToServer)
	if err != nil {
		return err
	}
	if len(cuttings) > 0 {
		if report.AgentToServer, err = proto.Marshal(message.AgentToServer); err != nil {
			return err
		}
		if report.Bodies, err = s.store(ctx, current.Key.Tenant, cuttings); err != nil {
			return err
		}
	}
	return s.Publisher.Report(ctx, current, report)
}

func (s *Server) store(ctx context.Context, tenant identity.TenantID, cuttings []cutting) ([]*relayv1.Body, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	bodies := make([]*relayv1.Body, 0, len(cuttings))
	for _, cutting := range cuttings {
		hash, err := s.Bodies.Put(ctx, tenant, cutting.body)
		if err != nil {
			return nil, fmt.Errorf("storing a body: %w", err)
		}
		bodies = append(bodies, &relayv1.Body{Kind: cutting.kind, Name: cutting.name, Hash: hash[:], Size: int64(len(cutting.body))})
	}
	return bodies, nil
}

// shed answers a message that could not be passed on. It is lost, so the session is in
// doubt; unless it is too large, and would be again.
func (s *Server) shed(ctx context.Context, c carrier, current *session.Session, reply answer, err error) outcome {
	if errors.Is(err, relay.ErrTooLarge) {
		out := s.refuse(ctx, c, reply.badRequest("the message is too large, even without its configurations and components"), edge.Oversize, err)
		out.session = current
		return out
	}
	current.Doubt()
	s.Rejections.Reject(ctx, edge.Overloaded, err, edge.Known(c.caller())...)
	return outcome{answer: reply.unavailable(), session: current, shed: true}
}

func (s *Server) refuse(ctx context.Context, c carrier, reply answer, reason edge.Reason, err error) outcome {
	s.Rejections.Reject(ctx, reason, err, edge.Known(c.caller())...)
	return outcome{answer: reply, fault: reason}
}

// turnAway answers the first message of a session that could not be claimed.
func (s *Server) turnAway(ctx context.Context, c carrier, reply answer, err error) outcome {
	var refusal *session.Refusal
	if !errors.As(err, &refusal) {
		s.Rejections.Reject(ctx, edge.Unavailable, err, edge.Known(c.caller())...)
		return later(reply, "no session can be had now")
	}
	if refusal.Reason == session.Outrun {
		return later(reply, "another session has begun meanwhile") // of the same agent, and nobody's fault
	}
	reason := edge.UIDRefused
	switch refusal.Reason {
	case "CERTIFICATE_NOT_RECORDED", "CERTIFICATE_REVOKED", "SIGNING_KEY_RETIRED", "QUARANTINED":
		reason = edge.AuthFailed
	}
	return outcome{
		answer: reply.badRequest("this agent is refused: %s", refusal.Reason), fault: reason,
		end: &ending{code: ws.StatusPolicyViolation, text: "refused: " + refusal.Reason, reason: session.ProtocolError, reject: reason},
	}
}

// later asks an agent to come back.
func later(reply answer, why string) outcome {
	return outcome{
		answer: reply.unavailable(), shed: true,
		end: &ending{code: statusTryAgainLater, text: why, reason: session.Closed},
	}
}

// post adds the mail of its session to an answer. It is called in the writer's turn. sent
// is what is offered with it.
func (s *Server) post(ctx context.Context, reply answer, to *session.Session) (posted answer, sent sending) {
	if to == nil || reply.failed() {
		return reply, sent
	}
	if reply.more == nil {
		if sent.restart = s.takeRestart(ctx, to); sent.restart != nil {
			sent.left = to.HasMail()
			return reply.restart(), sent
		}
	}
	mail := to.TakeMail()
	sent.left = to.HasMail()
	if mail.FullState {
		s.metrics.fullState.Add(ctx, 1, asked)
		reply = reply.askFullState()
	}
	if mail.Config != nil {
		if s.Mask.allows(to.Capabilities(), acceptsRemoteConfig) {
			sent.config = mail.Config
			s.offering(to, sent.config)
		} else {
			s.Rejections.Reject(ctx, edge.CapMismatch, nil)
			s.Publisher.Delivery(to, mail.Config, relayv1.Delivery_OUTCOME_NOT_CAPABLE)
		}
	}
	if mail.Settings != nil {
		sent.settings = mail.Settings
		s.ownOffer.remember(to.Key, s.Clock()) // it may be back before the writer knows that it was written
	}
	return reply, sent
}

// takeRestart is the restart command that waits for the agent, if it takes one.
func (s *Server) takeRestart(ctx context.Context, to *session.Session) *session.RestartCommand {
	command := to.TakeRestart(s.Clock())
	if command == nil || s.Mask.allows(to.Capabilities(), acceptsRestartCommand) {
		return command
	}
	s.Rejections.Reject(ctx, edge.CapMismatch, nil)
	s.Publisher.Restart(to, command, relayv1.Delivery_OUTCOME_NOT_CAPABLE)
	return nil
}

// written records what was offered, if it was written.
func (s *Server) written(to *session.Session, sent sending, err error) {
	if offer := sent.settings; offer != nil {
		offer.Wipe()
		if err == nil {
			to.Renewed(offer.Number, offer.Hash)
			s.Publisher.Renewal(to, offer.Epoch, offer.Number, offer.Hash, relayv1.Delivery_OUTCOME_DELIVERED)
		}
	}
	if err == nil && sent.restart != nil {
		s.Publisher.Restart(to, sent.restart, relayv1.Delivery_OUTCOME_DELIVERED)
	}
	if err == nil && sent.config != nil {
		to.Sent(sent.config)
		s.Publisher.Delivery(to, sent.config, relayv1.Delivery_OUTCOME_DELIVERED)
		sent.config.End()
	}
}
