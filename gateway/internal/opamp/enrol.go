// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Bounds of an enrolling connection. It needs a message or two, and whoever has a token
// is not yet anybody.
const (
	enrolTime     = 60 * time.Second // in all
	settleTime    = 10 * time.Second // for the agent to leave after its offer
	enrolMessages = 20
	enrolBytes    = 1 << 20 // of a message
)

// enrolment is one connection of the bearer of a bootstrap token. Nothing of it goes
// to the bus: until it has an identity there is nobody it could be about.
type enrolment struct {
	server *Server
	caller edge.Caller
	made   *madeKey // of this connection alone; wiped at its end
	done   bool     // a certificate was issued: whoever has its own key needs none of ours
}

// madeKey is a key that we made for an agent that cannot.
type madeKey struct{ pkcs8, csr []byte }

// enrolOver enrols over a WebSocket.
func (s *Server) enrolOver(ctx context.Context, c *socket, caller edge.Caller) *ending {
	e := &enrolment{server: s, caller: caller}
	defer e.wipe()
	c.limits.MessageBytes = min(c.limits.MessageBytes, enrolBytes)
	late := time.AfterFunc(enrolTime, func() { c.end(endEnrolLate) })
	defer late.Stop()
	settled := time.AfterFunc(enrolTime, func() { c.end(endEnrolled) }) // sooner, after an offer
	defer settled.Stop()
	for range enrolMessages {
		message, end := c.receive()
		if end != nil {
			return c.ended(end)
		}
		out := e.frame(ctx, message.data)
		message.release()
		err := c.compose(ws.OpBinary, func(dst []byte) []byte { return out.answer.append(beginFrame(dst), sending{}) })
		switch {
		case err != nil:
			return c.ended(endGone)
		case out.end != nil:
			return c.ended(out.end)
		case out.answer.more.GetConnectionSettings() != nil:
			// The supervisor reconnects by itself within milliseconds.
			settled.Reset(settleTime)
		}
	}
	return c.ended(endEnrolLate)
}

var (
	endEnrolled  = &ending{code: ws.StatusNormalClosure, text: "enrolled: connect with the certificate", reason: session.Closed}
	endEnrolLate = &ending{code: ws.StatusPolicyViolation, text: "enrolment takes too long", reason: session.Closed}
	endUnable    = &ending{code: ws.StatusPolicyViolation, text: "the agent cannot take a certificate", reason: session.Closed, reject: edge.CapMismatch}
	endRefused   = &ending{code: ws.StatusPolicyViolation, text: "enrolment refused", reason: session.Closed, reject: edge.AuthFailed}
	endBusy      = &ending{code: statusTryAgainLater, text: "enrolment is not possible now", reason: session.Closed}
)

func (e *enrolment) frame(ctx context.Context, data []byte) outcome {
	payload, err := decodeFrame(data)
	if err != nil {
		return outcome{answer: toNobody().badRequest("the message has no valid header"), end: violation(err)}
	}
	return e.message(ctx, payload)
}

// message decides how the agent gets its certificate.
func (e *enrolment) message(ctx context.Context, payload []byte) outcome {
	var from protobufs.AgentToServer
	err := proto.Unmarshal(payload, &from)
	uid, uidErr := identity.ParseInstanceUID(from.GetInstanceUid())
	if err != nil || uidErr != nil {
		return outcome{answer: toNobody().badRequest("the message is not a valid AgentToServer"), end: violation(errors.New("malformed message"))}
	}
	reply := newAnswer(uid).greet()
	e.logStatus(ctx, from.GetConnectionSettingsStatus())
	csr := certificateRequest(&from)
	takes := e.server.Mask.allows(from.GetCapabilities(), acceptsConnectionSettings)
	switch {
	case len(csr) > 0:
		return e.signed(ctx, reply, csr)
	case e.done || from.GetAgentDisconnect() != nil:
		return outcome{answer: reply}
	case takes:
		return e.keyed(ctx, reply)
	default:
		return outcome{
			answer: reply.badRequest("this agent cannot take a certificate over OpAMP: enrol it with `amporactl enroll`; the token is still good"),
			end:    endUnable,
		}
	}
}

// signed answers an agent's own certificate request. Its key never leaves it.
func (e *enrolment) signed(ctx context.Context, reply answer, csr []byte) outcome {
	text, err := edge.ReadCSR(csr)
	if err != nil {
		return outcome{answer: reply.badRequest("%v", err), end: violation(err)}
	}
	response, err := e.server.Enrolment.Redeem(ctx, e.caller, text, internalv1.EnrollmentMethod_ENROLLMENT_METHOD_AGENT_CSR)
	if err != nil {
		return e.refused(ctx, reply, err)
	}
	e.done = true
	return e.offer(reply, issued{chain: response.GetCertificateChainPem(), agentCA: response.GetCaPem()})
}

// keyed makes a key for an agent that cannot, and offers it with its certificate. The
// key is in the memory of this connection and in the offer, and nowhere else.
func (e *enrolment) keyed(ctx context.Context, reply answer) outcome {
	if e.made == nil {
		made, err := makeKey()
		if err != nil {
			return e.refused(ctx, reply, err)
		}
		e.made = made
	}
	response, err := e.server.Enrolment.Redeem(ctx, e.caller, e.made.csr, internalv1.EnrollmentMethod_ENROLLMENT_METHOD_SERVER_KEY)
	if err != nil {
		return e.refused(ctx, reply, err)
	}
	e.done = true
	key := session.Key{Tenant: identity.TenantID(response.GetTenant()), Agent: identity.AgentID(response.GetAgentId())}
	e.server.ownOffer.remember(key, e.server.Clock())
	return e.offer(reply, issued{chain: response.GetCertificateChainPem(), key: e.made.pkcs8, agentCA: response.GetCaPem()})
}

// certificateRequest is the PKCS #10 request of a message, nil if it has none.
func certificateRequest(message *protobufs.AgentToServer) []byte {
	return message.GetConnectionSettingsRequest().GetOpamp().GetCertificateRequest().GetCsr()
}

func (e *enrolment) offer(reply answer, certificate issued) outcome {
	offers, err := e.server.Endpoint.offer(certificate)
	if err != nil {
		return outcome{answer: reply.unavailable(), end: endBusy}
	}
	return outcome{answer: reply.settings(offers)}
}

// refused maps what the control plane said. Of the token nothing is said.
func (e *enrolment) refused(ctx context.Context, reply answer, err error) outcome {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument:
		return outcome{answer: reply.badRequest("the certificate request was refused: %s", edge.PublicMessage(err)), end: violation(errors.New("bad certificate request"))}
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeNotFound:
		e.server.Log.WarnContext(ctx, "enrolment refused", "peer", e.caller.Peer, "error", err)
		return outcome{answer: reply.badRequest("enrolment refused"), end: endRefused}
	default:
		e.server.Rejections.Reject(ctx, edge.Unavailable, err, edge.Known(e.caller)...)
		return outcome{answer: reply.unavailable(), end: endBusy, shed: true}
	}
}

// logStatus keeps the words of an agent that could not use its offer. The token lives
// on for a while, with the same key.
func (e *enrolment) logStatus(ctx context.Context, status *protobufs.ConnectionSettingsStatus) {
	const longest = 500
	if status.GetStatus() != protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED {
		return
	}
	words := status.GetErrorMessage()
	e.server.Log.WarnContext(ctx, "an agent could not use the connection settings of its enrolment", "peer", e.caller.Peer, "agent_says", words[:min(len(words), longest)])
}

func (e *enrolment) wipe() {
	if e.made != nil {
		clear(e.made.pkcs8)
		e.made = nil
	}
}

// makeKey makes a P-256 key and a request for it. The subject is empty: the identity
// is the control plane's to give.
func makeKey() (*madeKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	defer clear(der)
	return &madeKey{
		pkcs8: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		csr:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
	}, nil
}

// enrolPoll enrols over plain HTTP: the answer carries the offer.
func (s *Server) enrolPoll(w http.ResponseWriter, r *http.Request, caller edge.Caller, body []byte) {
	e := &enrolment{server: s, caller: caller}
	defer e.wipe()
	out := e.message(r.Context(), body)
	status := http.StatusOK
	switch {
	case out.end == endRefused:
		s.Rejections.Reject(r.Context(), edge.AuthFailed, out.end, edge.Known(caller)...)
		s.Admission.Punish(caller)
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	case out.end == endBusy:
		edge.Busy(w, edge.Overload())
		return
	case out.end != nil:
		s.Rejections.Reject(r.Context(), out.end.reject, out.end, edge.Known(caller)...)
		s.Admission.Punish(caller)
		if out.end != endUnable { // its operator shall read the answer, which some clients show with 200 alone
			status = http.StatusBadRequest
		}
	}
	payload := out.answer.append(nil, sending{})
	_ = s.writePoll(w, r, status, payload)
	clear(payload)
}
