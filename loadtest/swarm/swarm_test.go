// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

func testLeaf(i int) *x509.Certificate {
	name, _ := url.Parse(fmt.Sprintf("spiffe://test/tenant/default/agent/agent-%d", i)) // it is one
	return &x509.Certificate{SerialNumber: big.NewInt(int64(100 + i)), URIs: []*url.URL{name}}
}

// TestReports: everything first, nothing that has not changed later, and everything with
// the list of components when asked.
func TestReports(t *testing.T) {
	s, identities := startServer(t, 1)
	asked := false
	s.answer = func(m *protobufs.AgentToServer) *protobufs.ServerToAgent {
		reply := &protobufs.ServerToAgent{}
		if m.GetSequenceNum() == 1 && !asked {
			asked = true
			reply.Flags = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
		}
		return reply
	}
	made := startSwarm(t, s, identities, nil)
	first := s.await("the first report", atLeast(1))[0]
	if size := proto.Size(first); size < 2500 || size > 4500 {
		t.Errorf("the first report has %d bytes", size)
	}
	if first.GetSequenceNum() != 0 || first.GetAgentDescription() == nil || first.GetHealth() == nil || first.GetEffectiveConfig() == nil ||
		first.GetRemoteConfigStatus() == nil || len(first.GetAvailableComponents().GetComponents()) != 0 || len(first.GetAvailableComponents().GetHash()) == 0 {
		t.Errorf("the first report is %v", first)
	}
	made.agents[0].heartbeat()
	heard := s.await("the full state", atLeast(3))
	if bare := (&protobufs.AgentToServer{InstanceUid: first.GetInstanceUid(), Capabilities: first.GetCapabilities(), SequenceNum: 1}); !proto.Equal(heard[1], bare) {
		t.Errorf("a heartbeat is %v", heard[1])
	}
	if full := heard[2]; full.GetSequenceNum() != 2 || full.GetAgentDescription() == nil || len(full.GetAvailableComponents().GetComponents()) == 0 {
		t.Errorf("the full state is %v", full)
	}
	if n := made.Count().FullStateAsked.Load(); n != 1 {
		t.Errorf("it counts %d requests for the full state", n)
	}
}

// TestHeartbeat: without anything to say it speaks after the interval, which the server may set.
func TestHeartbeat(t *testing.T) {
	s, identities := startServer(t, 2)
	s.answer = func(*protobufs.AgentToServer) *protobufs.ServerToAgent {
		return &protobufs.ServerToAgent{ConnectionSettings: &protobufs.ConnectionSettingsOffers{Opamp: &protobufs.OpAMPConnectionSettings{HeartbeatIntervalSeconds: 1}}}
	}
	startSwarm(t, s, identities, func(c *Config) { c.Heartbeat, c.Transport = time.Second, Mixed })
	s.await("three heartbeats each", func(heard []*protobufs.AgentToServer) bool { return len(heard) >= 8 })
}

func offer(body string) *protobufs.ServerToAgent {
	return &protobufs.ServerToAgent{RemoteConfig: &protobufs.AgentRemoteConfig{
		ConfigHash: []byte("hash of " + body),
		Config: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{
			"": {Body: []byte("last: 1\n")}, "b": {Body: []byte(body)}, "a": {Body: []byte("first: 1\n")},
		}},
	}}
}

// TestConfig: it applies, then has applied what it was offered and runs it; or has failed
// and runs what it ran.
func TestConfig(t *testing.T) {
	for name, fails := range map[string]float64{"applies": 0, "fails": 1} {
		t.Run(name, func(t *testing.T) {
			s, identities := startServer(t, 1)
			s.answer = func(m *protobufs.AgentToServer) *protobufs.ServerToAgent {
				if m.GetSequenceNum() == 0 || m.GetSequenceNum() == 2 { // the same again
					return offer("middle: 1\n")
				}
				return &protobufs.ServerToAgent{}
			}
			made := startSwarm(t, s, identities, func(c *Config) { c.FailFraction = fails })
			heard := s.await("two reports about it", atLeast(3))
			if status := heard[1].GetRemoteConfigStatus(); status.GetStatus() != protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING || heard[1].GetEffectiveConfig() != nil {
				t.Errorf("it says first %v", heard[1])
			}
			status, body := heard[2].GetRemoteConfigStatus(), string(heard[2].GetEffectiveConfig().GetConfigMap().GetConfigMap()[""].GetBody())
			if string(status.GetLastRemoteConfigHash()) != "hash of middle: 1\n" {
				t.Errorf("the status is %v", status)
			}
			if fails == 0 && (status.GetStatus() != protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED || !strings.HasSuffix(body, "first: 1\nmiddle: 1\nlast: 1\n")) {
				t.Errorf("it has applied %v and runs %s", status, body)
			}
			if fails == 1 && (status.GetStatus() != protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED || status.GetErrorMessage() == "" || body != "") {
				t.Errorf("it has failed with %v and runs %s", status, body)
			}
			if err := made.Calm(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrop: after a lost connection it continues where it was; after a restart it begins anew.
func TestDrop(t *testing.T) {
	for _, transport := range []Transport{WebSocket, HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			s, identities := startServer(t, 1)
			made := startSwarm(t, s, identities, func(c *Config) { c.Transport = transport })
			s.await("the first report", atLeast(1))
			calm(t, made)
			made.befall("drop", 1)
			heard := s.await("a message after the drop", atLeast(2))
			if last := heard[len(heard)-1]; last.GetSequenceNum() != 1 || last.GetAgentDescription() != nil {
				t.Errorf("after a drop it says %v", last)
			}
			calm(t, made)
			uid := string(heard[0].GetInstanceUid())
			for i, kind := range []string{"restart", "new-uid"} {
				made.befall(kind, 1)
				last := s.await("a message after the "+kind, atLeast(3+i))[2+i]
				if last.GetSequenceNum() != 0 || last.GetAgentDescription() == nil {
					t.Errorf("after a %s it says %v", kind, last)
				}
				if same := string(last.GetInstanceUid()) == uid; same != (kind == "restart") {
					t.Errorf("after a %s the uid is the same: %t", kind, same)
				}
				calm(t, made)
			}
			if faults := made.Count().Faults(); faults["drop"] != 1 || faults["restart"] != 1 || faults["new-uid"] != 1 {
				t.Errorf("it counts %v", faults)
			}
		})
	}
}

func calm(t *testing.T, s *Swarm) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Calm(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestFreeze: a half-open agent says nothing, keeps what it has to say, and comes back.
func TestFreeze(t *testing.T) {
	s, identities := startServer(t, 1)
	made := startSwarm(t, s, identities, nil)
	s.await("the first report", atLeast(1))
	calm(t, made)
	made.befall("half-open", 1)
	a := made.agents[0]
	a.mu.Lock()
	a.relabel()
	a.flush()
	a.mu.Unlock()
	if a.ready() || made.Count().Online() != 1 {
		t.Error("it is not frozen with an open connection")
	}
	calm(t, made)
	last := s.await("the change", atLeast(2))[1]
	if last.GetSequenceNum() != 1 || last.GetAgentDescription() == nil {
		t.Errorf("after the thaw it says %v", last)
	}
	if s.attempts != 2 {
		t.Errorf("it connected %d times", s.attempts)
	}
}

// TestSecondConnections: what opens a connection beside the first one leaves that one open.
func TestSecondConnections(t *testing.T) {
	s, identities := startServer(t, 1)
	made := startSwarm(t, s, identities, nil)
	s.await("the first report", atLeast(1))
	calm(t, made)
	made.befall("clone", 1)
	heard := s.await("the clone's report", atLeast(2))
	if copied := heard[1]; copied.GetSequenceNum() != 1 || copied.GetAgentDescription() == nil || !bytes.Equal(copied.GetInstanceUid(), heard[0].GetInstanceUid()) {
		t.Errorf("the clone says %v", copied)
	}
	made.befall("clone", 1)
	made.befall("duplicate", 1)
	if last := s.await("the duplicate's message", atLeast(3))[2]; last.GetSequenceNum() != 1 || last.GetAgentDescription() != nil {
		t.Errorf("over its second connection it says %v", last)
	}
	calm(t, made)
	if faults := made.Count().Faults(); faults["clone"] != 1 || faults["duplicate"] != 1 {
		t.Errorf("it counts %v", faults)
	}
}

// TestManyReports: bursts and slow readers lose nothing by themselves.
func TestManyReports(t *testing.T) {
	s, identities := startServer(t, 1)
	made := startSwarm(t, s, identities, nil)
	s.await("the first report", atLeast(1))
	calm(t, made)
	made.befall("burst", 1)
	s.await("the burst", atLeast(1+burstSize))
	calm(t, made)
	made.befall("slow", 1)
	heard := s.await("the heartbeats", atLeast(1+burstSize+slowUnread))
	for i, m := range heard {
		if m.GetSequenceNum() != uint64(i) {
			t.Fatalf("message %d has the number %d", i, m.GetSequenceNum())
		}
	}
	calm(t, made)
}

// TestRetryAfter: who is told to wait waits, and a poll that was not taken comes again as
// it was.
func TestRetryAfter(t *testing.T) {
	for _, transport := range []Transport{WebSocket, HTTP} {
		t.Run(string(transport), func(t *testing.T) {
			s, identities := startServer(t, 1)
			var told, came time.Time
			s.refuse = func(attempt int) (int, map[string]string) {
				if attempt == 1 {
					told = time.Now()
					return 503, map[string]string{"Retry-After": "2"}
				}
				came = time.Now()
				return 0, nil
			}
			made := startSwarm(t, s, identities, func(c *Config) { c.Transport = transport })
			first := s.await("the first report", atLeast(1))[0]
			if wait := came.Sub(told); wait < 2*time.Second {
				t.Errorf("it came back after %s", wait)
			}
			if first.GetSequenceNum() != 0 || first.GetAgentDescription() == nil {
				t.Errorf("it says %v", first)
			}
			if n := made.Count().Errors()["answered 503"]; n != 1 {
				t.Errorf("it counts %v", made.Count().Errors())
			}
		})
	}
}

// TestStop: the last message says goodbye.
func TestStop(t *testing.T) {
	s, identities := startServer(t, 4)
	made := startSwarm(t, s, identities, func(c *Config) { c.Transport = Mixed })
	if err := made.Connected(t.Context()); err != nil {
		t.Fatal(err)
	}
	made.Stop()
	heard := s.await("all goodbyes", atLeast(8))
	for _, m := range heard[4:] {
		if m.GetAgentDisconnect() == nil {
			t.Errorf("one of the last messages is %v", m)
		}
	}
	if n := made.Count().Online(); n != 0 {
		t.Errorf("%d are online after the end", n)
	}
}

// TestDisturb: rates are kept, and every change is told.
func TestDisturb(t *testing.T) {
	s, identities := startServer(t, 3)
	made := startSwarm(t, s, identities, func(c *Config) {
		c.Flips, c.Relabels, c.Faults = 50, 50, []Fault{{Kind: "drop", Rate: 10}, {Kind: "storm", Count: 3}}
	})
	if err := made.Connected(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	made.Disturb(ctx)
	calm(t, made)
	count := made.Count()
	if flips := count.Flips.Load(); flips < 20 || flips > 51 {
		t.Errorf("%d flips", flips)
	}
	if faults := count.Faults(); faults["drop"] < 1 || faults["drop"] > 11 || faults["storm"] != 3 {
		t.Errorf("faults: %v", faults)
	}
	told := map[string]int64{}
	for _, m := range s.await("a message", atLeast(1)) {
		for _, attribute := range m.GetAgentDescription().GetNonIdentifyingAttributes() {
			if attribute.GetKey() == "swarm.relabels" {
				told[string(m.GetInstanceUid())] = attribute.GetValue().GetIntValue()
			}
		}
	}
	for _, a := range made.agents {
		if told[string(a.uid[:])] != int64(a.relabels) {
			t.Errorf("%s was relabelled %d times and said %d", a.name, a.relabels, told[string(a.uid[:])])
		}
	}
}

// TestIdentities: what was enrolled is there the next time; what was cut off is not.
func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	file, err := OpenIdentities(dir)
	if err != nil {
		t.Fatal(err)
	}
	authority := rig.NewAuthority(t)
	for i := range 3 {
		if err := file.Add(authority.Agent(t, testLeaf(i), time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "identities.pem")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(whole)-20)); err != nil {
		t.Fatal(err)
	}
	again, err := OpenIdentities(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := again.List()
	if len(list) != 2 || list[1].Agent() != "agent-1" || list[1].Serial != "65" || list[1].Domain() != "spiffe://test/tenant/default/agent/" {
		t.Fatalf("it has %d identities: %+v", len(list), list)
	}
	if err := again.Add(authority.Agent(t, testLeaf(7), time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	last, err := OpenIdentities(dir)
	if err != nil || len(last.List()) != 3 || last.List()[2].Agent() != "agent-7" {
		t.Errorf("after one more it has %+v, %v", last.List(), err)
	}
}

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"drop=2/s":       {Kind: "drop", Rate: 2},
		"restart=30/m":   {Kind: "restart", Rate: 0.5},
		"storm=500@1m5s": {Kind: "storm", Count: 500, At: 65 * time.Second},
		"clone=1@0s":     {Kind: "clone", Count: 1},
	} {
		if got, err := ParseFault(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "drop", "drop=", "drop=2", "drop=0/s", "drop=-1/s", "drop=1/h", "drop=0@1s", "drop=1@-1s", "drop=x@1s", "flood=1/s"} {
		if got, err := ParseFault(text); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var l Latency
	if p := l.Percentiles(); p.Count != 0 || p.P99 != 0 {
		t.Errorf("of nothing: %+v", p)
	}
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Millisecond)
	}
	p := l.Percentiles()
	if p.Count != 1000 || p.Max != 1 || p.P50 < 0.5 || p.P50 > 0.57 || p.P90 < 0.9 || p.P99 < 0.99 || p.P99 > 1 {
		t.Errorf("%+v", p)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	longest := time.Duration(0)
	for range 40 {
		longest = max(longest, b.next(nil))
	}
	if b.last != longestPause || longest > longestPause*3/2 || longest < longestPause/2 {
		t.Errorf("it ends at %s, the longest was %s", b.last, longest)
	}
}

func TestConfigCheck(t *testing.T) {
	good := Config{Target: Target{Addresses: []string{"127.0.0.1:1"}}, Transport: WebSocket, Heartbeat: time.Second, Dials: 1}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"transport": func(c *Config) { c.Transport = "udp" },
		"heartbeat": func(c *Config) { c.Heartbeat = 0 },
		"ramp":      func(c *Config) { c.Ramp = -1 },
		"dials":     func(c *Config) { c.Dials = 0 },
		"delay":     func(c *Config) { c.ApplyDelay = [2]time.Duration{2, 1} },
		"share":     func(c *Config) { c.FailFraction = 2 },
		"rate":      func(c *Config) { c.Flips = -1 },
		"no server": func(c *Config) { c.Target.Addresses = nil },
		"address":   func(c *Config) { c.Target.Addresses = []string{"host"} },
		"locals":    func(c *Config) { c.Target = Target{Addresses: []string{"192.0.2.1:1"}, Locals: 1} },
	} {
		bad := good
		change(&bad)
		if bad.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(good, nil); err == nil {
		t.Error("a swarm of nobody is made")
	}
}
