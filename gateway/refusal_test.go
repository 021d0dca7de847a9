// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/shared/identity"
)

const badRequest = protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest

func masked(op ws.OpCode, fin bool, payload []byte) ws.Frame {
	return ws.MaskFrame(ws.NewFrame(op, fin, payload))
}

// Each of these ends the connection with a code, and is counted.
func TestBadFrames(t *testing.T) {
	valid, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	reserved := masked(ws.OpBinary, true, []byte{0})
	reserved.Header.Rsv = ws.Rsv(true, false, false)
	promise := masked(ws.OpBinary, true, nil)
	promise.Header.Length = 1 << 40
	tests := map[string]struct {
		frames []ws.Frame
		code   ws.StatusCode
		reason string
	}{
		"unmasked":              {[]ws.Frame{ws.NewBinaryFrame([]byte{0})}, ws.StatusProtocolError, "malformed"},
		"reserved bit":          {[]ws.Frame{reserved}, ws.StatusProtocolError, "malformed"},
		"reserved opcode":       {[]ws.Frame{masked(0x3, true, nil)}, ws.StatusProtocolError, "malformed"},
		"text":                  {[]ws.Frame{masked(ws.OpText, true, []byte("x"))}, ws.StatusUnsupportedData, "malformed"},
		"lone continuation":     {[]ws.Frame{masked(ws.OpContinuation, true, nil)}, ws.StatusProtocolError, "malformed"},
		"fragmented ping":       {[]ws.Frame{masked(ws.OpPing, false, nil)}, ws.StatusProtocolError, "malformed"},
		"long ping":             {[]ws.Frame{masked(ws.OpPing, true, make([]byte, 126))}, ws.StatusProtocolError, "malformed"},
		"too big":               {[]ws.Frame{masked(ws.OpBinary, true, make([]byte, 1<<20+1))}, ws.StatusMessageTooBig, "oversize"},
		"too big by promise":    {[]ws.Frame{promise}, ws.StatusMessageTooBig, "oversize"},
		"too big in fragments":  {[]ws.Frame{masked(ws.OpBinary, false, make([]byte, 1<<20)), masked(ws.OpContinuation, true, make([]byte, 1))}, ws.StatusMessageTooBig, "oversize"},
		"interleaved":           {[]ws.Frame{masked(ws.OpBinary, false, []byte{0}), masked(ws.OpBinary, true, []byte{0})}, ws.StatusProtocolError, "malformed"},
		"header-less":           {[]ws.Frame{masked(ws.OpBinary, true, valid)}, ws.StatusProtocolError, "malformed"},
		"bad close code":        {[]ws.Frame{masked(ws.OpClose, true, []byte{0, 1})}, ws.StatusProtocolError, "malformed"},
		"three malformed":       {[]ws.Frame{masked(ws.OpBinary, true, []byte{0, 0xff}), masked(ws.OpBinary, true, []byte{0, 0xff}), masked(ws.OpBinary, true, []byte{0, 0xff})}, ws.StatusPolicyViolation, "malformed"},
		"three unknown headers": {[]ws.Frame{masked(ws.OpBinary, true, []byte{1}), masked(ws.OpBinary, true, []byte{0x80}), masked(ws.OpBinary, true, nil)}, ws.StatusPolicyViolation, "malformed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			agent := w.dial()
			for _, frame := range test.frames {
				agent.Frame(frame)
			}
			if code := agent.WaitClosed(); code != test.code {
				t.Errorf("closed with %d, want %d", code, test.code)
			}
			w.rejected(test.reason)
			// Back at once, the identity is told to wait.
			w.eventually("a penalty", func() bool {
				_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(w.certificate), nil)
				return gatewaytest.Status(err) == http.StatusServiceUnavailable
			})
		})
	}
}

func TestFragmentsWithAPingBetween(t *testing.T) {
	w := start(t)
	agent := w.dial()
	data, err := proto.Marshal(agent.Message(gatewaytest.Full(0)))
	if err != nil {
		t.Fatal(err)
	}
	agent.Frame(masked(ws.OpBinary, false, []byte{0x80})) // a padded header, in two fragments
	agent.Frame(masked(ws.OpPing, true, []byte("are you there")))
	agent.Frame(masked(ws.OpContinuation, false, []byte{0}))
	agent.Frame(masked(ws.OpContinuation, true, data))
	if answer := agent.Receive(); answer.GetErrorResponse() != nil {
		t.Errorf("the answer is %v", answer)
	}
}

func TestHeaderlessAgentIsTold(t *testing.T) {
	w := start(t)
	agent := w.dial()
	data, err := proto.Marshal(agent.Message(gatewaytest.Full(0)))
	if err != nil {
		t.Fatal(err)
	}
	agent.SendBytes(data)
	if answer := agent.Receive(); answer.GetErrorResponse().GetType() != badRequest {
		t.Errorf("the answer is %v", answer)
	}
	if code := agent.WaitClosed(); code != ws.StatusProtocolError {
		t.Errorf("closed with %d", code)
	}
}

func TestWrongUIDs(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	for _, uid := range [][]byte{nil, make([]byte, 15), make([]byte, 26)} {
		data, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: uid, Capabilities: 1})
		if err != nil {
			t.Fatal(err)
		}
		agent.SendBytes(append([]byte{0}, data...))
		if answer := agent.Receive(); answer.GetErrorResponse().GetType() != badRequest {
			t.Errorf("a uid of %d bytes is answered with %v", len(uid), answer)
		}
	}
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

// A connection of one agent cannot speak for another, nor for a second one that is not
// its child.
func TestAnotherUIDOnTheConnection(t *testing.T) {
	w := start(t)
	other, certificate := w.control.AddAgent(tenant)
	foreign := w.dialWith(certificate)
	foreign.Exchange(gatewaytest.Full(0))

	agent := w.dial()
	own := agent.UID
	agent.Exchange(gatewaytest.Full(0))
	agent.UID = foreign.UID
	if answer := agent.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse().GetType() != badRequest {
		t.Errorf("a foreign uid is answered with %v", answer)
	}
	agent.UID[0]++
	if answer := agent.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse().GetType() != badRequest {
		t.Errorf("a second uid is answered with %v", answer)
	}
	agent.UID = own
	if answer := agent.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse() != nil {
		t.Errorf("the first uid is answered with %v", answer)
	}
	if n := w.rejections("uid_refused"); n < 2 {
		t.Errorf("%d refused uids were counted", n)
	}
	if session, _ := w.control.Session(other); session.UID != foreign.UID {
		t.Error("the other agent lost its session")
	}

	// As the first uid of a connection, it ends it.
	third, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(certificate), nil)
	if err != nil {
		t.Fatal(err)
	}
	third.UID = own
	third.Send(gatewaytest.Full(0))
	if code := third.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

func TestBadCertificates(t *testing.T) {
	w := start(t)
	stranger := gatewaytest.NewAuthority(t, "stranger")
	other := w.control.AddTenant("rival")
	w.control.AddTenant("third")
	ours, _ := w.control.AddAgent(tenant)
	unrecorded := identity.Agent{TrustDomain: gatewaytest.TrustDomain, Tenant: tenant, ID: identity.NewAgentID()}
	elsewhere := identity.Agent{TrustDomain: "elsewhere.test", Tenant: "rival", ID: identity.NewAgentID()}
	w.eventually("the new tenants are trusted", func() bool {
		_, certificate := w.control.AddAgent("rival")
		_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(certificate), nil)
		return err == nil
	})
	expired := w.tenantAuthority().Issue(ours.URI(), -time.Minute)
	server := w.tenantAuthority().Server()
	for name, certificate := range map[string]tls.Certificate{
		"foreign CA":           stranger.Issue(w.agent.URI(), time.Hour),
		"expired":              expired,
		"another tenant's CA":  other.Issue(w.agent.URI(), time.Hour),
		"another trust domain": other.Issue(elsewhere.URI(), time.Hour),
		"a server certificate": server,
	} {
		before := w.rejections("auth_failed")
		config := w.tls(certificate)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
		agent, err := gatewaytest.Dial(t, w.gateway.Addr().String(), config, nil)
		if err == nil {
			agent.Close()
			t.Errorf("%s: admitted", name)
		}
		w.eventually(name+" is counted", func() bool { return w.rejections("auth_failed") > before })
	}

	// A certificate that nobody recorded proves an identity, but gets no session.
	agent := w.dialWith(w.tenantAuthority().Issue(unrecorded.URI(), time.Hour))
	if answer := agent.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse().GetType() != badRequest {
		t.Errorf("the answer is %v", answer)
	}
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

func (w *world) tenantAuthority() *gatewaytest.Authority { return w.control.Authority(tenant) }

func TestRevokedCertificate(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	w.control.Revoke(tenant, w.certificate)
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if _, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(w.certificate), nil); err == nil {
		t.Error("a revoked certificate was admitted")
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "REVOKED" {
		t.Errorf("the session ended with %s", reason)
	}
}

// A certificate is as good as what signed it, also in a session that is open.
func TestRetiredSigningKey(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	w.control.AddTenant("another") // which changes the trust, but not that of this tenant
	w.eventually("the new trust is known", w.control.Told)
	if reply := agent.Exchange(gatewaytest.Full(1)); reply.GetErrorResponse() != nil {
		t.Errorf("it was turned away: %v", reply)
	}
	w.control.AddTenant(tenant)
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "SIGNING_KEY_RETIRED" {
		t.Errorf("the session ended with %s", reason)
	}
	if _, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(w.certificate), nil); err == nil {
		t.Error("what a retired key has signed was admitted")
	}
}

func TestBadTokens(t *testing.T) {
	token := identity.NewToken(identity.BootstrapToken).Reveal()
	for name, header := range map[string]http.Header{
		"none":      nil,
		"unknown":   bearer(token),
		"truncated": bearer(token[:len(token)-1]),
		"API token": bearer(identity.NewToken(identity.APIToken).Reveal()),
		"digest":    {"Authorization": []string{"Digest x"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.tls()}}
			defer client.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.gateway.Addr().String()+"/v1/opamp", nil)
			if err != nil {
				t.Fatal(err)
			}
			if header != nil {
				request.Header = header.Clone()
			}
			request.Header.Set("Upgrade", "websocket")
			request.Header.Set("Connection", "Upgrade")
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized || string(body) != "unauthorized\n" {
				t.Errorf("answered %d %q", response.StatusCode, body)
			}
			w.rejected("auth_failed")
		})
	}
}

func TestSlowReader(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.WriteTimeout = 200 * time.Millisecond })
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.uplink(w.agent.ID, isReport)
	// Offers of different generations until the buffers of TCP are full.
	body := bytes.Repeat([]byte("x"), 1<<20)
	hash := w.control.AddBody(body)
	for generation := int64(1); w.rejections("slow_consumer") == 0; generation++ {
		w.downlink(w.configDownlink(generation, hash))
		<-time.After(20 * time.Millisecond)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "SLOW_CONSUMER" {
		t.Errorf("the session ended with %s", reason)
	}
}

func TestSlowSender(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.FrameTimeout = 200 * time.Millisecond })
	agent := w.dial()
	if _, err := agent.Conn().Write([]byte{0x82, 0xfe}); err != nil {
		t.Fatal(err)
	}
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

func TestIdleAgent(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.PingInterval, c.IdleTimeout = 50*time.Millisecond, 300*time.Millisecond })
	agent := w.dial()
	lived := time.Now()
	agent.Exchange(gatewaytest.Full(0))
	w.uplink(w.agent.ID, isReport)
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "IDLE" {
		t.Errorf("the session ended with %s", reason)
	}
	if time.Since(lived) < 300*time.Millisecond {
		t.Error("it ended too early")
	}

	lively := w.dial()
	lively.Exchange(gatewaytest.Full(0))
	go func() { _, _ = lively.Next() }() // answers pings
	<-time.After(time.Second)
	if answer, found := w.control.Session(w.agent); !found || answer.UID != lively.UID || w.sessions() != 1 {
		t.Error("an agent that answers pings lost its session")
	}
}

func TestFlood(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	go func() {
		for range 600 {
			agent.Send(&protobufs.AgentToServer{Capabilities: 1})
		}
	}()
	unavailable := 0
	for range 600 {
		if agent.Receive().GetErrorResponse().GetType() == protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable {
			unavailable++
		}
	}
	if unavailable == 0 || w.rejections("rate_limited") == 0 {
		t.Fatal("nothing was shed")
	}
	w.eventually("the session asks for what it lost", func() bool {
		return agent.Exchange(&protobufs.AgentToServer{Capabilities: 1}).GetFlags() == uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	})
}

func TestLimitOfConnections(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.MaxSessions = 1 })
	w.dial().Exchange(gatewaytest.Full(0))
	_, certificate := w.control.AddAgent(tenant)
	_, err := gatewaytest.Dial(t, w.gateway.Addr().String(), w.tls(certificate), nil)
	if gatewaytest.Status(err) != http.StatusServiceUnavailable {
		t.Errorf("dial: %v", err)
	}
	w.rejected("overloaded")
}

func TestNotCapableAgent(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	w.downlink(w.configDownlink(1, w.control.AddBody([]byte("a: b"))))
	if got := w.uplink(w.agent.ID, isDelivery).GetDelivery().GetOutcome().String(); !strings.HasSuffix(got, "NOT_CAPABLE") {
		t.Errorf("the delivery is %s", got)
	}
	w.rejected("cap_mismatch")
}

func TestMaskNarrowsCapabilities(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.AllowedCapabilities = []string{"ReportsHealth"} })
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.downlink(w.configDownlink(1, w.control.AddBody([]byte("a: b"))))
	if got := w.uplink(w.agent.ID, isDelivery).GetDelivery().GetOutcome().String(); !strings.HasSuffix(got, "NOT_CAPABLE") {
		t.Errorf("the delivery is %s", got)
	}
}
