// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/api"
	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// Way is how an agent comes to its certificate.
type Way string

// The ways. Of the first two the key never leaves the agent.
const (
	EST   Way = "est"   // over HTTPS, for agents that take files
	CSR   Way = "csr"   // over OpAMP, in a ConnectionSettingsRequest
	Offer Way = "offer" // over OpAMP, key and certificate in an offer, as supervisors take them
)

// Ways are all of them.
var Ways = []Way{EST, CSR, Offer}

// Enrolment is how a swarm gets identities.
type Enrolment struct {
	// API issues the bootstrap tokens.
	API *api.Client
	// Target is where they are redeemed.
	Target Target
	// Group is the id of the group that the agents join; empty for none.
	Group string
	// Way is one of [Ways].
	Way Way
	// Parallel is how many enrol at a time.
	Parallel int
	// Progress is told after each how many there are by now. It is called from many
	// goroutines.
	Progress func(enrolled int)
}

// attempts is how often one enrolment is tried while the server says that it is busy.
const attempts = 5

// Fill enrols until there are count identities. What was enrolled before an error stays.
func (e Enrolment) Fill(ctx context.Context, identities *Identities, count int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	var done atomic.Int64
	next := make(chan int)
	begin := len(identities.List())
	done.Store(int64(begin))
	for range e.Parallel {
		workers.Go(func() {
			for i := range next {
				if err := e.add(ctx, identities, i); err != nil {
					cancel(err)
					return
				}
				e.Progress(int(done.Add(1)))
			}
		})
	}
feeding:
	for i := begin; i < count; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

func (e Enrolment) add(ctx context.Context, identities *Identities, i int) error {
	issued, err := e.API.Tokens.IssueBootstrapToken(ctx, &amporav1.IssueBootstrapTokenRequest{
		GroupId: e.Group, Description: "swarm " + strconv.Itoa(i),
	})
	if err != nil {
		return fmt.Errorf("issue a bootstrap token: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	for range attempts {
		var certificate *tls.Certificate
		if certificate, err = e.redeem(ctx, i, issued.GetSecret(), key); err == nil {
			return identities.Add(certificate)
		}
		wait, busy := busyFor(err)
		if !busy {
			break
		}
		if sleep(ctx, wait) != nil {
			break
		}
	}
	return fmt.Errorf("enrol agent %d: %w", i, err)
}

// redeem asks with the same key each time: the same token is good for it again.
func (e Enrolment) redeem(ctx context.Context, i int, token string, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	peer := e.Target.peer(i, i).Bearing(token)
	switch e.Way {
	case CSR:
		return overOpAMP(ctx, peer, key)
	case Offer:
		return offered(ctx, peer)
	case EST:
	}
	return peer.EnrolKey(ctx, token, key)
}

// overOpAMP asks in a ConnectionSettingsRequest (specification, "Agent-initiated CSR flow").
func overOpAMP(ctx context.Context, peer rawopamp.Peer, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	conn, err := peer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := conn.Exchange(&protobufs.AgentToServer{
		InstanceUid: rawopamp.NewUID(), Capabilities: uint64(abilities),
		ConnectionSettingsRequest: &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{
				Csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
			},
		}},
	}, 30*time.Second)
	if err != nil {
		return nil, err
	}
	if refused := answer.GetErrorResponse(); refused != nil {
		return nil, fmt.Errorf("refused: %s", refused.GetErrorMessage())
	}
	certificate := &tls.Certificate{PrivateKey: key}
	if certificate.Certificate = chainOf(answer.GetConnectionSettings().GetOpamp().GetCertificate().GetCert()); len(certificate.Certificate) == 0 {
		return nil, errNoCertificate
	}
	return certificate, nil
}

var errNoCertificate = errors.New("the offer has no certificate")

func chainOf(text []byte) (chain [][]byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		chain = append(chain, block.Bytes)
	}
	return chain
}

// offered says what it can take, and takes what it is offered.
func offered(ctx context.Context, peer rawopamp.Peer) (*tls.Certificate, error) {
	conn, err := peer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := conn.Exchange(&protobufs.AgentToServer{InstanceUid: rawopamp.NewUID(), Capabilities: uint64(abilities | takesOffers)}, 30*time.Second)
	for err == nil && answer.GetConnectionSettings().GetOpamp().GetCertificate() == nil {
		if refused := answer.GetErrorResponse(); refused != nil {
			return nil, fmt.Errorf("refused: %s", refused.GetErrorMessage())
		}
		answer, err = conn.Receive(30 * time.Second)
	}
	if err != nil {
		return nil, err
	}
	return takeOffer(answer.GetConnectionSettings().GetOpamp().GetCertificate())
}

// takesOffers is the ability to take key and certificate from the server.
const takesOffers = protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings

// takeOffer reads an offer of a key and its certificate.
func takeOffer(offer *protobufs.TLSCertificate) (*tls.Certificate, error) {
	block, _ := pem.Decode(offer.GetPrivateKey())
	if block == nil {
		return nil, errors.New("the offer has no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	certificate := &tls.Certificate{PrivateKey: key, Certificate: chainOf(offer.GetCert())}
	if len(certificate.Certificate) == 0 {
		return nil, errNoCertificate
	}
	return certificate, nil
}

// busyFor reads how long a refusal asks to wait.
func busyFor(err error) (time.Duration, bool) {
	status, refused := errors.AsType[*rawopamp.StatusError](err)
	if !refused || status.Status != 503 && status.Status != 429 {
		return 0, false
	}
	seconds, _ := strconv.Atoi(status.RetryAfter) // none: at once
	return time.Duration(seconds) * time.Second, true
}

func sleep(ctx context.Context, span time.Duration) error {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
