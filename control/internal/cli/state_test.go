// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

const (
	agentOne   = "01890000-0000-7000-8000-000000000001"
	agentTwo   = "01890000-0000-7000-8000-000000000002"
	agentEvil  = "01890000-0000-7000-8000-0000000000ee"
	groupEdge  = "01890000-0000-7000-8000-0000000000a1"
	groupBusy  = "01890000-0000-7000-8000-0000000000a3"
	groupGone  = "01890000-0000-7000-8000-0000000000a2"
	configEdge = "01890000-0000-7000-8000-0000000000c1"
	mintedID   = "01890000-0000-7000-8000-0000000000b1"
	poolWeb    = "01890000-0000-7000-8000-0000000000d1"
	// theSecret is what every minted token hides.
	theSecret = "the-secret"
	// evil is what an agent may call itself: it sets the terminal's title, goes up a line, turns the reading direction.
	evil = "web\x1b]0;owned\a\x1b[A\u202e\u009b31m\xff"
)

// state is the fleet behind the server of these tests.
type state struct {
	mu          sync.Mutex
	token       identity.Token
	agents      []*amporav1.Agent
	groups      []*amporav1.Group
	configs     []*amporav1.Config
	versions    []*amporav1.ConfigVersion
	bodies      map[int32][]byte
	assignments []*amporav1.Assignment
	// rolloutScript is what a watch of a rollout is told; nil breaks the connection. stalePlan makes plans stale.
	rolloutScript []*amporav1.WatchRolloutResponse
	stalePlan     bool
	tokens        []*amporav1.BootstrapToken
	pools         []*amporav1.TokenPool
	poolSecret    identity.Token // opens the first of them
	apiTokens     []*amporav1.ApiToken
	gateways      []*amporav1.Gateway
	joinTokens    []*amporav1.JoinToken
	events        []*amporav1.Event // oldest first
	audit         []*amporav1.AuditEvent
	watches       []watchScript
	watched       []string // the cursors that watches began at
	// onList runs at each listing of agents, to let the fleet change under a waiting command.
	onList func(call int)
	lists  int
	// failNext is answered to the next call that changes something.
	failNext error
}

// watchScript is one connection of a watch: it sends events (nil is a keep-alive), then ends with err, or hangs.
type watchScript struct {
	events []*amporav1.Event
	err    error
	hang   bool
}

func newState(token identity.Token) *state {
	now := time.Now()
	ago := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-d)) }
	in := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	s := &state{token: token, bodies: map[int32][]byte{}}
	s.agents = []*amporav1.Agent{
		{
			Id: agentOne, DisplayName: "otelcol@web-1", ServiceName: "otelcol", ServiceVersion: "0.149.0", HostName: "web-1",
			InstanceUid: "01890000-0000-7000-8000-00000000f001", EnrolledAt: ago(90 * time.Hour), GroupId: groupEdge, GroupName: "edge",
			Presence: amporav1.Presence_PRESENCE_ONLINE,
			Tags: map[string]*amporav1.Tag{
				"site": {Value: "berlin", Origin: amporav1.TagOrigin_TAG_ORIGIN_OPERATOR},
				"pool": {Value: "spot", Origin: amporav1.TagOrigin_TAG_ORIGIN_ENROLMENT},
			},
			Session: &amporav1.Session{
				GatewayId: "gw-a", Epoch: 7, Transport: amporav1.Transport_TRANSPORT_WEBSOCKET, Peer: "192.0.2.7:50000",
				ConnectedAt: ago(3 * time.Hour), LastSeenAt: ago(12 * time.Second),
			},
			Description: &amporav1.Description{
				Identifying:    []*amporav1.Attribute{{Key: "service.name", Value: structpb.NewStringValue("otelcol")}},
				NonIdentifying: []*amporav1.Attribute{{Key: "host.cpus", Value: structpb.NewNumberValue(8)}},
			},
			Capabilities: []string{"ReportsStatus", "AcceptsRemoteConfig"},
			Health: &amporav1.Health{
				Healthy: false, Status: "StatusRecoverableError", LastError: "exporter is down",
				Components: map[string]*amporav1.Health{
					"pipeline:traces":  {Healthy: false, LastError: "connection refused"},
					"pipeline:metrics": {Healthy: true},
				},
			},
			EffectiveConfig:    &amporav1.EffectiveConfig{Files: []*amporav1.ConfigFile{{Size: 8, ContentHash: strings.Repeat("ab", 32)}}},
			RemoteConfigStatus: &amporav1.RemoteConfigStatus{State: amporav1.ConfigState_CONFIG_STATE_APPLIED},
			ConfigDelivery: &amporav1.ConfigDelivery{
				State: amporav1.DeliveryState_DELIVERY_STATE_APPLIED, ConfigId: configEdge, ConfigName: "edge", Version: 1,
				AssignedThrough: "group", Since: ago(time.Hour),
			},
			Credential: &amporav1.Credential{Serial: "1f", NotAfter: in(300 * 24 * time.Hour), SpiffeId: "spiffe://example.org/tenant/default/agent/" + agentOne},
		},
		{
			Id: agentTwo, DisplayName: "otelcol@web-2", ServiceName: "otelcol", HostName: "web-2", GroupId: groupEdge, GroupName: "edge",
			Presence: amporav1.Presence_PRESENCE_OFFLINE, EnrolledAt: ago(time.Hour),
			Session:        &amporav1.Session{LastSeenAt: ago(50 * time.Minute), EndedAt: ago(49 * time.Minute), EndReason: "CLOSED"},
			ConfigDelivery: &amporav1.ConfigDelivery{State: amporav1.DeliveryState_DELIVERY_STATE_PENDING, ConfigId: configEdge, ConfigName: "edge", Version: 1, AssignedThrough: "group"},
		},
		{
			Id: agentEvil, DisplayName: strings.ToValidUTF8(evil, ""), HostName: "web-3", Presence: amporav1.Presence_PRESENCE_UNKNOWN,
			Attention:  []*amporav1.Attention{{Reason: "CONFIG_FAILED", Message: "it said \x1b[31mno", Since: ago(time.Minute)}},
			EnrolledAt: ago(time.Minute),
		},
	}
	s.groups = []*amporav1.Group{
		{Id: groupEdge, Name: "edge", Description: "the edge", MemberCount: 2, CreatedAt: ago(72 * time.Hour), Kind: amporav1.GroupKind_GROUP_KIND_STATIC},
		{
			Id: groupBusy, Name: "busy", CreatedAt: ago(2 * time.Hour), Kind: amporav1.GroupKind_GROUP_KIND_DYNAMIC, Priority: 7,
			Selector: `agent.claimed.labels["os"] == "linux"`, DefaultConfig: &amporav1.DefaultConfig{ConfigId: configEdge, ConfigName: "edge"}, DefaultOnClaims: true,
			MemberCount: 12, WaitingCount: 31, WaitingBecause: "more joined at once than one act may change; a rollout lets them in",
			FailingCount: 1, FailingSince: ago(time.Hour), Failure: "division by zero " + strings.ToValidUTF8(evil, ""),
		},
		{Id: groupGone, Name: "gone", CreatedAt: ago(80 * time.Hour), DeletedAt: ago(time.Hour), Kind: amporav1.GroupKind_GROUP_KIND_STATIC},
	}
	s.configs = []*amporav1.Config{{
		Id: configEdge, Name: "edge", Kind: amporav1.ConfigKind_CONFIG_KIND_COLLECTOR, CreatedAt: ago(72 * time.Hour), LatestPublished: 1, Latest: 2,
	}}
	s.add(configEdge, []byte("one: 1\n"), "first").State = amporav1.VersionState_VERSION_STATE_PUBLISHED
	s.add(configEdge, []byte("two: 2\x1b[2J\n"), "second")
	s.assignments = []*amporav1.Assignment{{
		Target:   &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: groupEdge}},
		ConfigId: configEdge, ConfigName: "edge", Version: 1, CreatedBy: "alice", CreatedAt: ago(time.Hour), Generation: 3,
	}, {
		Target:   &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: agentEvil}},
		ConfigId: configEdge, ConfigName: "edge", Version: 1, CreatedBy: "ampora", CreatedAt: ago(time.Hour), Generation: 1, Default: true,
	}}
	s.tokens = []*amporav1.BootstrapToken{{
		Id: mintedID, State: amporav1.TokenState_TOKEN_STATE_LIVE, CreatedBy: "alice", CreatedAt: ago(time.Hour), ExpiresAt: in(23 * time.Hour),
	}}
	s.apiTokens = []*amporav1.ApiToken{{
		Id: mintedID, Name: "ci", Role: amporav1.Role_ROLE_OPERATOR, State: amporav1.TokenState_TOKEN_STATE_EXPIRED,
		CreatedBy: "alice", CreatedAt: ago(100 * time.Hour), ExpiresAt: ago(10 * time.Hour),
	}}
	s.gateways = []*amporav1.Gateway{
		{
			Id: "edge-1", State: amporav1.GatewayState_GATEWAY_STATE_ONLINE, Sessions: 2, Version: "1.2.3", StartedAt: ago(3 * time.Hour),
			LeaseUntil: in(30 * time.Second), JoinedAt: ago(50 * time.Hour), Serial: "5e", NotAfter: in(29 * 24 * time.Hour),
		},
		{
			Id: "edge-2", State: amporav1.GatewayState_GATEWAY_STATE_ONLINE, BusLost: true, Shared: true, Version: strings.ToValidUTF8(evil, ""), StartedAt: ago(time.Hour),
			LeaseUntil: in(30 * time.Second), JoinedAt: ago(50 * time.Hour), Serial: "5f", NotAfter: in(29 * 24 * time.Hour),
		},
		{Id: "edge-3", State: amporav1.GatewayState_GATEWAY_STATE_JOINED, JoinedAt: ago(time.Minute), Serial: "60", NotAfter: in(30 * 24 * time.Hour)},
		{Id: "gateway", State: amporav1.GatewayState_GATEWAY_STATE_AWAY, Shared: true, StartedAt: ago(90 * time.Hour), LeaseUntil: ago(80 * time.Hour)},
	}
	s.poolSecret = identity.NewToken(identity.PoolToken)
	s.pools = []*amporav1.TokenPool{
		{
			Id: poolWeb, Name: "web", Description: "the web tier", GroupId: groupEdge, Ttl: durationpb.New(90 * time.Minute), LiveLimit: 50, PerHour: 200,
			Burst: 10, Live: 3, CreatedBy: "alice", CreatedAt: ago(50 * time.Hour), RotatedAt: ago(time.Hour), FormerSecretUntil: in(time.Hour),
		},
		{
			Id: "01890000-0000-7000-8000-0000000000d2", Name: "spot", Description: strings.ToValidUTF8(evil, ""), Ttl: durationpb.New(time.Hour), PerHour: 60, Burst: 10,
			Disabled: true, CreatedBy: "alice", CreatedAt: ago(50 * time.Hour), RotatedAt: ago(50 * time.Hour),
		},
	}
	s.joinTokens = []*amporav1.JoinToken{{
		Id: mintedID, GatewayId: "edge-1", State: amporav1.TokenState_TOKEN_STATE_REDEEMED, CreatedBy: "alice", CreatedAt: ago(51 * time.Hour),
		ExpiresAt: ago(27 * time.Hour), UsedAt: ago(50 * time.Hour),
	}}
	for i, kind := range []string{"agent.enrolled", "agent.connected", "config.published"} {
		s.events = append(s.events, happened(i+1, kind, agentOne))
	}
	s.events[2].AgentId = ""
	s.audit = []*amporav1.AuditEvent{{
		Id: mintedID, Time: ago(time.Minute), Actor: "alice", ActorKind: "api_token", Role: amporav1.Role_ROLE_ADMIN, Action: "group.create",
		EntityKind: "group", EntityId: groupEdge, SourceAddress: "192.0.2.1", Count: 1,
	}}
	return s
}

// happened makes the event with this number; its cursor is "c" and the number.
func happened(number int, kind, agent string) *amporav1.Event {
	return &amporav1.Event{
		Cursor: fmt.Sprintf("c%d", number), Kind: kind, AgentId: agent, Message: fmt.Sprintf("event %d", number),
		Time: timestamppb.New(time.Date(2000, 1, 1, 0, 0, number, 0, time.UTC)),
	}
}

func (s *state) add(config string, body []byte, note string) *amporav1.ConfigVersion {
	hash := sha256.Sum256(body)
	version := &amporav1.ConfigVersion{
		ConfigId: config, Version: int32(len(s.versions) + 1), State: amporav1.VersionState_VERSION_STATE_DRAFT, Revision: 1,
		ContentHash: hex.EncodeToString(hash[:]), OfferHash: hex.EncodeToString(hash[:]), Size: int64(len(body)), Note: note,
		CreatedBy: "alice", CreatedAt: timestamppb.Now(),
	}
	s.versions, s.bodies[version.GetVersion()] = append(s.versions, version), body
	return version
}

// change begins a call that changes something, and fails it if that was asked for.
func (s *state) change() (unlock func(), err error) {
	s.mu.Lock()
	err, s.failNext = s.failNext, nil
	return s.mu.Unlock, err
}

func notFound(what string) error {
	return refuse(connect.CodeNotFound, "NOT_FOUND", "there is no such "+what, nil)
}

func find[T interface{ GetId() string }](list []T, is func(T) bool, what string) (T, error) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], nil
	}
	var none T
	return none, notFound(what)
}

type agentServer struct{ *state }

func (s agentServer) ListAgents(_ context.Context, r *amporav1.ListAgentsRequest) (*amporav1.ListAgentsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lists++; s.onList != nil {
		s.onList(s.lists)
	}
	f := r.GetFilter()
	var chosen []*amporav1.Agent
	for _, agent := range s.agents {
		if (f.GetGroupId() == "" || f.GetGroupId() == agent.GetGroupId()) &&
			(f.GetPresence() == 0 || f.GetPresence() == agent.GetPresence()) &&
			(strings.HasPrefix(agent.GetHostName(), f.GetNamePrefix()) || strings.HasPrefix(agent.GetServiceName(), f.GetNamePrefix())) {
			chosen = append(chosen, agent)
		}
	}
	page, next := paged(chosen, r.GetPageToken())
	return &amporav1.ListAgentsResponse{Agents: page, NextPageToken: next}, nil
}

func (s agentServer) CountAgents(_ context.Context, r *amporav1.CountAgentsRequest) (*amporav1.CountAgentsResponse, error) {
	return &amporav1.CountAgentsResponse{Count: 10_000, More: r.GetFilter().GetPresence() == 0}, nil
}

func (s agentServer) ListAgentHistory(_ context.Context, r *amporav1.ListAgentHistoryRequest) (*amporav1.ListAgentHistoryResponse, error) {
	at := timestamppb.New(time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC))
	all := []*amporav1.HistoryEntry{
		{Time: at, Kind: amporav1.HistoryKind_HISTORY_KIND_HEALTH, Event: "agent.health_changed", Message: "unhealthy: it said \x1b[31mno"},
		{Time: at, Kind: amporav1.HistoryKind_HISTORY_KIND_CONNECTION, Event: "agent.connected", Message: "connected at gateway gw-a"},
	}
	kinds := r.GetKinds()
	return &amporav1.ListAgentHistoryResponse{Entries: slices.DeleteFunc(all, func(e *amporav1.HistoryEntry) bool {
		return len(kinds) > 0 && !slices.Contains(kinds, e.GetKind())
	})}, nil
}

func (s agentServer) agent(id string) (*amporav1.Agent, error) {
	return find(s.agents, func(a *amporav1.Agent) bool { return a.GetId() == id }, "agent")
}

func (s agentServer) GetAgent(_ context.Context, r *amporav1.GetAgentRequest) (*amporav1.GetAgentResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	agent, err := s.agent(r.GetId())
	return &amporav1.GetAgentResponse{Agent: agent}, err
}

func (s agentServer) GetEffectiveConfig(_ context.Context, r *amporav1.GetEffectiveConfigRequest) (*amporav1.GetEffectiveConfigResponse, error) {
	file := func(name, body string) *amporav1.GetEffectiveConfigResponse_File {
		return &amporav1.GetEffectiveConfigResponse_File{File: &amporav1.ConfigFile{Name: name, Size: int64(len(body))}, Body: []byte(body)}
	}
	switch r.GetId() {
	case agentOne:
		return &amporav1.GetEffectiveConfigResponse{Files: []*amporav1.GetEffectiveConfigResponse_File{file("", "a: \x1b[1m\n\x00")}}, nil
	case agentTwo:
		return &amporav1.GetEffectiveConfigResponse{Files: []*amporav1.GetEffectiveConfigResponse_File{file("", "a: 1\n"), file("raw", "b: 2\n")}}, nil
	default:
		return nil, notFound("agent")
	}
}

func (s agentServer) RetryConfig(context.Context, *amporav1.RetryConfigRequest) (*amporav1.RetryConfigResponse, error) {
	return &amporav1.RetryConfigResponse{Cleared: 1}, nil
}

func (s agentServer) AllowChildren(_ context.Context, r *amporav1.AllowChildrenRequest) (*amporav1.AllowChildrenResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	agent, err := s.agent(r.GetId())
	if err == nil {
		agent.MaxChildren = r.GetMaxChildren()
	}
	return &amporav1.AllowChildrenResponse{Agent: agent}, err
}

func (s agentServer) ReleaseQuarantine(_ context.Context, r *amporav1.ReleaseQuarantineRequest) (*amporav1.ReleaseQuarantineResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	agent, err := s.agent(r.GetId())
	if err == nil {
		agent.Attention = nil
	}
	return &amporav1.ReleaseQuarantineResponse{Agent: agent}, err
}

type groupServer struct{ *state }

func (s groupServer) group(ref string) (*amporav1.Group, error) {
	return find(s.groups, func(g *amporav1.Group) bool {
		return g.GetId() == ref || g.GetName() == ref && g.GetDeletedAt() == nil
	}, "group")
}

func (s groupServer) CreateGroup(_ context.Context, r *amporav1.CreateGroupRequest) (*amporav1.CreateGroupResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	if _, err := s.group(r.GetName()); err == nil {
		return nil, refuse(connect.CodeAlreadyExists, "ALREADY_EXISTS", "a group has this name already", nil)
	}
	group := &amporav1.Group{
		Id: mintedID, Name: r.GetName(), Description: r.GetDescription(), CreatedAt: timestamppb.Now(), Kind: amporav1.GroupKind_GROUP_KIND_STATIC,
		Selector: r.GetSelector(), Priority: r.GetPriority(), DefaultConfig: r.GetDefaultConfig(), DefaultOnClaims: r.GetDefaultOnClaims(),
	}
	if group.GetDefaultConfig() != nil {
		group.DefaultConfig.ConfigName = "edge"
	}
	if group.GetSelector() != "" {
		group.Kind = amporav1.GroupKind_GROUP_KIND_DYNAMIC
	}
	s.groups = append(s.groups, group)
	return &amporav1.CreateGroupResponse{Group: group}, nil
}

func (s groupServer) UpdateGroup(_ context.Context, r *amporav1.UpdateGroupRequest) (*amporav1.UpdateGroupResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	group, err := s.group(r.GetId())
	if err != nil {
		return nil, err
	}
	if r.Selector != nil {
		group.Selector = r.GetSelector()
	}
	if r.GetDefaultConfig() != nil {
		group.DefaultConfig = &amporav1.DefaultConfig{ConfigId: r.GetDefaultConfig().GetConfigId(), ConfigName: "edge", Version: r.GetDefaultConfig().GetVersion()}
	}
	if group.GetDefaultConfig().GetConfigId() == "" {
		group.DefaultConfig = nil
	}
	return &amporav1.UpdateGroupResponse{Group: group}, nil
}

func (s groupServer) PreviewSelector(_ context.Context, r *amporav1.PreviewSelectorRequest) (*amporav1.PreviewSelectorResponse, error) {
	if r.GetSelector() == "true&&" {
		return nil, refuse(connect.CodeInvalidArgument, "EXPRESSION_INVALID", "the expression is not valid: line 1, column 7: Syntax error",
			map[string]string{"line": "1", "column": "7"})
	}
	return &amporav1.PreviewSelectorResponse{
		Agents: 100_000, Matched: 4182, Members: 1, Explicit: 2, Elsewhere: 3, Joining: 4176,
		Left:         []*amporav1.LeftGroup{{GroupId: groupGone, GroupName: strings.ToValidUTF8(evil, ""), Agents: 4000}, {Agents: 176}},
		FailingCount: 1, Failure: "division by zero",
		Sample: []*amporav1.MatchedAgent{{Id: agentOne, DisplayName: "otelcol@web-1", GroupId: groupEdge, GroupName: "edge"}, {Id: agentEvil, DisplayName: strings.ToValidUTF8(evil, "")}},
	}, nil
}

func (s groupServer) ListLabels(_ context.Context, r *amporav1.ListLabelsRequest) (*amporav1.ListLabelsResponse, error) {
	switch {
	case r.GetKind() == amporav1.LabelKind_LABEL_KIND_TAG:
		return &amporav1.ListLabelsResponse{Labels: []*amporav1.LabelUse{{Text: "site", Agents: 2}}}, nil
	case r.GetKey() != "":
		return &amporav1.ListLabelsResponse{Labels: []*amporav1.LabelUse{{Text: "linux", Agents: 2}, {Text: strings.ToValidUTF8(evil, ""), Agents: 1}}}, nil
	default:
		return &amporav1.ListLabelsResponse{Labels: []*amporav1.LabelUse{{Text: "os.type", Agents: 3}}}, nil
	}
}

func (s groupServer) GetGroup(_ context.Context, r *amporav1.GetGroupRequest) (*amporav1.GetGroupResponse, error) {
	group, err := s.group(r.GetGroup())
	return &amporav1.GetGroupResponse{Group: group}, err
}

func (s groupServer) ListGroups(_ context.Context, r *amporav1.ListGroupsRequest) (*amporav1.ListGroupsResponse, error) {
	var shown []*amporav1.Group
	for _, group := range s.groups {
		if group.GetDeletedAt() == nil || r.GetShowDeleted() {
			shown = append(shown, group)
		}
	}
	page, next := paged(shown, r.GetPageToken())
	return &amporav1.ListGroupsResponse{Groups: page, NextPageToken: next}, nil
}

func (s groupServer) DeleteGroup(_ context.Context, r *amporav1.DeleteGroupRequest) (*amporav1.DeleteGroupResponse, error) {
	group, err := s.group(r.GetId())
	if err == nil {
		group.DeletedAt = timestamppb.Now()
	}
	return &amporav1.DeleteGroupResponse{}, err
}

func (s groupServer) UndeleteGroup(_ context.Context, r *amporav1.UndeleteGroupRequest) (*amporav1.UndeleteGroupResponse, error) {
	group, err := s.group(r.GetId())
	if err == nil {
		group.DeletedAt = nil
	}
	return &amporav1.UndeleteGroupResponse{Group: group}, err
}

func (s groupServer) AddGroupMembers(_ context.Context, r *amporav1.AddGroupMembersRequest) (*amporav1.AddGroupMembersResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	group, err := s.group(r.GetId())
	group.MemberCount += int32(len(r.GetAgentIds()))
	return &amporav1.AddGroupMembersResponse{Group: group}, err
}

func (s groupServer) RemoveGroupMembers(_ context.Context, r *amporav1.RemoveGroupMembersRequest) (*amporav1.RemoveGroupMembersResponse, error) {
	group, err := s.group(r.GetId())
	group.MemberCount -= int32(len(r.GetAgentIds()))
	return &amporav1.RemoveGroupMembersResponse{Group: group}, err
}

type configServer struct{ *state }

func (s configServer) config(ref string) (*amporav1.Config, error) {
	return find(s.configs, func(c *amporav1.Config) bool { return c.GetId() == ref || c.GetName() == ref }, "configuration")
}

func (s configServer) version(n int32) (*amporav1.ConfigVersion, error) {
	if int(n) > len(s.versions) {
		return nil, notFound("version")
	}
	return s.versions[n-1], nil
}

func (s configServer) CreateConfig(_ context.Context, r *amporav1.CreateConfigRequest) (*amporav1.CreateConfigResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	config := &amporav1.Config{Id: mintedID, Name: r.GetName(), Kind: max(r.GetKind(), 1), Description: r.GetDescription(), CreatedAt: timestamppb.Now()}
	s.configs = append(s.configs, config)
	answer := &amporav1.CreateConfigResponse{Config: config}
	if r.Body != nil {
		answer.Version = s.add(config.GetId(), r.GetBody(), r.GetNote())
		config.Latest = answer.GetVersion().GetVersion()
	}
	return answer, nil
}

func (s configServer) GetConfig(_ context.Context, r *amporav1.GetConfigRequest) (*amporav1.GetConfigResponse, error) {
	config, err := s.config(r.GetConfig())
	return &amporav1.GetConfigResponse{Config: config}, err
}

func (s configServer) ListConfigs(_ context.Context, r *amporav1.ListConfigsRequest) (*amporav1.ListConfigsResponse, error) {
	named := slices.DeleteFunc(slices.Clone(s.configs), func(c *amporav1.Config) bool { return !strings.HasPrefix(c.GetName(), r.GetNamePrefix()) })
	page, next := paged(named, r.GetPageToken())
	return &amporav1.ListConfigsResponse{Configs: page, NextPageToken: next}, nil
}

func (s configServer) CheckConfig(_ context.Context, r *amporav1.CheckConfigRequest) (*amporav1.CheckConfigResponse, error) {
	answer := &amporav1.CheckConfigResponse{Publishable: true}
	if strings.Contains(string(r.GetSource().GetBody()), "missing") {
		answer.Publishable = false
		answer.Findings = []*amporav1.ConfigFinding{{
			Rule: "undefined-component", Severity: amporav1.FindingSeverity_FINDING_SEVERITY_ERROR, Path: "service::pipelines::traces::exporters::0",
			Line: 3, Column: 5, Message: "the exporter \"missing\" is not defined", Fix: "Define it.",
		}}
	}
	if r.GetAudience().GetAll() {
		answer.Builds = []*amporav1.BuildVerdict{
			{ServiceName: "otelcol", ServiceVersion: "0.149.0", Agents: 9812, ExampleAgentId: mintedID, Known: true, Collector: &amporav1.CollectorVerdict{
				Outcome: amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN, Findings: []*amporav1.ConfigFinding{{
					Rule: "collector-validate", Severity: amporav1.FindingSeverity_FINDING_SEVERITY_INFO, Path: "exporters::otlp", Line: 7, Column: 3,
					Message: "cannot be known, for there is a placeholder in its place: \"x\" is no address\x1b[2J",
				}},
			}},
			{ServiceName: "otelcol", ServiceVersion: "0.140.0", Agents: 188, ExampleAgentId: mintedID, Known: true, Missing: []*amporav1.ConfigFinding{
				{Rule: "missing-component", Path: "processors::filter"}, {Rule: "missing-component", Path: "processors::transform"},
			}, Collector: &amporav1.CollectorVerdict{
				Outcome: amporav1.CollectorOutcome_COLLECTOR_OUTCOME_NOT_ASKED, Why: "the validator does not have this build",
			}},
			{Agents: 3, ExampleAgentId: mintedID},
		}
		answer.ValidAgents, answer.InvalidAgents, answer.UnknownAgents = 9812, 188, 3
	}
	return answer, nil
}

func (s configServer) CompareConfigs(_ context.Context, r *amporav1.CompareConfigsRequest) (*amporav1.CompareConfigsResponse, error) {
	if proto.Equal(r.GetFrom(), r.GetTo()) {
		return &amporav1.CompareConfigsResponse{SameBytes: true}, nil
	}
	return &amporav1.CompareConfigsResponse{Changes: []*amporav1.ConfigChange{
		{Kind: "member_moved", Path: "service::pipelines::metrics::processors::batch", Sentence: `the processor "batch" moves from the pipeline "traces" to the pipeline "metrics"`},
		{Kind: "component_removed", Path: "exporters::debug", Before: "{}", Sentence: `the exporter "debug" is removed`},
	}}, nil
}

func (s configServer) DiffConfigTexts(_ context.Context, r *amporav1.DiffConfigTextsRequest) (*amporav1.DiffConfigTextsResponse, error) {
	if proto.Equal(r.GetFrom(), r.GetTo()) {
		return &amporav1.DiffConfigTextsResponse{}, nil
	}
	return &amporav1.DiffConfigTextsResponse{Unified: "--- edge@1\n+++ edge@2\n@@ -1 +1 @@\n-one: 1\n+two: 2\x1b[2J\n"}, nil
}

type configRuleServer struct{ *state }

func (s configRuleServer) ListConfigRules(context.Context, *amporav1.ListConfigRulesRequest) (*amporav1.ListConfigRulesResponse, error) {
	return &amporav1.ListConfigRulesResponse{Rules: []*amporav1.ConfigRule{{
		Id: "no-debug", Severity: amporav1.FindingSeverity_FINDING_SEVERITY_ERROR, Expression: `"debug" in config.exporters`, Message: "debug is for laptops",
		ChangedBy: "alice", ChangedAt: timestamppb.Now(),
	}}}, nil
}

func (s configRuleServer) PutConfigRule(_ context.Context, r *amporav1.PutConfigRuleRequest) (*amporav1.PutConfigRuleResponse, error) {
	if strings.Contains(r.GetRule().GetExpression(), "(") {
		return nil, refuse(connect.CodeInvalidArgument, "EXPRESSION_INVALID", "line 1, column 5: Syntax error", map[string]string{"line": "1", "column": "5"})
	}
	rule := proto.CloneOf(r.GetRule())
	rule.ChangedBy, rule.ChangedAt = "alice", timestamppb.Now()
	return &amporav1.PutConfigRuleResponse{Rule: rule}, nil
}

func (s configRuleServer) DeleteConfigRule(_ context.Context, r *amporav1.DeleteConfigRuleRequest) (*amporav1.DeleteConfigRuleResponse, error) {
	if r.GetId() != "no-debug" {
		return nil, notFound("rule")
	}
	return &amporav1.DeleteConfigRuleResponse{}, nil
}

type driftServer struct{ *state }

func (s driftServer) GetDrift(context.Context, *amporav1.GetDriftRequest) (*amporav1.GetDriftResponse, error) {
	return &amporav1.GetDriftResponse{Drift: &amporav1.Drift{
		State: amporav1.DriftState_DRIFT_STATE_DRIFTED, Changes: 2, Summary: []string{"one", "two"}, Since: timestamppb.Now(), ComparedAt: timestamppb.Now(),
	}}, nil
}

func (s driftServer) CountDrift(_ context.Context, r *amporav1.CountDriftRequest) (*amporav1.CountDriftResponse, error) {
	agents := int64(3)
	if r.GetGroupId() != "" {
		agents = 1
	}
	return &amporav1.CountDriftResponse{Counts: []*amporav1.CountDriftResponse_Count{
		{State: amporav1.DriftState_DRIFT_STATE_NONE},
		{State: amporav1.DriftState_DRIFT_STATE_UNKNOWN},
		{State: amporav1.DriftState_DRIFT_STATE_IN_SYNC, Agents: 100_000},
		{State: amporav1.DriftState_DRIFT_STATE_DRIFTED, Agents: agents},
	}}, nil
}

func (s configServer) RenderConfig(_ context.Context, r *amporav1.RenderConfigRequest) (*amporav1.RenderConfigResponse, error) {
	body := r.GetSource().GetBody()
	if v := r.GetSource().GetVersion(); v != nil {
		body = s.bodies[v.GetVersion()]
	}
	if bytes.Contains(body, []byte("${ampora:tag:none}")) {
		return nil, refuse(connect.CodeInvalidArgument, "TEMPLATE_VALUE", `the tag "none" is not known of the agent, and there is no default`, nil)
	}
	return &amporav1.RenderConfigResponse{Body: bytes.ReplaceAll(body, []byte("${ampora:agent:id}"), []byte(r.GetAgentId()))}, nil
}

func (s configServer) ImportConfig(_ context.Context, r *amporav1.ImportConfigRequest) (*amporav1.ImportConfigResponse, error) {
	if r.GetName() == "" {
		return nil, refuse(connect.CodeInvalidArgument, "CONFIG_UNNAMED", "say the name, or let the first line say it", nil)
	}
	config, err := s.config(r.GetName())
	if err != nil {
		return nil, err
	}
	newest := s.versions[len(s.versions)-1]
	if bytes.Equal(s.bodies[newest.GetVersion()], r.GetBody()) {
		return &amporav1.ImportConfigResponse{Config: config, Version: newest, Unchanged: true}, nil
	}
	return &amporav1.ImportConfigResponse{Config: config, Version: s.add(config.GetId(), r.GetBody(), r.GetNote())}, nil
}

func (s configServer) RestoreConfigVersion(_ context.Context, r *amporav1.RestoreConfigVersionRequest) (*amporav1.RestoreConfigVersionResponse, error) {
	version, err := s.version(r.GetVersion())
	if err != nil {
		return nil, err
	}
	restored := s.add(r.GetConfigId(), s.bodies[version.GetVersion()], r.GetNote())
	restored.RestoredFrom = version.GetVersion()
	return &amporav1.RestoreConfigVersionResponse{Version: restored}, nil
}

func (s configServer) UnarchiveConfigVersion(_ context.Context, r *amporav1.UnarchiveConfigVersionRequest) (*amporav1.UnarchiveConfigVersionResponse, error) {
	version, err := s.version(r.GetVersion())
	switch {
	case err != nil:
		return nil, err
	case version.GetState() != amporav1.VersionState_VERSION_STATE_ARCHIVED:
		return nil, refuse(connect.CodeFailedPrecondition, "WRONG_STATE", "its state does not allow this", nil)
	}
	version.State = amporav1.VersionState_VERSION_STATE_PUBLISHED
	return &amporav1.UnarchiveConfigVersionResponse{Version: version}, nil
}

func (s configServer) CreateConfigVersion(_ context.Context, r *amporav1.CreateConfigVersionRequest) (*amporav1.CreateConfigVersionResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	return &amporav1.CreateConfigVersionResponse{Version: s.add(r.GetConfigId(), r.GetBody(), r.GetNote())}, nil
}

func (s configServer) UpdateConfigVersion(_ context.Context, r *amporav1.UpdateConfigVersionRequest) (*amporav1.UpdateConfigVersionResponse, error) {
	version, err := s.version(r.GetVersion())
	if err != nil {
		return nil, err
	}
	if version.GetRevision() != r.GetRevision() {
		return nil, refuse(connect.CodeAborted, "DRAFT_CHANGED", "revision 9 of the draft is not the last", map[string]string{"revision": fmt.Sprint(version.GetRevision())})
	}
	version.Revision++
	version.Note = r.GetNote()
	s.bodies[r.GetVersion()] = r.GetBody()
	return &amporav1.UpdateConfigVersionResponse{Version: version}, nil
}

func (s configServer) ListConfigVersions(_ context.Context, r *amporav1.ListConfigVersionsRequest) (*amporav1.ListConfigVersionsResponse, error) {
	newest := slices.DeleteFunc(slices.Clone(s.versions), func(v *amporav1.ConfigVersion) bool {
		return r.GetState() != 0 && v.GetState() != r.GetState()
	})
	slices.Reverse(newest)
	page, next := paged(newest, r.GetPageToken())
	return &amporav1.ListConfigVersionsResponse{Versions: page, NextPageToken: next}, nil
}

func (s configServer) GetConfigVersionBody(_ context.Context, r *amporav1.GetConfigVersionBodyRequest) (*amporav1.GetConfigVersionBodyResponse, error) {
	version, err := s.version(r.GetVersion())
	return &amporav1.GetConfigVersionBodyResponse{Version: version, Body: s.bodies[r.GetVersion()]}, err
}

func (s configServer) PublishConfigVersion(_ context.Context, r *amporav1.PublishConfigVersionRequest) (*amporav1.PublishConfigVersionResponse, error) {
	version, err := s.version(r.GetVersion())
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(string(s.bodies[r.GetVersion()]), "missing") && len(r.GetWaive()) == 0:
		return nil, refuse(connect.CodeInvalidArgument, "CONFIG_REFUSED", "line 3: the exporter \"missing\" is not defined", map[string]string{"rules": "undefined-component"})
	case version.GetState() != amporav1.VersionState_VERSION_STATE_DRAFT:
		return nil, refuse(connect.CodeFailedPrecondition, "WRONG_STATE", "only a draft can be published", nil)
	case r.GetRevision() != 0 && r.GetRevision() != version.GetRevision():
		return nil, refuse(connect.CodeAborted, "DRAFT_CHANGED", "revision 9 of the draft is not the last", nil)
	}
	version.State = amporav1.VersionState_VERSION_STATE_PUBLISHED
	return &amporav1.PublishConfigVersionResponse{Version: version}, nil
}

func (s configServer) ArchiveConfigVersion(_ context.Context, r *amporav1.ArchiveConfigVersionRequest) (*amporav1.ArchiveConfigVersionResponse, error) {
	version, err := s.version(r.GetVersion())
	if err == nil {
		version.State = amporav1.VersionState_VERSION_STATE_ARCHIVED
	}
	return &amporav1.ArchiveConfigVersionResponse{Version: version}, err
}

type assignmentServer struct{ *state }

func (s assignmentServer) Assign(_ context.Context, r *amporav1.AssignRequest) (*amporav1.AssignResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	assignment := &amporav1.Assignment{
		Target: r.GetTarget(), ConfigId: r.GetConfigId(), ConfigName: "edge", Version: max(r.GetVersion(), 1),
		CreatedAt: timestamppb.Now(), Generation: 4,
	}
	return &amporav1.AssignResponse{Assignment: assignment, Agents: 2}, nil
}

func (s assignmentServer) Unassign(context.Context, *amporav1.UnassignRequest) (*amporav1.UnassignResponse, error) {
	return &amporav1.UnassignResponse{}, nil
}

func (s assignmentServer) ListAssignments(_ context.Context, r *amporav1.ListAssignmentsRequest) (*amporav1.ListAssignmentsResponse, error) {
	page, next := paged(s.assignments, r.GetPageToken())
	return &amporav1.ListAssignmentsResponse{Assignments: page, NextPageToken: next}, nil
}

type tokenServer struct{ *state }

func (s tokenServer) IssueBootstrapToken(_ context.Context, r *amporav1.IssueBootstrapTokenRequest) (*amporav1.IssueBootstrapTokenResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	ttl := 24 * time.Hour
	if r.GetTtl() != nil {
		ttl = r.GetTtl().AsDuration()
	}
	token := &amporav1.BootstrapToken{
		Tags: r.GetTags(), Id: mintedID, Description: r.GetDescription(), GroupId: r.GetGroupId(), ForAgentId: r.GetAgentId(), Replace: r.GetReplace(), State: amporav1.TokenState_TOKEN_STATE_LIVE,
		CreatedAt: timestamppb.Now(), ExpiresAt: timestamppb.New(time.Now().Add(ttl)),
	}
	s.tokens = append(s.tokens, token)
	return &amporav1.IssueBootstrapTokenResponse{Token: token, Secret: "amp-bs." + theSecret}, nil
}

func (s tokenServer) ListBootstrapTokens(_ context.Context, r *amporav1.ListBootstrapTokensRequest) (*amporav1.ListBootstrapTokensResponse, error) {
	page, next := paged(s.tokens, r.GetPageToken())
	return &amporav1.ListBootstrapTokensResponse{Tokens: page, NextPageToken: next}, nil
}

func (s tokenServer) RevokeBootstrapToken(_ context.Context, r *amporav1.RevokeBootstrapTokenRequest) (*amporav1.RevokeBootstrapTokenResponse, error) {
	token, err := find(s.tokens, func(t *amporav1.BootstrapToken) bool { return t.GetId() == r.GetId() }, "token")
	if err == nil {
		token.State = amporav1.TokenState_TOKEN_STATE_REVOKED
	}
	return &amporav1.RevokeBootstrapTokenResponse{Token: token}, err
}

type certificateServer struct {
	amporav1connect.UnimplementedCertificateServiceHandler
	*state
}

func (s certificateServer) OfferCertificate(context.Context, *amporav1.OfferCertificateRequest) (*amporav1.OfferCertificateResponse, error) {
	unlock, err := s.change()
	defer unlock()
	return &amporav1.OfferCertificateResponse{Forgotten: 3}, err
}

type apiTokenServer struct{ *state }

func (s apiTokenServer) CreateApiToken(_ context.Context, r *amporav1.CreateApiTokenRequest) (*amporav1.CreateApiTokenResponse, error) {
	token := &amporav1.ApiToken{
		Id: mintedID, Name: r.GetName(), Role: r.GetRole(), State: amporav1.TokenState_TOKEN_STATE_LIVE, Procedures: r.GetProcedures(),
		CreatedAt: timestamppb.Now(), ExpiresAt: timestamppb.New(time.Now().Add(90 * 24 * time.Hour)),
	}
	return &amporav1.CreateApiTokenResponse{Token: token, Secret: "amp-pat." + theSecret}, nil
}

func (s apiTokenServer) ListApiTokens(_ context.Context, r *amporav1.ListApiTokensRequest) (*amporav1.ListApiTokensResponse, error) {
	page, next := paged(s.apiTokens, r.GetPageToken())
	return &amporav1.ListApiTokensResponse{Tokens: page, NextPageToken: next}, nil
}

func (s apiTokenServer) RevokeApiToken(_ context.Context, r *amporav1.RevokeApiTokenRequest) (*amporav1.RevokeApiTokenResponse, error) {
	token, err := find(s.apiTokens, func(t *amporav1.ApiToken) bool { return t.GetId() == r.GetId() }, "token")
	if err == nil {
		token.State = amporav1.TokenState_TOKEN_STATE_REVOKED
	}
	return &amporav1.RevokeApiTokenResponse{Token: token}, err
}

type gatewayServer struct{ *state }

func (s gatewayServer) ListGateways(_ context.Context, r *amporav1.ListGatewaysRequest) (*amporav1.ListGatewaysResponse, error) {
	page, next := paged(s.gateways, r.GetPageToken())
	return &amporav1.ListGatewaysResponse{Gateways: page, NextPageToken: next}, nil
}

func (s gatewayServer) gateway(id string) (*amporav1.Gateway, error) {
	return find(s.gateways, func(g *amporav1.Gateway) bool { return g.GetId() == id }, "gateway")
}

func (s gatewayServer) GetGateway(_ context.Context, r *amporav1.GetGatewayRequest) (*amporav1.GetGatewayResponse, error) {
	g, err := s.gateway(r.GetId())
	return &amporav1.GetGatewayResponse{Gateway: g}, err
}

func (s gatewayServer) RevokeGateway(_ context.Context, r *amporav1.RevokeGatewayRequest) (*amporav1.RevokeGatewayResponse, error) {
	g, err := s.gateway(r.GetId())
	switch {
	case err != nil:
		return nil, err
	case g.GetShared():
		return nil, refuse(connect.CodePermissionDenied, "GATEWAY_SHARED", "it serves other tenants", nil)
	}
	g.State, g.Sessions, g.RevokedAt = amporav1.GatewayState_GATEWAY_STATE_REVOKED, 0, timestamppb.Now()
	return &amporav1.RevokeGatewayResponse{Gateway: g}, nil
}

type joinTokenServer struct{ *state }

func (s joinTokenServer) IssueJoinToken(_ context.Context, r *amporav1.IssueJoinTokenRequest) (*amporav1.IssueJoinTokenResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	ttl := 24 * time.Hour
	if r.GetTtl() != nil {
		ttl = r.GetTtl().AsDuration()
	}
	token := &amporav1.JoinToken{
		Id: mintedID, GatewayId: r.GetGatewayId(), State: amporav1.TokenState_TOKEN_STATE_LIVE,
		CreatedAt: timestamppb.Now(), ExpiresAt: timestamppb.New(time.Now().Add(ttl)),
	}
	s.joinTokens = append(s.joinTokens, token)
	return &amporav1.IssueJoinTokenResponse{Token: token, Secret: "amp-gw." + theSecret, ControlCaPem: []byte("PEM\n")}, nil
}

func (s joinTokenServer) ListJoinTokens(_ context.Context, r *amporav1.ListJoinTokensRequest) (*amporav1.ListJoinTokensResponse, error) {
	page, next := paged(s.joinTokens, r.GetPageToken())
	return &amporav1.ListJoinTokensResponse{Tokens: page, NextPageToken: next}, nil
}

func (s joinTokenServer) RevokeJoinToken(_ context.Context, r *amporav1.RevokeJoinTokenRequest) (*amporav1.RevokeJoinTokenResponse, error) {
	token, err := find(s.joinTokens, func(t *amporav1.JoinToken) bool { return t.GetId() == r.GetId() }, "token")
	if err == nil {
		token.State = amporav1.TokenState_TOKEN_STATE_REVOKED
	}
	return &amporav1.RevokeJoinTokenResponse{Token: token}, err
}

type tokenPoolServer struct{ *state }

func (s tokenPoolServer) CreateTokenPool(_ context.Context, r *amporav1.CreateTokenPoolRequest) (*amporav1.CreateTokenPoolResponse, error) {
	pool := &amporav1.TokenPool{
		Tags: r.GetTags(),
		Id:   mintedID, Name: r.GetName(), Description: r.GetDescription(), GroupId: r.GetGroupId(), Ttl: r.GetTtl(), LiveLimit: r.GetLiveLimit(),
		PerHour: r.GetPerHour(), Burst: r.GetBurst(), CreatedAt: timestamppb.Now(), RotatedAt: timestamppb.Now(),
	}
	return &amporav1.CreateTokenPoolResponse{Pool: pool, Secret: "amp-pool." + theSecret}, nil
}

func (s tokenPoolServer) ListTokenPools(_ context.Context, r *amporav1.ListTokenPoolsRequest) (*amporav1.ListTokenPoolsResponse, error) {
	page, next := paged(s.pools, r.GetPageToken())
	return &amporav1.ListTokenPoolsResponse{Pools: page, NextPageToken: next}, nil
}

func (s tokenPoolServer) pool(ref string) (*amporav1.TokenPool, error) {
	return find(s.pools, func(p *amporav1.TokenPool) bool { return p.GetId() == ref || p.GetName() == ref }, "pool")
}

func (s tokenPoolServer) GetTokenPool(_ context.Context, r *amporav1.GetTokenPoolRequest) (*amporav1.GetTokenPoolResponse, error) {
	pool, err := s.pool(r.GetPool())
	return &amporav1.GetTokenPoolResponse{Pool: pool}, err
}

func (s tokenPoolServer) UpdateTokenPool(_ context.Context, r *amporav1.UpdateTokenPoolRequest) (*amporav1.UpdateTokenPoolResponse, error) {
	pool, err := s.pool(r.GetId())
	if err != nil {
		return nil, err
	}
	if r.PerHour != nil {
		pool.PerHour = r.GetPerHour()
	}
	if r.GroupId != nil {
		pool.GroupId = r.GetGroupId()
	}
	if r.GetTags() != nil {
		pool.Tags = r.GetTags().GetTags()
	}
	if r.Disabled != nil {
		pool.Disabled = r.GetDisabled()
	}
	return &amporav1.UpdateTokenPoolResponse{Pool: pool}, nil
}

func (s tokenPoolServer) RotateTokenPoolSecret(_ context.Context, r *amporav1.RotateTokenPoolSecretRequest) (*amporav1.RotateTokenPoolSecretResponse, error) {
	pool, err := s.pool(r.GetId())
	if err != nil {
		return nil, err
	}
	pool.FormerSecretUntil = nil
	if overlap := r.GetOverlap().AsDuration(); overlap > 0 {
		pool.FormerSecretUntil = timestamppb.New(time.Now().Add(overlap))
	}
	return &amporav1.RotateTokenPoolSecretResponse{Pool: pool, Secret: "amp-pool." + theSecret}, nil
}

func (s tokenPoolServer) DeleteTokenPool(_ context.Context, r *amporav1.DeleteTokenPoolRequest) (*amporav1.DeleteTokenPoolResponse, error) {
	pool, err := s.pool(r.GetId())
	return &amporav1.DeleteTokenPoolResponse{RevokedTokens: pool.GetLive()}, err
}

func (s tokenPoolServer) DrawToken(_ context.Context, r *amporav1.DrawTokenRequest) (*amporav1.DrawTokenResponse, error) {
	unlock, err := s.change()
	defer unlock()
	if err != nil {
		return nil, err
	}
	s.tokens = append(s.tokens, &amporav1.BootstrapToken{Id: mintedID, Description: r.GetDescription(), Pool: "web", State: amporav1.TokenState_TOKEN_STATE_LIVE})
	return &amporav1.DrawTokenResponse{
		Secret: "amp-bs." + theSecret, TokenId: mintedID, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)), OpampUrl: "wss://gateway.example:4320/v1/opamp",
	}, nil
}

type eventServer struct{ *state }

func (s eventServer) ListEvents(_ context.Context, r *amporav1.ListEventsRequest) (*amporav1.ListEventsResponse, error) {
	newest := slices.Clone(s.events)
	slices.Reverse(newest)
	page, next := paged(newest, r.GetPageToken())
	return &amporav1.ListEventsResponse{Events: page, NextPageToken: next}, nil
}

func (s eventServer) WatchEvents(
	ctx context.Context, r *amporav1.WatchEventsRequest, out amporav1connect.EventServiceWatchEventsServerStream,
) error {
	s.mu.Lock()
	s.watched = append(s.watched, r.GetCursor())
	script := watchScript{hang: true}
	if len(s.watches) > 0 {
		script, s.watches = s.watches[0], s.watches[1:]
	}
	s.mu.Unlock()
	begin := r.GetCursor()
	if begin == "" && len(s.events) > 0 {
		begin = s.events[0].GetCursor()
	}
	if len(script.events) > 0 || script.err == nil { // else it is refused at once
		if err := out.Send(&amporav1.WatchEventsResponse{Cursor: begin}); err != nil {
			return err
		}
	}
	for _, event := range script.events {
		if err := out.Send(&amporav1.WatchEventsResponse{Event: event, Cursor: cmp.Or(event.GetCursor(), begin)}); err != nil {
			return err
		}
	}
	if script.hang {
		<-ctx.Done()
	}
	return script.err
}

type auditServer struct{ *state }

func (s auditServer) ListAuditEvents(_ context.Context, r *amporav1.ListAuditEventsRequest) (*amporav1.ListAuditEventsResponse, error) {
	page, next := paged(s.audit, r.GetPageToken())
	return &amporav1.ListAuditEventsResponse{Events: page, NextPageToken: next}, nil
}

type systemServer struct{ *state }

func (s systemServer) GetSystem(context.Context, *amporav1.GetSystemRequest) (*amporav1.GetSystemResponse, error) {
	return &amporav1.GetSystemResponse{
		Version: "v1.2.3", Tenant: "default", Principal: "alice", Role: amporav1.Role_ROLE_OPERATOR, Database: "sqlite",
		TrustDomain: "example.org", OpampUrl: "wss://gateway.example.org:4320/v1/opamp",
		KeyServices: []*amporav1.KeyService{
			{Kind: "pkcs11", State: amporav1.KeyServiceState_KEY_SERVICE_STATE_AWAY, Since: timestamppb.New(time.Now().Add(-150 * time.Second))},
			{Kind: "vaulttransit", State: amporav1.KeyServiceState_KEY_SERVICE_STATE_UNTRIED, MakesKeys: true},
		},
	}, nil
}
