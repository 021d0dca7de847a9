// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

const fullState = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)

func TestGapAsksOnceForFullState(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	agent.Skip(1)
	bare := func() uint64 { return agent.Exchange(&protobufs.AgentToServer{Capabilities: 1}).GetFlags() }
	if flags := bare(); flags != fullState {
		t.Errorf("after a gap the flags are %d", flags)
	}
	if flags := bare(); flags != 0 {
		t.Errorf("while the full state is awaited the flags are %d", flags)
	}
	if flags := agent.Exchange(gatewaytest.Full(0)).GetFlags(); flags != 0 {
		t.Errorf("after the full state the flags are %d", flags)
	}
}

func TestDuplicateIsAnsweredAndNotRelayed(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	message := agent.Message(healthy())
	data, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		agent.SendBytes(append([]byte{0}, data...))
		if answer := agent.Receive(); answer.GetErrorResponse() != nil || answer.GetFlags() != 0 {
			t.Errorf("the answer is %v", answer)
		}
	}
	agent.Exchange(healthy())
	for want := range uint64(3) {
		if got := w.uplink(w.agent.ID, isReport).GetReport().GetSequence(); got != want {
			t.Errorf("report %d came in place of %d", got, want)
		}
	}
}

func healthy() *protobufs.AgentToServer {
	return &protobufs.AgentToServer{Capabilities: 1, Health: &protobufs.ComponentHealth{Healthy: true}}
}

func TestHeartbeatsEndInTheGateway(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	const beats = 5
	for range beats {
		agent.Exchange(&protobufs.AgentToServer{Capabilities: 1})
	}
	agent.Exchange(&protobufs.AgentToServer{Capabilities: 3}) // another capability is news
	agent.Close()
	for _, want := range []uint64{0, beats + 1} {
		if got := w.uplink(w.agent.ID, isReport).GetReport().GetSequence(); got != want {
			t.Errorf("report %d was relayed in place of %d", got, want)
		}
	}
	ended := w.uplink(w.agent.ID, isEnd).GetEnded()
	if ended.GetLastSequence() != beats+1 || ended.GetInDoubt() {
		t.Errorf("the session ended with %v", ended)
	}
}

func TestWhatIsInDoubtSaysSo(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	agent.Skip(1)
	agent.Exchange(healthy())
	agent.Close()
	if report := w.uplink(w.agent.ID, isReport).GetReport(); report.GetInDoubt() {
		t.Error("a full report is in doubt")
	}
	if report := w.uplink(w.agent.ID, isReport).GetReport(); !report.GetInDoubt() {
		t.Error("a report after a gap is not in doubt")
	}
	if ended := w.uplink(w.agent.ID, isEnd).GetEnded(); !ended.GetInDoubt() {
		t.Error("a session whose full state never came ended without doubt")
	}
}

func TestReconnectContinuesKnownState(t *testing.T) {
	w := start(t)
	w.control.SetState(w.agent, 41)
	agent := w.dial()
	agent.Skip(42)
	if flags := agent.Exchange(&protobufs.AgentToServer{Capabilities: 1}).GetFlags(); flags != 0 {
		t.Errorf("the flags are %d", flags)
	}
	agent.Close()
	w.uplink(w.agent.ID, isEnd)
	w.control.EndSession(w.agent)
	again := w.dial()
	again.Skip(7)
	if flags := again.Exchange(&protobufs.AgentToServer{Capabilities: 1}).GetFlags(); flags != fullState {
		t.Errorf("with unknown state the flags are %d", flags)
	}
}

// The control plane does not know yet that the session has ended: it is taken over at
// once, since the gateway knows.
func TestReconnectBeforeTheEndIsKnown(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	agent.Close()
	w.uplink(w.agent.ID, isEnd)
	began := time.Now()
	w.dial().Exchange(gatewaytest.Full(0))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if session, _ := w.control.Session(w.agent); session.Takeover != internalv1.Takeover_TAKEOVER_RESTART {
		t.Errorf("the takeover is %v", session.Takeover)
	}
}

func TestSilentHolderIsTakenForDead(t *testing.T) {
	w := start(t)
	old := w.dial()
	old.Exchange(gatewaytest.Full(0))
	fresh := w.dial() // old answers no ping, because nobody reads it
	fresh.Exchange(gatewaytest.Full(0))
	if session, _ := w.control.Session(w.agent); session.Takeover != internalv1.Takeover_TAKEOVER_RESTART || session.UID != fresh.UID {
		t.Errorf("the session is %+v", session)
	}
	if end := w.uplink(w.agent.ID, isEnd); end.GetEnded().GetReason() != "SUPERSEDED" || string(end.GetInstanceUid()) != string(old.UID[:]) {
		t.Errorf("the end is %v", end)
	}
	if code := old.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if answer := fresh.Exchange(&protobufs.AgentToServer{Capabilities: 1}); answer.GetErrorResponse() != nil {
		t.Errorf("the new session is answered with %v", answer)
	}
}

func TestAnsweringHolderMeansClone(t *testing.T) {
	w := start(t)
	old := w.dial()
	old.Exchange(gatewaytest.Full(0))
	closed := make(chan ws.StatusCode, 1)
	go func() { closed <- old.WaitClosed() }() // answers pings
	fresh := w.dial()
	fresh.Exchange(gatewaytest.Full(0))
	if session, _ := w.control.Session(w.agent); session.Takeover != internalv1.Takeover_TAKEOVER_CLONE {
		t.Errorf("the takeover is %v", session.Takeover)
	}
	if code := <-closed; code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

func TestChildrenShareAConnection(t *testing.T) {
	w := start(t)
	w.control.AllowChildren(w.agent)
	agent := w.dial()
	parent := agent.UID
	agent.Exchange(gatewaytest.Full(0))
	child := *agent
	child.UID[0]++
	if answer := child.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse() != nil || string(answer.GetInstanceUid()) != string(child.UID[:]) {
		t.Fatalf("the child is answered with %v", answer)
	}
	if n := w.sessions(); n != 2 {
		t.Errorf("there are %d sessions", n)
	}
	agent.UID = parent
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: 1}); answer.GetErrorResponse() != nil {
		t.Errorf("the parent is answered with %v", answer)
	}
	agent.Close()
	w.eventually("both sessions ended", func() bool { return w.sessions() == 0 })
}

func TestEmptyHealthAfterNoOfferOfOurs(t *testing.T) {
	w := start(t)
	agent := w.dial()
	first := gatewaytest.Full(0)
	first.Health = &protobufs.ComponentHealth{}
	agent.Exchange(first)
	if w.uplink(w.agent.ID, isReport).GetReport().GetAfterOwnOffer() {
		t.Error("an empty health was excused")
	}
}

// The list of components is asked for once for each hash, and travels as a body.
func TestComponentsAreAskedForOnce(t *testing.T) {
	w := start(t)
	agent := w.dial()
	const asked = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportAvailableComponents)
	say := func(hash string, list map[string]*protobufs.ComponentDetails) uint64 {
		report := gatewaytest.Full(0)
		report.AvailableComponents = &protobufs.AvailableComponents{Hash: []byte(hash), Components: list}
		return agent.Exchange(report).GetFlags()
	}
	list := map[string]*protobufs.ComponentDetails{"receivers": {}}
	for i, step := range []struct {
		hash string
		list map[string]*protobufs.ComponentDetails
		want uint64
	}{{"one", nil, asked}, {"one", nil, 0}, {"one", list, 0}, {"one", nil, 0}, {"two", nil, asked}, {"two", list, 0}, {"three", list, 0}, {"three", nil, 0}} {
		if flags := say(step.hash, step.list); flags != step.want {
			t.Errorf("step %d: the flags are %d, want %d", i, flags, step.want)
		}
	}
	report := w.uplink(w.agent.ID, func(u *relayv1.Uplink) bool { return len(u.GetReport().GetBodies()) > 0 }).GetReport()
	if body := report.GetBodies()[0]; body.GetKind() != relayv1.Body_KIND_AVAILABLE_COMPONENTS || w.control.Body(body.GetHash()) == nil {
		t.Errorf("the body is %v", body)
	}
}

func TestDownlinksThatAreRefused(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	hash := w.control.AddBody([]byte("a: b"))
	valid := func(change func(*relayv1.Downlink)) []byte {
		downlink := w.configDownlink(5, hash)
		downlink.GatewayId, downlink.Tenant, downlink.NotAfter = "gw-1", string(tenant), timestamppb.New(time.Now().Add(time.Minute))
		change(downlink)
		return w.control.Sign(downlink)
	}
	forged := valid(func(*relayv1.Downlink) {})
	forged[10] ^= 1
	stranger := gatewaytest.NewControl(t)
	stolen := w.configDownlink(5, hash)
	stolen.GatewayId, stolen.Tenant, stolen.NotAfter = "gw-1", string(tenant), timestamppb.New(time.Now().Add(time.Minute))

	first := valid(func(*relayv1.Downlink) {})
	w.send(first) // the generation is 5 from here on
	if agent.Receive().GetRemoteConfig() == nil {
		t.Fatal("a valid downlink was not written")
	}
	for _, test := range []struct {
		reason  string
		payload []byte
	}{
		{"malformed", []byte{0xff}},
		{"bad_signature", stranger.Sign(stolen)},
		{"other_gateway", valid(func(d *relayv1.Downlink) { d.GatewayId = "gw-2" })},
		{"expired", valid(func(d *relayv1.Downlink) { d.NotAfter = timestamppb.New(time.Now().Add(-time.Second)) })},
		{"unknown_kind", valid(func(d *relayv1.Downlink) { d.Kind = 99 })},
		{"replayed", first},
		{"no_session", valid(func(d *relayv1.Downlink) { d.Tenant = "rival" })},
		{"other_epoch", valid(func(d *relayv1.Downlink) { d.Targets[0].Epoch++ })},
		{"outdated_generation", valid(func(d *relayv1.Downlink) { d.Targets[0].Generation = 4; d.Hash = []byte("older") })},
	} {
		w.send(test.payload)
		w.eventually(test.reason+" is counted", func() bool {
			return w.count("ampora_gateway_downlinks_refused", "reason", test.reason) == 1
		})
	}
	w.send(forged)
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(remoteConfig)}); answer.GetRemoteConfig() != nil {
		t.Errorf("something of it was written: %v", answer)
	}
}

func TestBodyThatCannotBeHad(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.downlink(w.configDownlink(1, make([]byte, 32)))
	if got := w.uplink(w.agent.ID, isDelivery).GetDelivery().GetOutcome(); got != relayv1.Delivery_OUTCOME_BODY_UNAVAILABLE {
		t.Errorf("the delivery is %v", got)
	}
}

func TestDownlinkForFullStateAndClose(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_FULL_STATE, Targets: w.target(w.agent, 0)})
	if flags := agent.Receive().GetFlags(); flags != fullState {
		t.Errorf("the flags are %d", flags)
	}
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Targets: w.target(w.agent, 0), Reason: "test"})
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "REQUESTED" {
		t.Errorf("the session ended with %s", reason)
	}
}

const restartCommand = protobufs.AgentCapabilities_AgentCapabilities_AcceptsRestartCommand

// A restart command travels alone, and once; what else waits follows it.
func TestDownlinkForARestart(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(restartCommand))
	ask := func(generation int64) {
		w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_RESTART, Targets: w.target(w.agent, generation)})
	}
	ask(7)
	asked := agent.Receive()
	if asked.GetCommand() == nil || asked.GetCommand().GetType() != protobufs.CommandType_CommandType_Restart {
		t.Fatalf("written is %v", asked)
	}
	if asked.Command = nil; asked.GetCapabilities() != 0 || asked.GetFlags() != 0 || asked.GetRemoteConfig() != nil || asked.GetConnectionSettings() != nil {
		t.Errorf("beside it stands %v", asked)
	}
	if d := w.uplink(w.agent.ID, isDelivery).GetDelivery(); d.GetKind() != relayv1.Downlink_KIND_RESTART || d.GetOutcome() != relayv1.Delivery_OUTCOME_DELIVERED || d.GetGeneration() != 7 {
		t.Errorf("the delivery is %v", d)
	}
	ask(7) // signed anew
	ask(6)
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_FULL_STATE, Targets: w.target(w.agent, 0)})
	if next := agent.Receive(); next.GetCommand() != nil || next.GetFlags() != fullState {
		t.Errorf("next is written %v", next)
	}
	if answer := agent.Exchange(gatewaytest.Full(restartCommand)); answer.GetCommand() != nil {
		t.Error("it was asked twice")
	}
}

func TestRestartOfAnAgentThatTakesNone(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_RESTART, Targets: w.target(w.agent, 1)})
	if got := w.uplink(w.agent.ID, isDelivery).GetDelivery().GetOutcome(); got != relayv1.Delivery_OUTCOME_NOT_CAPABLE {
		t.Errorf("the delivery is %v", got)
	}
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(remoteConfig)}); answer.GetCommand() != nil {
		t.Error("it was asked")
	}
}

// Whose session is drained may come back at once: it did nothing wrong.
func TestDownlinkForADrain(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Targets: w.target(w.agent, 0), Reason: "DRAINED"})
	if code := agent.WaitClosed(); code != ws.StatusGoingAway {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "DRAINED" {
		t.Errorf("the session ended with %s", reason)
	}
	w.dial().Exchange(gatewaytest.Full(0))
}

// A certificate that was revoked takes whatever its connection carries with it, before the gateway knows by itself.
func TestDownlinkForARevokedCertificate(t *testing.T) {
	w := start(t)
	w.control.AllowChildren(w.agent)
	parent := w.dial()
	parent.Exchange(gatewaytest.Full(0))
	child := *parent
	child.UID[0]++
	child.Exchange(gatewaytest.Full(0))
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Targets: w.target(w.agent, 0), Reason: "REVOKED"})
	if code := parent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "REVOKED" {
		t.Errorf("the session ended with %s", reason)
	}
	w.eventually("the child's session ended", func() bool { return w.sessions() == 0 })
}

// Control asks for a sign of life: the agent is pinged, if it is the session that was
// meant.
func TestDownlinkForAPing(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	other := w.target(w.agent, 0)
	other[0].Epoch--
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_PING, Targets: other})
	w.eventually("the other epoch is refused", func() bool {
		return w.count("ampora_gateway_downlinks_refused", "reason", "other_epoch") == 1
	})
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_PING, Targets: w.target(w.agent, 0)})
	frame, err := ws.ReadFrame(agent.Conn())
	if err != nil || frame.Header.OpCode != ws.OpPing {
		t.Errorf("the agent reads %v, %v", frame.Header, err)
	}
}

func TestLostLeaseClaimsEverythingAnew(t *testing.T) {
	w := start(t)
	w.control.SetLease(300 * time.Millisecond)
	w.control.LoseLease() // the lease of 30 s is renewed after 10
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	before, _ := w.control.Session(w.agent)
	w.eventually("the session has a new epoch", func() bool {
		after, found := w.control.Session(w.agent)
		return found && after.Epoch > before.Epoch
	})
	agent.Exchange(healthy())
	session, _ := w.control.Session(w.agent)
	w.uplink(w.agent.ID, func(u *relayv1.Uplink) bool { return isReport(u) && u.GetEpoch() == session.Epoch })
}

// The first attempt to claim anew fails, for no fault of the agent's.
func TestClaimAnewThatFailsIsRepeated(t *testing.T) {
	w := start(t)
	w.control.SetLease(300 * time.Millisecond)
	w.control.LoseLease()
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	before, _ := w.control.Session(w.agent)
	w.control.FailClaims(1)
	w.eventually("the session has a new epoch", func() bool {
		after, found := w.control.Session(w.agent)
		return found && after.Epoch > before.Epoch
	})
	if answer := agent.Exchange(healthy()); answer.GetErrorResponse() != nil {
		t.Errorf("the answer is %v", answer)
	}
}

func TestControlPlaneOutOfReach(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	late := w.dial()
	w.control.SetDown(true)
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: 1}); answer.GetErrorResponse() != nil {
		t.Errorf("a live session is answered with %v", answer)
	}
	answer := late.Exchange(gatewaytest.Full(0))
	if answer.GetErrorResponse().GetType() != protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable || answer.GetErrorResponse().GetRetryInfo() == nil {
		t.Errorf("a new session is answered with %v", answer)
	}
	if code := late.WaitClosed(); code != 1013 {
		t.Errorf("closed with %d", code)
	}
	token := w.control.AddToken(tenant)
	_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(), bearer(token.Reveal()))
	if gatewaytest.Status(err) != http.StatusServiceUnavailable {
		t.Errorf("a token is answered with %v", err)
	}
}

func TestStaleTrustAdmitsNobody(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.TrustMaxAge = 500 * time.Millisecond })
	w.control.SetDown(true)
	w.eventually("the snapshot is stale", func() bool { return w.gateway.Ready(t.Context()) != nil })
	_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(w.certificate), nil)
	if gatewaytest.Status(err) != http.StatusServiceUnavailable {
		t.Errorf("dial: %v", err)
	}
	w.rejected("unavailable")
}

func TestDrain(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.DrainDuration = 200 * time.Millisecond })
	agents := make([]*gatewaytest.Agent, 5)
	for i := range agents {
		_, certificate := w.control.AddAgent(tenant)
		agents[i] = w.dialWith(certificate)
		agents[i].Exchange(gatewaytest.Full(0))
	}
	last := w.dial()
	last.Exchange(gatewaytest.Full(0))
	var stopping sync.WaitGroup
	stopping.Go(w.stop)
	for _, agent := range append(agents, last) {
		if code := agent.WaitClosed(); code != ws.StatusGoingAway {
			t.Errorf("closed with %d", code)
		}
	}
	stopping.Wait()
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "DRAINED" {
		t.Errorf("the session ended with %s", reason)
	}
	if n := w.sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// A peer that takes nothing does not hold up the end.
func TestDrainOfASlowReader(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.DrainDuration = 0 })
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	hash := w.control.AddBody(bytes.Repeat([]byte("x"), 8<<20))
	for generation := range int64(4) {
		w.downlink(w.configDownlink(generation+1, hash))
	}
	w.uplink(w.agent.ID, isReport)
	<-time.After(time.Second) // the buffers are full, and somebody writes
	began := time.Now()
	w.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	w.uplink(w.agent.ID, isEnd)
}

// A poll that was under way when the gateway began to stop begins a session.
func TestDrainOfALatePoll(t *testing.T) {
	w := start(t)
	stopping := make(chan struct{})
	w.control.OnClaim(func() {
		go func() { w.stop(); close(stopping) }()
		w.eventually("the gateway turns agents away", func() bool {
			_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(w.certificate), nil)
			return err != nil
		})
		<-time.After(100 * time.Millisecond) // whoever polls was ended
	})
	p := &poller{w: w, uid: [16]byte{1}}
	p.poll(gatewaytest.Full(0))
	<-stopping
	if n := w.sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// Five hundred agents come and go, each in its own way of leaving, and nothing of them
// stays.
func TestNothingLeaks(t *testing.T) {
	w := startAlone(t)
	certificates := make([]tls.Certificate, 50)
	for i := range certificates {
		_, certificates[i] = w.control.AddAgent(tenant)
	}
	w.dial().Exchange(gatewaytest.Full(0))
	before := runtime.NumGoroutine()
	for round := range 10 {
		var running sync.WaitGroup
		for i, certificate := range certificates {
			running.Go(func() {
				agent := w.dialWith(certificate)
				agent.Exchange(gatewaytest.Full(0))
				switch (round + i) % 3 {
				case 0:
					agent.Frame(masked(ws.OpClose, true, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
					agent.WaitClosed()
				case 1:
					agent.Exchange(&protobufs.AgentToServer{Capabilities: 1, AgentDisconnect: &protobufs.AgentDisconnect{}})
				}
				agent.Close()
			})
		}
		running.Wait()
		w.eventually("all sessions but one ended", func() bool { return w.sessions() == 1 })
	}
	w.eventually("no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	w.stop()
	w.eventually("nor any of the gateway", func() bool {
		stacks := make([]byte, 1<<20)
		running := string(stacks[:runtime.Stack(stacks, true)])
		return !strings.Contains(running, "gateway/internal/opamp.") && !strings.Contains(running, "gateway/internal/relay.")
	})
}
