// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// renew asks for an offer of a certificate to the agent on record.
func (w *world) renew(number int64) {
	w.t.Helper()
	w.renewals++ // no two of the same bytes: those are taken once
	w.downlink(&relayv1.Downlink{
		Kind: relayv1.Downlink_KIND_RENEW, Targets: w.target(w.agent, number), NotAfter: timestamppb.New(time.Now().Add(time.Minute + time.Duration(w.renewals)*time.Second)),
	})
}

// keyed is the certificate of an offer with the key that came with it.
func keyed(t *testing.T, w *world, offers *protobufs.ConnectionSettingsOffers) tls.Certificate {
	t.Helper()
	checkOffer(t, w, offers)
	certificate := offers.GetOpamp().GetCertificate()
	pair, err := tls.X509KeyPair(certificate.GetCert(), certificate.GetPrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := identity.FromCertificate(pair.Leaf); err != nil || got != w.agent {
		t.Errorf("the certificate is that of %v, %v", got, err)
	}
	return pair
}

// told is the next word on an offer.
func (w *world) told() *relayv1.Delivery {
	w.t.Helper()
	uplink := w.uplink(w.agent.ID, isDelivery)
	if raw, _ := proto.Marshal(uplink); bytes.Contains(raw, []byte("PRIVATE KEY")) {
		w.t.Fatal("a private key is on the bus")
	}
	if kind := uplink.GetDelivery().GetKind(); kind != relayv1.Downlink_KIND_RENEW {
		w.t.Errorf("told of %v", kind)
	}
	return uplink.GetDelivery()
}

func TestACertificateIsReplacedInTheSession(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(connectionSettings))
	w.renew(3)
	offers := agent.Receive().GetConnectionSettings()
	pair := keyed(t, w, offers)
	if told := w.told(); told.GetOutcome() != relayv1.Delivery_OUTCOME_DELIVERED || told.GetGeneration() != 3 || !bytes.Equal(told.GetHash(), offers.GetHash()) {
		t.Errorf("told %v", told)
	}

	// Asked again, it is told again; nothing else is made.
	w.renew(3)
	if told := w.told(); told.GetOutcome() != relayv1.Delivery_OUTCOME_DELIVERED || !bytes.Equal(told.GetHash(), offers.GetHash()) {
		t.Errorf("told %v", told)
	}
	w.renew(2)
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(connectionSettings)}); answer.GetConnectionSettings() != nil {
		t.Error("it was offered twice")
	}
	if n := w.control.Renewals(); n != 1 {
		t.Errorf("%d certificates were made", n)
	}

	agent.Close()
	back := w.dialWith(pair)
	first := gatewaytest.Full(0)
	first.Health = &protobufs.ComponentHealth{}
	back.Exchange(first)
	w.uplink(w.agent.ID, isEnd)
	if !w.uplink(w.agent.ID, isReport).GetReport().GetAfterOwnOffer() {
		t.Error("the health that it does not know yet is not excused")
	}
}

func TestOffersThatCannotBeMade(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.renew(1)
	if told := w.told(); told.GetOutcome() != relayv1.Delivery_OUTCOME_NOT_CAPABLE || told.GetGeneration() != 1 {
		t.Errorf("of one who does not take settings it is told %v", told)
	}
	agent.Exchange(gatewaytest.Full(connectionSettings))
	w.control.Strike(w.agent.Tenant, w.certificate)
	w.renew(2)
	if told := w.told(); told.GetOutcome() != relayv1.Delivery_OUTCOME_REFUSED || told.GetGeneration() != 2 {
		t.Errorf("of one whose certificate does not stand it is told %v", told)
	}
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(connectionSettings)}); answer.GetConnectionSettings() != nil || answer.GetErrorResponse() != nil {
		t.Errorf("the answer is %v", answer)
	}
}

func TestAnOfferOutlivesALostAnswer(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(connectionSettings))
	w.control.SetDown(true)
	asked := make(chan struct{})
	w.control.OnRenew(sync.OnceFunc(func() { close(asked) }))
	w.renew(1)
	<-asked
	w.control.SetDown(false)
	keyed(t, w, agent.Receive().GetConnectionSettings())
	if told := w.told(); told.GetOutcome() != relayv1.Delivery_OUTCOME_DELIVERED || w.control.Renewals() != 1 {
		t.Errorf("told %v, made %d", told, w.control.Renewals())
	}
}

// Whoever waits for the control plane are a few goroutines, and no agent.
func TestReplacingHoldsNobodyUp(t *testing.T) {
	w := start(t)
	const crowd, most = 30, 8
	var agents []*gatewaytest.Agent
	var targets []*relayv1.Target
	for range crowd {
		name, pair := w.control.AddAgent(tenant)
		agent := w.dialWith(pair)
		agent.Exchange(gatewaytest.Full(connectionSettings))
		agents, targets = append(agents, agent), append(targets, w.target(name, 1)...)
	}
	var waiting, highest atomic.Int64
	release := make(chan struct{})
	w.control.OnRenew(func() {
		if n := waiting.Add(1); n > highest.Load() {
			highest.Store(n)
		}
		<-release
		waiting.Add(-1)
	})
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_RENEW, Targets: targets})
	w.eventually("renewals are waiting", func() bool { return waiting.Load() == most })
	for _, agent := range agents {
		if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(connectionSettings)}); answer.GetErrorResponse() != nil {
			t.Errorf("the answer is %v", answer)
		}
	}
	close(release)
	for _, agent := range agents {
		if agent.Receive().GetConnectionSettings() == nil {
			t.Error("an agent was offered nothing")
		}
	}
	if n := highest.Load(); n != most {
		t.Errorf("%d at once", n)
	}
}

func TestAnAgentThatPollsIsOfferedACertificateOnce(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(connectionSettings))
	agent.at(b).poll(gatewaytest.Full(connectionSettings))
	a.mail(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_RENEW, Targets: a.target(a.agent, 1)})
	var offers *protobufs.ConnectionSettingsOffers
	offered := 0
	for i := range 100 {
		w := []*world{a, b}[i%2]
		message := beat()
		message.Capabilities = uint64(connectionSettings)
		if got := agent.at(w).poll(message).GetConnectionSettings(); got != nil {
			offers = got
			offered++
		}
		if offered > 0 && i > 40 {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	if offered != 1 || a.control.Renewals() != 1 {
		t.Fatalf("offered %d times, made %d", offered, a.control.Renewals())
	}
	certificate := keyed(t, a, offers)
	before, _ := a.control.Session(a.agent)
	a.certificate, b.certificate = certificate, certificate
	for _, w := range []*world{a, b, a, b} {
		message := beat()
		message.Capabilities = uint64(connectionSettings)
		if answer := agent.at(w).poll(message); answer.GetErrorResponse() != nil {
			t.Errorf("with its new certificate it is answered %v", answer)
		}
	}
	after, _ := a.control.Session(a.agent)
	if after.Epoch == before.Epoch {
		t.Error("nobody knows that it shows another certificate")
	}
}
