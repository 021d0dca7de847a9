// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"net/http"
	"sync/atomic"
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
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// pair runs two gateways and an agent that polls.
func pair(t *testing.T, change ...func(*gateway.Config)) (a, b *world, agent *poller) {
	t.Helper()
	a = start(t, change...)
	b = a.beside("gw-2", change...)
	return a, b, &poller{w: a, uid: [16]byte{1}}
}

// at lets the next poll come to a gateway.
func (p *poller) at(w *world) *poller {
	p.w = w
	return p
}

// mail puts a letter for the agent on record where any gateway finds it.
func (w *world) mail(letter *relayv1.Downlink) {
	w.t.Helper()
	letter.Tenant = string(tenant)
	if letter.GetNotAfter() == nil {
		letter.NotAfter = timestamppb.New(time.Now().Add(time.Minute))
	}
	w.leave(letter.GetKind().String(), w.control.Sign(letter))
}

func (w *world) leave(kind string, payload []byte) {
	w.t.Helper()
	register := bus.Register{Name: uplink.MailRegister(tenant, w.agent.ID, kind), Value: payload}
	if err := w.bus.Set(w.t.Context(), bus.Mail, time.Minute, register); err != nil {
		w.t.Fatal(err)
	}
}

// standing is what the gateways share of the agent.
func (w *world) standing() *relayv1.Poll {
	w.t.Helper()
	values, err := w.bus.Get(w.t.Context(), bus.Polls, uplink.Register(tenant, w.agent.ID))
	if err != nil {
		w.t.Fatal(err)
	}
	var poll relayv1.Poll
	if err := proto.Unmarshal(values[0], &poll); err != nil {
		w.t.Fatal(err)
	}
	return &poll
}

func (w *world) forgetStandings() {
	w.t.Helper()
	if err := w.bus.Set(w.t.Context(), bus.Polls, time.Minute, bus.Register{Name: uplink.Register(tenant, w.agent.ID)}); err != nil {
		w.t.Fatal(err)
	}
}

func beat() *protobufs.AgentToServer {
	return &protobufs.AgentToServer{Capabilities: uint64(remoteConfig)}
}

// Polls alternate between two gateways: no message seems lost, heartbeats end where they
// come, reports of both are under one epoch.
func TestPollsAlternate(t *testing.T) {
	a, b, agent := pair(t)
	full := gatewaytest.Full(0)
	full.Capabilities = uint64(remoteConfig)
	if answer := agent.at(a).poll(full); answer.GetCapabilities() == 0 || answer.GetFlags() != 0 {
		t.Fatalf("the first answer is %v", answer)
	}
	for range 3 {
		for _, w := range []*world{b, a} {
			if answer := agent.at(w).poll(beat()); answer.GetFlags() != 0 || answer.GetErrorResponse() != nil || answer.GetCapabilities() != 0 {
				t.Fatalf("a heartbeat is answered with %v", answer)
			}
		}
	}
	report := healthy()
	report.Capabilities = uint64(remoteConfig)
	agent.at(b).poll(report)
	first, second := a.uplink(a.agent.ID, isReport), a.uplink(a.agent.ID, isReport)
	if first.GetGatewayId() != "gw-1" || second.GetGatewayId() != "gw-2" || first.GetEpoch() != second.GetEpoch() {
		t.Errorf("the reports are %v and %v", first, second)
	}
	if second.GetReport().GetSequence() != 7 || second.GetReport().GetInDoubt() {
		t.Errorf("the second report is %v", second.GetReport())
	}
	// A hole shows wherever the message after it comes, is asked about once, and filled anywhere.
	agent.seq++
	if flags := agent.at(a).poll(beat()).GetFlags(); flags != fullState {
		t.Errorf("after a hole the flags are %d", flags)
	}
	if flags := agent.at(b).poll(beat()).GetFlags(); flags != 0 {
		t.Errorf("while the full state is awaited the flags are %d", flags)
	}
	agent.at(b).poll(gatewaytest.Full(remoteConfig))
	if flags := agent.at(a).poll(beat()).GetFlags(); flags != 0 || a.standing().GetDoubtful() {
		t.Errorf("after the full state the flags are %d", flags)
	}
}

// An offer in the agent's mail is handed out once, whichever gateway it polls.
func TestMailIsDeliveredOnce(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(remoteConfig))
	agent.at(b).poll(beat())
	letter := a.configDownlink(1, a.control.AddBody([]byte("a: b")))
	a.mail(letter)
	offer := agent.at(b).poll(beat()).GetRemoteConfig()
	if string(offer.GetConfig().GetConfigMap()["main"].GetBody()) != "a: b" {
		t.Fatalf("the offer is %v", offer)
	}
	if delivery := a.uplink(a.agent.ID, isDelivery); delivery.GetGatewayId() != "gw-2" || delivery.GetDelivery().GetGeneration() != 1 {
		t.Errorf("the delivery is %v", delivery)
	}
	for _, w := range []*world{a, b, a} {
		if answer := agent.at(w).poll(beat()); answer.GetRemoteConfig() != nil {
			t.Fatalf("%v was handed out twice", answer)
		}
	}
	// The control plane asks again, because it has not heard: it is told, the agent is not.
	letter.NotAfter = timestamppb.New(time.Now().Add(time.Hour))
	a.mail(letter)
	if answer := agent.at(a).poll(beat()); answer.GetRemoteConfig() != nil {
		t.Errorf("%v was handed out for a letter that was sent again", answer)
	}
	a.uplink(a.agent.ID, func(u *relayv1.Uplink) bool { return isDelivery(u) && u.GetGatewayId() == "gw-1" })
	// A later grant of the same is another offer.
	a.mail(a.configDownlink(2, a.control.AddBody([]byte("a: b"))))
	if answer := agent.at(b).poll(beat()); answer.GetRemoteConfig() == nil {
		t.Error("a later grant was not handed out")
	}
}

// What was lost with an answer is handed out again, here or elsewhere.
func TestOfferThatWasLostWithItsAnswer(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(remoteConfig))
	a.mail(a.configDownlink(1, a.control.AddBody([]byte("a: b"))))
	agent.at(a).poll(beat())
	for _, w := range []*world{a, b, b} {
		agent.again()
		if answer := agent.at(w).poll(beat()); answer.GetRemoteConfig() == nil {
			t.Fatalf("a repeated message is answered with %v", answer)
		}
	}
	if answer := agent.at(a).poll(beat()); answer.GetRemoteConfig() != nil {
		t.Error("the offer was handed out once more")
	}
}

// A letter that every gateway reads restarts an agent once.
func TestRestartInTheMail(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(restartCommand))
	agent.at(b).poll(beat())
	a.mail(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_RESTART, Targets: a.target(a.agent, 5)})
	asked := 0
	for _, w := range []*world{b, a, b, a} {
		answer := agent.at(w).poll(&protobufs.AgentToServer{Capabilities: uint64(restartCommand)})
		if answer.GetCommand() != nil {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("it was asked to restart %d times", asked)
	}
	agent.again() // its answer was lost: it is not asked again all the same
	if answer := agent.at(a).poll(&protobufs.AgentToServer{Capabilities: uint64(restartCommand)}); answer.GetCommand() != nil {
		t.Error("a repeated message is answered with a command")
	}
}

func TestRequestsInTheMail(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(remoteConfig))
	agent.at(b).poll(beat())
	a.mail(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_FULL_STATE, Targets: a.target(a.agent, 0)})
	if flags := agent.at(b).poll(beat()).GetFlags(); flags != fullState {
		t.Errorf("the flags are %d", flags)
	}
	if flags := agent.at(a).poll(beat()).GetFlags(); flags != 0 {
		t.Errorf("asked again, the flags are %d", flags)
	}
	agent.at(a).poll(gatewaytest.Full(remoteConfig))
	if flags := agent.at(b).poll(beat()).GetFlags(); flags != 0 {
		t.Errorf("after the full state the flags are %d", flags)
	}

	a.mail(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Targets: a.target(a.agent, 0), Reason: "test"})
	for _, w := range []*world{a, b} {
		if status, header, _ := agent.at(w).post(beat()); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("a poll of a closed session is answered %d %v", status, header)
		}
		agent.again()
		a.uplink(a.agent.ID, func(u *relayv1.Uplink) bool { return u.GetEnded().GetReason() == "REQUESTED" })
	}
	a.control.EndSession(a.agent)
	agent.seq = 0
	agent.at(b).poll(gatewaytest.Full(remoteConfig))
	if answer := agent.at(a).poll(beat()); answer.GetErrorResponse() != nil || a.sessions() != 1 || b.sessions() != 1 {
		t.Errorf("claimed anew, the agent is answered with %v", answer)
	}
}

func TestLettersThatAreRefused(t *testing.T) {
	w := start(t)
	agent := &poller{w: w, uid: [16]byte{1}}
	agent.poll(gatewaytest.Full(remoteConfig))
	hash := w.control.AddBody([]byte("a: b"))
	other, _ := w.control.AddAgent(tenant)
	valid := func(change func(*relayv1.Downlink)) []byte {
		letter := w.configDownlink(5, hash)
		letter.Tenant, letter.NotAfter = string(tenant), timestamppb.New(time.Now().Add(time.Minute))
		change(letter)
		return w.control.Sign(letter)
	}
	forged := valid(func(*relayv1.Downlink) {})
	forged[10] ^= 1
	kind := relayv1.Downlink_KIND_CONFIG.String()
	for _, test := range []struct {
		reason  string
		payload []byte
	}{
		{"malformed", []byte{0xff}},
		{"bad_signature", forged},
		{"other_gateway", valid(func(d *relayv1.Downlink) { d.GatewayId = "gw-1" })},
		{"expired", valid(func(d *relayv1.Downlink) { d.NotAfter = timestamppb.New(time.Now().Add(-time.Second)) })},
		{"unknown_kind", valid(func(d *relayv1.Downlink) { d.Kind = relayv1.Downlink_KIND_PING })},
		{"other_agent", valid(func(d *relayv1.Downlink) { d.Tenant = "rival" })},
		{"other_agent", valid(func(d *relayv1.Downlink) { d.Targets[0].AgentId = string(other.ID) })},
		{"other_agent", valid(func(d *relayv1.Downlink) { d.Targets = append(d.Targets, d.GetTargets()[0]) })},
		{"other_agent", valid(func(d *relayv1.Downlink) { d.Targets = nil })},
		{"other_epoch", valid(func(d *relayv1.Downlink) { d.Targets[0].Epoch-- })},
	} {
		before := w.count("ampora_gateway_downlinks_refused", "reason", test.reason)
		w.leave(kind, test.payload)
		if answer := agent.poll(beat()); answer.GetRemoteConfig() != nil {
			t.Errorf("%s: %v was handed out", test.reason, answer)
		}
		if n := w.count("ampora_gateway_downlinks_refused", "reason", test.reason); n != before+1 {
			t.Errorf("%s was counted %d times", test.reason, n-before)
		}
	}
	// One for an epoch that is not known here waits.
	w.leave(kind, valid(func(d *relayv1.Downlink) { d.Targets[0].Epoch++ }))
	agent.poll(beat())
	agent.seq = 0
	if answer := agent.poll(gatewaytest.Full(remoteConfig)); answer.GetRemoteConfig() != nil {
		t.Errorf("%v was handed out before the new epoch was there", answer)
	}
	if answer := agent.poll(beat()); answer.GetRemoteConfig() == nil {
		t.Error("the letter for the new epoch was lost")
	}
}

// Whichever gateway a restarted agent comes to claims a new epoch, and the other one
// follows.
func TestRestartOfAnAgentThatPolls(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(0))
	agent.at(b).poll(beat())
	before := a.standing()
	agent.seq = 0
	if answer := agent.at(b).poll(gatewaytest.Full(0)); answer.GetFlags() != 0 {
		t.Errorf("after a restart the answer is %v", answer)
	}
	after := a.standing()
	if after.GetEpoch() <= before.GetEpoch() || after.GetSequence() != 0 {
		t.Errorf("after a restart %v follows %v", after, before)
	}
	if answer := agent.at(a).poll(beat()); answer.GetFlags() != 0 || a.standing().GetEpoch() != after.GetEpoch() {
		t.Errorf("at the other gateway the answer is %v, and the standing %v", answer, a.standing())
	}
	// The old session was forgotten there, and nobody was told of an end.
	agent.at(a).poll(&protobufs.AgentToServer{Capabilities: 1, AgentDisconnect: &protobufs.AgentDisconnect{}})
	if end := a.uplink(a.agent.ID, isEnd); end.GetEpoch() != after.GetEpoch() {
		t.Errorf("the first end is %v", end)
	}
}

// A gateway goes away while the agent polls: the other carries on, nobody hears of an
// end, and the agent need not say anything again.
func TestGatewayOfAPollingAgentStops(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(0))
	agent.at(a).poll(beat())
	epoch := a.standing().GetEpoch()
	a.stop()
	if answer := agent.at(b).poll(beat()); answer.GetFlags() != 0 || answer.GetErrorResponse() != nil {
		t.Errorf("at the other gateway the answer is %v", answer)
	}
	agent.at(b).poll(&protobufs.AgentToServer{Capabilities: 1, AgentDisconnect: &protobufs.AgentDisconnect{}})
	if end := b.uplink(b.agent.ID, isEnd); end.GetEpoch() != epoch || end.GetEnded().GetReason() != "AGENT_DISCONNECT" {
		t.Errorf("the first end is %v", end)
	}
}

// Nobody knows how far a shared session has come: the full state is asked for, and one
// that comes by itself begins anew.
func TestSharedSessionThatNobodyRemembers(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(0))
	a.forgetStandings()
	if flags := agent.at(b).poll(beat()).GetFlags(); flags != fullState {
		t.Errorf("the flags are %d", flags)
	}
	epoch := a.standing().GetEpoch()
	c := a.beside("gw-3")
	a.forgetStandings()
	agent.seq = 0
	if flags := agent.at(c).poll(gatewaytest.Full(0)).GetFlags(); flags != 0 || a.standing().GetEpoch() <= epoch {
		t.Errorf("a restarted agent gets the flags %d under %v", flags, a.standing())
	}
}

func shortlyIdle(c *gateway.Config) {
	c.PingInterval, c.IdleTimeout = 50*time.Millisecond, 500*time.Millisecond
}

// An agent that went on at another gateway is forgotten here; one that nobody hears any
// more ends.
func TestIdleIsWhatNobodyHears(t *testing.T) {
	a, b, agent := pair(t, shortlyIdle)
	agent.at(a).poll(gatewaytest.Full(0))
	a.eventually("the first gateway has forgotten the agent", func() bool {
		agent.at(b).poll(beat())
		return a.sessions() == 0
	})
	if b.sessions() != 1 {
		t.Error("so has the second")
	}
	last := agent.seq - 1
	end := a.uplink(a.agent.ID, isEnd)
	if end.GetGatewayId() != "gw-2" || end.GetEnded().GetReason() != "IDLE" || end.GetEnded().GetLastSequence() != last {
		t.Errorf("the end is %v", end)
	}
}

// The bus has lost what the gateways know: the session gets another idle time.
func TestIdleThatNobodyKnowsOf(t *testing.T) {
	w := start(t, shortlyIdle)
	began := time.Now()
	(&poller{w: w, uid: [16]byte{1}}).poll(gatewaytest.Full(0))
	w.forgetStandings()
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "IDLE" {
		t.Errorf("the session ended with %s", reason)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it took %v", took)
	}
}

// After a lost lease a session that control has ended is claimed at once, and the other
// gateways are told the new epoch; one that it has not ended goes on.
func TestLostLeaseOfAPollingAgent(t *testing.T) {
	for name, ended := range map[string]bool{"its session is over": true, "its session goes on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t}
			w.begin()
			w.control.SetLease(300 * time.Millisecond)
			w.run()
			agent := &poller{w: w, uid: [16]byte{1}}
			agent.poll(gatewaytest.Full(0))
			before := w.standing().GetEpoch()
			if ended {
				w.control.EndSession(w.agent)
			}
			w.control.DropLease()
			w.eventually("the lease was lost and taken again", func() bool { return !w.control.Lost() && w.gateway.Ready(t.Context()) == nil })
			w.eventually("the standing is up to date", func() bool { return w.standing().GetEpoch() > before == ended })
			if answer := agent.at(w.beside("gw-2")).poll(beat()); answer.GetErrorResponse() != nil || w.standing().GetSequence() != 1 {
				t.Errorf("elsewhere the answer is %v, and the standing %v", answer, w.standing())
			}
		})
	}
}

// registersDown is a bus whose registers can be out of reach.
type registersDown struct {
	bus.Bus
	down atomic.Bool
}

func (b *registersDown) Get(ctx context.Context, shelf bus.Shelf, names ...string) ([][]byte, error) {
	if b.down.Load() {
		return nil, bus.ErrUnavailable
	}
	return b.Bus.Get(ctx, shelf, names...)
}

func (b *registersDown) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	if b.down.Load() {
		return bus.ErrUnavailable
	}
	return b.Bus.Set(ctx, shelf, ttl, registers...)
}

// Without the registers nobody guesses: the agent is told to come back, and no session
// ends.
func TestPollsWithoutRegisters(t *testing.T) {
	a := start(t)
	registers := &registersDown{Bus: a.bus}
	a.bus = registers
	b := a.beside("gw-2", shortlyIdle)
	agent := &poller{w: b, uid: [16]byte{1}}
	agent.poll(gatewaytest.Full(remoteConfig))
	a.mail(a.configDownlink(1, a.control.AddBody([]byte("a: b"))))
	registers.down.Store(true)
	for range 2 {
		if status, header, _ := agent.post(beat()); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("answered %d %v", status, header)
		}
		agent.again()
	}
	<-time.After(700 * time.Millisecond) // longer than the idle time
	if b.sessions() != 1 {
		t.Error("the session ended")
	}
	registers.down.Store(false)
	answer := agent.poll(beat())
	if answer.GetRemoteConfig() == nil || answer.GetFlags() != 0 {
		t.Errorf("the repeated message is answered with %v", answer)
	}
}

// An agent comes over a WebSocket while another gateway holds it.
func TestContestWithAnotherGateway(t *testing.T) {
	for name, test := range map[string]struct {
		lives bool
		want  internalv1.Takeover
	}{
		"holder lives":   {true, internalv1.Takeover_TAKEOVER_CLONE},
		"holder is dead": {false, internalv1.Takeover_TAKEOVER_RESTART},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			b := a.beside("gw-2")
			old := a.dial()
			old.Exchange(gatewaytest.Full(0))
			if test.lives {
				go old.WaitClosed() // answers pings
			}
			a.eventually("the holder's mark is there", func() bool { return a.mark() != nil })
			fresh := b.dial()
			fresh.Exchange(gatewaytest.Full(0))
			if session, _ := a.control.Session(a.agent); session.Takeover != test.want || session.UID != fresh.UID {
				t.Errorf("the session is %+v", session)
			}
		})
	}
}

// While its connection contests a session elsewhere, the agent gives up waiting and comes back there: the connection that
// it left takes nothing from it, and costs it no penalty.
func TestContestOutrun(t *testing.T) {
	a := start(t)
	b := a.beside("gw-2")
	old := a.dial()
	old.Exchange(gatewaytest.Full(0))
	left := b.dial()
	left.Send(gatewaytest.Full(0))
	a.eventually("the session is contested", func() bool { return a.control.Contested() > 0 })
	old.Close()
	a.control.EndSession(a.agent)
	again := a.dial()
	again.Exchange(gatewaytest.Full(0))
	first, _ := a.control.Session(a.agent)
	if code := left.WaitClosed(); code != 1013 {
		t.Errorf("the connection that was left is closed with %d", code)
	}
	if now, _ := a.control.Session(a.agent); now != first {
		t.Errorf("the session was %+v and is %+v", first, now)
	}
	again.Exchange(&protobufs.AgentToServer{Capabilities: 1})
	b.dial().Close() // nothing was punished
}

// mark is how far the first gateway says it has heard the agent.
func (w *world) mark() *relayv1.Mark {
	w.t.Helper()
	register := uplink.Register(tenant, w.agent.ID)
	values, err := w.bus.Get(w.t.Context(), bus.Marks("gw-1"), register)
	if err != nil {
		w.t.Fatal(err)
	}
	if values[0] == nil {
		return nil
	}
	mark, sealed := w.control.OpenMark("gw-1", register, values[0])
	if !sealed {
		w.t.Fatalf("the seal of %v is broken", mark)
	}
	return mark
}

// Marks follow the agent at a short distance, and say whether anything is missing.
func TestMarksFollowTheAgent(t *testing.T) {
	w := start(t)
	agent := w.dial()
	follows := func(sequence uint64, whole bool) {
		t.Helper()
		session, _ := w.control.Session(w.agent)
		w.eventually("the mark follows", func() bool {
			mark := w.mark()
			return mark.GetSequence() == sequence && mark.GetWhole() == whole && mark.GetEpoch() == session.Epoch
		})
	}
	agent.Exchange(gatewaytest.Full(0))
	follows(0, true)
	agent.Exchange(&protobufs.AgentToServer{Capabilities: 1})
	follows(1, true)
	agent.Skip(1)
	agent.Exchange(&protobufs.AgentToServer{Capabilities: 1})
	follows(3, false)
	agent.Exchange(gatewaytest.Full(0))
	follows(4, true)
	heard := w.mark().GetLastSeenAt().AsTime()
	agent.Frame(masked(ws.OpPong, true, nil))
	w.eventually("a sign of life shows", func() bool { return w.mark().GetLastSeenAt().AsTime().After(heard) })
	agent.Restart()
	agent.Exchange(gatewaytest.Full(0))
	follows(0, true)
}

// A clock that is an hour off, here or there, changes nothing: deadlines are by control's.
func TestDeadlinesAreByTheClockOfControl(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t}
			w.begin()
			w.control.SetAhead(ahead)
			w.run()
			agent := w.dial()
			agent.Exchange(gatewaytest.Full(0))
			ask := func(left time.Duration) {
				w.downlink(&relayv1.Downlink{
					Kind: relayv1.Downlink_KIND_FULL_STATE, Targets: w.target(w.agent, 0), NotAfter: timestamppb.New(w.control.Now().Add(left)),
				})
			}
			ask(-time.Second)
			w.eventually("an expired one is counted", func() bool {
				return w.count("ampora_gateway_downlinks_refused", "reason", "expired") == 1
			})
			ask(time.Minute)
			if flags := agent.Receive().GetFlags(); flags != fullState {
				t.Errorf("the flags are %d", flags)
			}
			if at := w.uplink(w.agent.ID, isReport).GetReceivedAt().AsTime(); w.control.Now().Sub(at).Abs() > 20*time.Second {
				t.Errorf("the report is from %v", at)
			}
		})
	}
}
