// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
)

// renew answers an agent that asks for a certificate of a new key over the connection that it made with the one it has.
// What else the message said is taken by now, whatever becomes of this.
func (s *Server) renew(ctx context.Context, c carrier, current *session.Session, reply answer, csr []byte) outcome {
	caller := c.caller()
	out := outcome{answer: reply, session: current}
	if current.Key.Agent != caller.Agent.ID {
		out.answer = reply.badRequest("an agent behind another one has no certificate of its own")
		return out
	}
	text, err := edge.ReadCSR(csr)
	if err != nil {
		return s.refuse(ctx, c, reply.badRequest("%v", err), edge.Malformed, err)
	}
	response, err := s.Enrolment.Renew(ctx, caller, edge.Wish{CSR: text, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_AGENT_CSR})
	if err != nil {
		return s.notRenewed(ctx, caller, out, err)
	}
	offers, err := s.Endpoint.offer(issued{chain: response.GetCertificateChainPem(), agentCA: response.GetCaPem()})
	if err != nil {
		out.answer = reply.unavailable()
		return out
	}
	s.ownOffer.remember(current.Key, s.Clock())
	out.answer = reply.settings(offers)
	return out
}

// notRenewed maps what the control plane said. The session goes on: what becomes of it is not decided here.
func (s *Server) notRenewed(ctx context.Context, caller edge.Caller, out outcome, err error) outcome {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodePermissionDenied, connect.CodeResourceExhausted:
		out.answer = out.answer.badRequest("the certificate request was refused: %s", edge.PublicMessage(err))
	default:
		s.Rejections.Reject(ctx, edge.Unavailable, err, edge.Known(caller)...)
		out.answer = out.answer.unavailable()
	}
	return out
}
