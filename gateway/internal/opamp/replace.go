// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/run"
)

// Bounds of replacing certificates because the control plane asks for it.
const (
	replaceParallel = 8                // keys that are made and certified at once
	replaceTime     = 60 * time.Second // of one, waiting for its turn included
	replaceTries    = 3

	capabilitiesPause = 50 * time.Millisecond
)

// replace makes a key for an agent that cannot, has it certified and offers both in the session. The key is in memory alone,
// and gone when it is written. Nobody waits for this: it has a goroutine of its own.
func (s *Server) replace(c carrier, current *session.Session, number int64) {
	ctx, cancel := context.WithTimeout(s.life, replaceTime)
	defer cancel()
	epoch := current.Epoch()
	if awaitCapabilities(ctx, current); current.Ended() {
		return // the next session is asked for it
	}
	if !s.Mask.allows(current.Capabilities(), acceptsConnectionSettings) || current.Key.Agent != c.caller().Agent.ID {
		s.unable(current, epoch, number, relayv1.Delivery_OUTCOME_NOT_CAPABLE)
		return
	}
	select {
	case s.replacing <- struct{}{}:
		defer func() { <-s.replacing }()
	case <-ctx.Done():
		current.GiveUpRenewal(number)
		return
	}
	made, err := makeKey()
	if err != nil {
		current.GiveUpRenewal(number)
		return
	}
	defer clear(made.pkcs8)
	response, err := s.certify(ctx, c, made.csr, number)
	switch connect.CodeOf(err) {
	case connect.CodeFailedPrecondition: // another gateway has made it
		s.unable(current, epoch, number, relayv1.Delivery_OUTCOME_REFUSED)
	case connect.CodeInvalidArgument, connect.CodePermissionDenied, connect.CodeResourceExhausted:
		s.Log.WarnContext(ctx, "an agent gets no certificate to be offered", "tenant", current.Key.Tenant, "agent", current.Key.Agent, "error", err)
		s.unable(current, epoch, number, relayv1.Delivery_OUTCOME_REFUSED)
	default:
		offer := &session.SettingsOffer{Number: number, Epoch: epoch}
		if err == nil {
			err = s.write(offer, response, made)
		}
		if err != nil {
			s.Rejections.Reject(ctx, edge.Unavailable, err, edge.Known(c.caller())...)
			current.GiveUpRenewal(number)
			return
		}
		if !current.PostSettings(offer) {
			offer.Wipe()
		}
	}
}

// awaitCapabilities waits until it is known what an agent can do: that comes with its first message, which may be on its way
// still.
func awaitCapabilities(ctx context.Context, of *session.Session) {
	for of.Capabilities() == 0 && !of.Ended() {
		if run.Sleep(ctx, capabilitiesPause) != nil {
			return
		}
	}
}

// certify asks more than once while nobody answers: the same key gets the certificate whose answer was lost.
func (s *Server) certify(ctx context.Context, c carrier, csr []byte, number int64) (response *internalv1.RenewResponse, err error) {
	for range replaceTries {
		response, err = s.Enrolment.Renew(ctx, c.caller(), edge.Wish{CSR: csr, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_SERVER_KEY, Offer: number})
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeUnknown, connect.CodeInternal:
		default:
			return response, err
		}
		if err == nil || run.Sleep(ctx, time.Second+rand.N(2*time.Second)) != nil {
			return response, err
		}
	}
	return response, err
}

// write makes an offer of a certificate and its key.
func (s *Server) write(offer *session.SettingsOffer, certificate *internalv1.RenewResponse, made *madeKey) error {
	offers, err := s.Endpoint.offer(issued{chain: certificate.GetCertificateChainPem(), key: made.pkcs8, agentCA: certificate.GetCaPem()})
	if err != nil {
		return err
	}
	offer.Hash = offers.GetHash()
	offer.Wire, err = proto.Marshal(&protobufs.ServerToAgent{ConnectionSettings: offers})
	return err
}

// unable settles an offer that is not made, and says why.
func (s *Server) unable(current *session.Session, epoch uint64, number int64, why relayv1.Delivery_Outcome) {
	current.Renewed(number, nil)
	s.Publisher.Renewal(current, epoch, number, nil, why)
}
