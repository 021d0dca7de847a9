// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/loadtest/api"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

// fleet is an API that shows what it is given, over the network.
type fleet struct {
	amporav1connect.UnimplementedAgentServiceHandler

	mu     sync.Mutex
	agents []*amporav1.Agent
	bodies map[string]string
	asked  int
	onAsk  func(asked int) // with the lock held
}

func serve(t *testing.T, f *fleet) *api.Client {
	t.Helper()
	server := connect.NewServer()
	amporav1connect.RegisterAgentServiceHandler(server, f)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server)
	listening := httptest.NewServer(mux)
	t.Cleanup(listening.Close)
	client, err := api.New(api.Access{URL: listening.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ListAgents implements the API, two a page.
func (f *fleet) ListAgents(_ context.Context, r *amporav1.ListAgentsRequest) (*amporav1.ListAgentsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := 0
	_, _ = fmt.Sscan(r.GetPageToken(), &begin) // "" begins at the first
	page := &amporav1.ListAgentsResponse{}
	for _, agent := range f.agents[begin:min(begin+2, len(f.agents))] {
		page.Agents = append(page.Agents, proto.CloneOf(agent))
	}
	if begin+2 < len(f.agents) {
		page.NextPageToken = fmt.Sprint(begin + 2)
	}
	return page, nil
}

// GetAgent implements the API.
func (f *fleet) GetAgent(_ context.Context, r *amporav1.GetAgentRequest) (*amporav1.GetAgentResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.onAsk != nil {
		f.onAsk(f.asked)
	}
	for _, agent := range f.agents {
		if agent.GetId() == r.GetId() {
			return &amporav1.GetAgentResponse{Agent: proto.CloneOf(agent)}, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, "no such agent")
}

// GetEffectiveConfig implements the API.
func (f *fleet) GetEffectiveConfig(_ context.Context, r *amporav1.GetEffectiveConfigRequest) (*amporav1.GetEffectiveConfigResponse, error) {
	return &amporav1.GetEffectiveConfigResponse{Files: []*amporav1.GetEffectiveConfigResponse_File{
		{File: &amporav1.ConfigFile{}, Body: []byte(f.bodies[r.GetId()])},
	}}, nil
}

func agent(i int) *amporav1.Agent {
	body := fmt.Sprintf("runs: %d\n", i)
	hash := sha256.Sum256([]byte(body))
	now := timestamppb.New(time.Unix(1_800_000_000, 123456789))
	return &amporav1.Agent{
		Id: fmt.Sprintf("agent-%d", i), InstanceUid: fmt.Sprintf("uid-%d", i), HostName: fmt.Sprintf("host-%d", i),
		Credential: &amporav1.Credential{Serial: "1f", SpiffeId: fmt.Sprintf("spiffe://test/tenant/default/agent/agent-%d", i)},
		Presence:   amporav1.Presence_PRESENCE_ONLINE, Session: &amporav1.Session{Transport: amporav1.Transport_TRANSPORT_WEBSOCKET},
		Capabilities: []string{"ReportsStatus", "ReportsHealth"},
		Description: &amporav1.Description{
			Identifying:    []*amporav1.Attribute{{Key: "service.name", Value: structpb.NewStringValue("a")}},
			NonIdentifying: []*amporav1.Attribute{{Key: "n", Value: structpb.NewNumberValue(1)}, {Key: "b", Value: structpb.NewBoolValue(true)}},
		},
		Health: &amporav1.Health{Healthy: true, Status: "StatusOK", StatusTime: now, StartTime: now, Components: map[string]*amporav1.Health{
			"pipeline": {Healthy: true, StatusTime: now, StartTime: now},
		}},
		EffectiveConfig:     &amporav1.EffectiveConfig{Files: []*amporav1.ConfigFile{{ContentType: "text/yaml", ContentHash: hex.EncodeToString(hash[:]), Size: int64(len(body))}}},
		RemoteConfigStatus:  &amporav1.RemoteConfigStatus{LastOfferHash: "ab", State: amporav1.ConfigState_CONFIG_STATE_APPLIED},
		AvailableComponents: &amporav1.AvailableComponents{Hash: "cd", Components: []*amporav1.Component{{Kind: "receiver", Name: "otlp"}}},
	}
}

func state(n int) State {
	s := State{Faults: map[string]int64{"drop": 3}}
	for i := range n {
		s.Agents = append(s.Agents, agent(i))
	}
	return s
}

// shows is a fleet that shows what the agents know.
func shows(s State) *fleet {
	f := &fleet{bodies: map[string]string{}}
	for i, each := range s.Agents {
		f.agents = append(f.agents, proto.CloneOf(each))
		f.bodies[each.GetId()] = fmt.Sprintf("runs: %d\n", i)
	}
	return f
}

func (f *fleet) runs(id string) map[string][]byte { return map[string][]byte{"": []byte(f.bodies[id])} }

// spoil changes one thing of an agent.
var spoil = map[string]func(*amporav1.Agent){
	"instance uid":      func(a *amporav1.Agent) { a.InstanceUid = "other" },
	"tenant":            func(a *amporav1.Agent) { a.Credential.SpiffeId = "spiffe://test/tenant/other/agent/agent-1" },
	"serial number":     func(a *amporav1.Agent) { a.Credential.Serial = "20" },
	"presence":          func(a *amporav1.Agent) { a.Presence = amporav1.Presence_PRESENCE_UNKNOWN },
	"transport":         func(a *amporav1.Agent) { a.Session.Transport = amporav1.Transport_TRANSPORT_HTTP },
	"host":              func(a *amporav1.Agent) { a.HostName = "" },
	"capabilities":      func(a *amporav1.Agent) { a.Capabilities = a.GetCapabilities()[1:] },
	"type of a value":   func(a *amporav1.Agent) { a.Description.NonIdentifying[0].Value = structpb.NewStringValue("1") },
	"attribute missing": func(a *amporav1.Agent) { a.Description.NonIdentifying = a.GetDescription().GetNonIdentifying()[1:] },
	"attribute too many": func(a *amporav1.Agent) {
		a.Description.Identifying = append(a.Description.Identifying, &amporav1.Attribute{})
	},
	"no description":     func(a *amporav1.Agent) { a.Description = nil },
	"health":             func(a *amporav1.Agent) { a.Health.Healthy = false },
	"words of health":    func(a *amporav1.Agent) { a.Health.LastError = "x" },
	"time of health":     func(a *amporav1.Agent) { a.Health.StatusTime.Nanos++ },
	"part of health":     func(a *amporav1.Agent) { a.Health.Components["pipeline"].Healthy = false },
	"part too many":      func(a *amporav1.Agent) { a.Health.Components["other"] = &amporav1.Health{} },
	"no health":          func(a *amporav1.Agent) { a.Health = nil },
	"config hash":        func(a *amporav1.Agent) { a.EffectiveConfig.Files[0].ContentHash = "00" },
	"config size":        func(a *amporav1.Agent) { a.EffectiveConfig.Files[0].Size++ },
	"no config":          func(a *amporav1.Agent) { a.EffectiveConfig = nil },
	"offer":              func(a *amporav1.Agent) { a.RemoteConfigStatus.LastOfferHash = "ac" },
	"state of the offer": func(a *amporav1.Agent) { a.RemoteConfigStatus.State = amporav1.ConfigState_CONFIG_STATE_FAILED },
	"words of the offer": func(a *amporav1.Agent) { a.RemoteConfigStatus.ErrorMessage = "x" },
	"components":         func(a *amporav1.Agent) { a.AvailableComponents.Components[0].Name = "nop" },
	"components' hash":   func(a *amporav1.Agent) { a.AvailableComponents.Hash = "" },
}

// TestCompare: two that are equal do not differ, and no change goes unnoticed.
func TestCompare(t *testing.T) {
	if words := Compare(agent(1), agent(1)); len(words) != 0 {
		t.Errorf("an agent differs from itself: %q", words)
	}
	for name, change := range spoil {
		shown := agent(1)
		change(shown)
		if words := Compare(agent(1), shown); len(words) == 0 {
			t.Errorf("%s: nobody sees it", name)
		}
		if words := Compare(shown, agent(1)); len(words) == 0 {
			t.Errorf("%s: nobody sees it the other way round", name)
		}
	}
}

func TestVerify(t *testing.T) {
	s := state(5)
	f := shows(s)
	f.agents = append(f.agents, agent(77)) // somebody else's
	result, err := Verify(t.Context(), serve(t, f), s, Options{Bytes: f.runs})
	if err != nil || result.Agents != 5 || result.Differences != 0 || result.Bytes != 5 || result.Injected != 3 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestDiffers: every difference is found, wherever it is shown, and told.
func TestDiffers(t *testing.T) {
	for name, change := range map[string]func(*fleet){
		"one part":        func(f *fleet) { f.agents[1].Health.Healthy = false },
		"missing":         func(f *fleet) { f.agents = append(f.agents[:1], f.agents[2:]...) },
		"twice":           func(f *fleet) { f.agents = append(f.agents, f.agents[1]) },
		"empty":           func(f *fleet) { f.agents = nil },
		"bytes":           func(f *fleet) { f.bodies["agent-1"] = "runs: ?\n" },
		"another's state": func(f *fleet) { f.agents[1] = proto.CloneOf(f.agents[0]); f.agents[1].Id = "agent-1" },
	} {
		s := state(3)
		f := shows(s)
		right := shows(s)
		change(f)
		result, err := Verify(t.Context(), serve(t, f), s, Options{Bytes: right.runs})
		if !errors.Is(err, ErrDiffers) || result.Differences == 0 || !strings.Contains(strings.Join(result.First, "\n"), "agent-1") {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}

// TestSettles: differences may go away in time; one that comes back meanwhile is found.
func TestSettles(t *testing.T) {
	s := state(3)
	f := shows(s)
	f.agents[1].HostName = "late"
	f.onAsk = func(asked int) {
		switch asked {
		case 4: // the first round is over
			f.agents[1].HostName = "host-1"
		case 5:
			f.agents[2].HostName = "lost again" // though it was right before
		}
	}
	result, err := Verify(t.Context(), serve(t, f), s, Options{Settle: 100 * time.Millisecond})
	if !errors.Is(err, ErrDiffers) || !strings.Contains(result.First[0], "lost again") {
		t.Errorf("%+v, %v", result, err)
	}
	f.onAsk = nil
	f.agents[2].HostName = "host-2"
	if result, err = Verify(t.Context(), serve(t, f), s, Options{}); err != nil || result.Rounds != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestVacuous: nothing to look at is no pass.
func TestVacuous(t *testing.T) {
	for name, change := range map[string]func(*State){
		"no agents":      func(s *State) { s.Agents = nil },
		"no id":          func(s *State) { s.Agents[0].Id = "" },
		"twice":          func(s *State) { s.Agents[1] = s.Agents[0] },
		"no description": func(s *State) { s.Agents[0].Description = nil },
		"no config":      func(s *State) { s.Agents[0].EffectiveConfig = nil },
		"no presence":    func(s *State) { s.Agents[0].Presence = 0 },
	} {
		s := state(2)
		f := shows(s)
		change(&s)
		if result, err := Verify(t.Context(), serve(t, f), s, Options{}); !errors.Is(err, ErrVacuous) {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
	s := state(2)
	f := shows(s)
	s.Faults = map[string]int64{"drop": 0}
	if _, err := Verify(t.Context(), serve(t, f), s, Options{}); !errors.Is(err, ErrNoFaults) {
		t.Errorf("without faults: %v", err)
	}
	if _, err := Verify(t.Context(), serve(t, f), s, Options{AllowNoFaults: true}); err != nil {
		t.Errorf("without faults, as allowed: %v", err)
	}
}

// TestNoAPI: an API that does not answer shows nobody as they are.
func TestNoAPI(t *testing.T) {
	client, err := api.New(api.Access{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := Verify(t.Context(), client, state(2), Options{}); !errors.Is(err, ErrDiffers) || result.Differences < 2 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestState: a file is read as it was written, or not at all.
func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := state(3)
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
	read, err := Read(path)
	if err != nil || len(read.Agents) != 3 || read.Injected() != 3 || !proto.Equal(read.Agents[2], s.Agents[2]) {
		t.Errorf("%+v, %v", read, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
	for name, text := range map[string]string{
		"empty": "", "no header": lines[1], "a line less": strings.Join(lines[:3], ""), "half a line": string(whole[:len(whole)-10]),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if read, err := Read(path); err == nil {
			t.Errorf("%s: %+v", name, read)
		}
	}
}
