// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// publish makes a configuration with a published version and returns its id.
func (w *world) publish(c clients, name string) string {
	w.t.Helper()
	id := w.config(c, name, runnable(name)).GetConfig().GetId()
	must(c.configs.PublishConfigVersion(w.t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: id, Version: 1}))(w.t)
	return id
}

func groupTarget(id string) *amporav1.Target {
	return &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: id}}
}

func TestGroups(t *testing.T) {
	w := newWorld(t)
	c, members := w.as(fleet.RoleOperator), w.agents(2)
	id := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge", Description: "d"}))(t).GetGroup().GetId()
	_, err := c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge"})
	refused(t, err, connect.CodeAlreadyExists, auth.ReasonAlreadyExists)

	added := must(c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: id, AgentIds: members}))(t)
	if added.GetGroup().GetMemberCount() != 2 {
		t.Errorf("added %v", added)
	}
	_, err = c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: id, AgentIds: []string{string(newID[fleet.AgentID]())}})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	removed := must(c.groups.RemoveGroupMembers(t.Context(), &amporav1.RemoveGroupMembersRequest{Id: id, AgentIds: members[:1]}))(t)
	if removed.GetGroup().GetMemberCount() != 1 {
		t.Errorf("removed %v", removed)
	}
	got := must(c.groups.GetGroup(t.Context(), &amporav1.GetGroupRequest{Group: "edge"}))(t).GetGroup()
	if got.GetId() != id || got.GetDescription() != "d" {
		t.Errorf("by name: %v", got)
	}
	must(c.groups.DeleteGroup(t.Context(), &amporav1.DeleteGroupRequest{Id: id}))(t)
	if list := must(c.groups.ListGroups(t.Context(), &amporav1.ListGroupsRequest{}))(t); len(list.GetGroups()) != 0 {
		t.Errorf("deleted and listed: %v", list)
	}
	if list := must(c.groups.ListGroups(t.Context(), &amporav1.ListGroupsRequest{ShowDeleted: true}))(t); len(list.GetGroups()) != 1 {
		t.Errorf("deleted and not shown: %v", list)
	}
	restored := must(c.groups.UndeleteGroup(t.Context(), &amporav1.UndeleteGroupRequest{Id: id}))(t).GetGroup()
	if restored.GetMemberCount() != 0 || restored.GetDeletedAt() != nil {
		t.Errorf("restored %v", restored)
	}
}

func TestManyWhoJoinWait(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleOperator)
	config := w.publish(c, "a")
	members := w.agents(limit + 1)
	small := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "small"}))(t).GetGroup().GetId()
	assigned := must(c.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(small), ConfigId: config}))(t)
	if a := assigned.GetAssignment(); a.GetVersion() != 1 || a.GetConfigName() != "a" || a.GetTarget().GetGroupId() != small || assigned.GetAgents() != 0 {
		t.Errorf("assigned %v", assigned)
	}
	joined := must(c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: small, AgentIds: members}))(t).GetGroup()
	if joined.GetMemberCount() != limit+1 || joined.GetWaitingCount() != limit+1 || joined.GetWaitingBecause() == "" {
		t.Errorf("joined %v", joined)
	}
}

func TestAssignments(t *testing.T) {
	w := newWorld(t)
	c, agent := w.as(fleet.RoleOperator), string(w.agent())
	target := &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: agent}}
	draft := w.config(c, "draft", "a: b").GetConfig().GetId()
	if _, err := c.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: target, ConfigId: draft, Version: 1}); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("a draft is assigned: %v", err)
	}
	config := w.publish(c, "a")
	assigned := must(c.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: target, ConfigId: config}))(t)
	if assigned.GetAgents() != 1 || assigned.GetAssignment().GetGeneration() == 0 {
		t.Errorf("assigned %v", assigned)
	}
	list := must(c.assignments.ListAssignments(t.Context(), &amporav1.ListAssignmentsRequest{}))(t).GetAssignments()
	if len(list) != 1 || list[0].GetTarget().GetAgentId() != agent || list[0].GetOfferHash() == "" {
		t.Errorf("assignments are %v", list)
	}
	_, err := c.configs.ArchiveConfigVersion(t.Context(), &amporav1.ArchiveConfigVersionRequest{ConfigId: config, Version: 1})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
	must(c.assignments.Unassign(t.Context(), &amporav1.UnassignRequest{Target: target}))(t)
	_, err = c.assignments.Unassign(t.Context(), &amporav1.UnassignRequest{Target: target})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestDynamicGroups(t *testing.T) {
	w := newWorld(t)
	c, config := w.as(fleet.RoleOperator), w.publish(w.as(fleet.RoleOperator), "a")
	create := func(r *amporav1.CreateGroupRequest) error {
		_, err := c.groups.CreateGroup(t.Context(), r)
		return err
	}
	about := refused(t, create(&amporav1.CreateGroupRequest{Name: "bad", Selector: "true &&\n  agent.nothing"}), connect.CodeInvalidArgument, expression.ReasonInvalid)
	if about["line"] != "2" || about["column"] != "3" {
		t.Errorf("refused at %v", about)
	}
	loops := "agent.claimed.labels.all(a, agent.claimed.labels.all(b, a.contains(b)))"
	refused(t, create(&amporav1.CreateGroupRequest{Name: "bad", Selector: loops}), connect.CodeInvalidArgument, expression.ReasonTooCostly)
	refused(t, create(&amporav1.CreateGroupRequest{Name: "bad", Priority: 3}), connect.CodeInvalidArgument, auth.ReasonInvalidField)
	claims := &amporav1.CreateGroupRequest{
		Name: "claims", Selector: `agent.claimed.type == "otelcol"`, Priority: 3, DefaultConfig: &amporav1.DefaultConfig{ConfigId: config},
	}
	refused(t, create(claims), connect.CodeInvalidArgument, api.ReasonDefaultOnClaims)
	claims.DefaultOnClaims = true
	created := must(c.groups.CreateGroup(t.Context(), claims))(t).GetGroup()
	if created.GetKind() != amporav1.GroupKind_GROUP_KIND_DYNAMIC || created.GetPriority() != 3 || created.GetSelector() != claims.GetSelector() ||
		created.GetDefaultConfig().GetConfigName() != "a" || !created.GetDefaultOnClaims() {
		t.Errorf("created %v", created)
	}
	draft := w.config(c, "draft", "a: b").GetConfig().GetId()
	refused(t, create(&amporav1.CreateGroupRequest{Name: "draft", DefaultConfig: &amporav1.DefaultConfig{ConfigId: draft}}), connect.CodeFailedPrecondition, auth.ReasonWrongState)
	_, err := c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: created.GetId(), AgentIds: w.agents(1)})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonGroupKind)
	_, err = c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{GroupId: created.GetId()})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonGroupKind)
}

func TestUpdateGroup(t *testing.T) {
	w := newWorld(t)
	c, config := w.as(fleet.RoleOperator), w.publish(w.as(fleet.RoleOperator), "a")
	id := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "g", Selector: "true"}))(t).GetGroup().GetId()
	update := func(r *amporav1.UpdateGroupRequest) (*amporav1.UpdateGroupResponse, error) {
		r.Id = id
		return c.groups.UpdateGroup(t.Context(), r)
	}
	got := must(update(&amporav1.UpdateGroupRequest{
		Description: proto.String("d"), Selector: proto.String("false"), Priority: proto.Int32(4), DefaultConfig: &amporav1.DefaultConfig{ConfigId: config, Version: 1},
	}))(t).GetGroup()
	if got.GetDescription() != "d" || got.GetSelector() != "false" || got.GetPriority() != 4 || got.GetDefaultConfig().GetVersion() != 1 {
		t.Errorf("updated %v", got)
	}
	_, err := update(&amporav1.UpdateGroupRequest{Selector: proto.String(`agent.claimed.type == ""`)})
	refused(t, err, connect.CodeInvalidArgument, api.ReasonDefaultOnClaims)
	_, err = update(&amporav1.UpdateGroupRequest{Selector: proto.String("")})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonGroupKind)
	got = must(update(&amporav1.UpdateGroupRequest{DefaultConfig: &amporav1.DefaultConfig{}}))(t).GetGroup()
	if got.GetDefaultConfig() != nil || got.GetSelector() != "false" {
		t.Errorf("without a default: %v", got)
	}
	static := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "static"}))(t).GetGroup()
	_, err = c.groups.UpdateGroup(t.Context(), &amporav1.UpdateGroupRequest{Id: static.GetId(), Selector: proto.String("true")})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonGroupKind)
	_, err = c.groups.UpdateGroup(t.Context(), &amporav1.UpdateGroupRequest{Id: string(newID[fleet.GroupID]())})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestPreviewSelector(t *testing.T) {
	w := newWorld(t)
	c, members := w.as(fleet.RoleOperator), w.agents(3)
	static := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "static"}))(t).GetGroup()
	must(c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: static.GetId(), AgentIds: members[:1]}))(t)
	seen := must(c.groups.PreviewSelector(t.Context(), &amporav1.PreviewSelectorRequest{Selector: "true"}))(t)
	if seen.GetAgents() != 3 || seen.GetMatched() != 3 || seen.GetExplicit() != 1 || seen.GetJoining() != 2 || len(seen.GetSample()) != 3 ||
		len(seen.GetLeft()) != 1 || seen.GetLeft()[0].GetAgents() != 2 {
		t.Errorf("seen %v", seen)
	}
	for _, agent := range seen.GetSample() {
		if in := agent.GetId() == members[0]; in != (agent.GetGroupName() == "static") {
			t.Errorf("sample %v", agent)
		}
	}
	_, err := c.groups.PreviewSelector(t.Context(), &amporav1.PreviewSelectorRequest{Selector: "true", Group: "static"})
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonGroupKind)
	_, err = c.groups.PreviewSelector(t.Context(), &amporav1.PreviewSelectorRequest{})
	refused(t, err, connect.CodeInvalidArgument, expression.ReasonInvalid)
	must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "g", Selector: "false", Priority: 2}))(t)
	if seen = must(c.groups.PreviewSelector(t.Context(), &amporav1.PreviewSelectorRequest{Group: "g"}))(t); seen.GetMatched() != 0 {
		t.Errorf("of the group: %v", seen)
	}
	_, err = w.as(fleet.RoleViewer).groups.PreviewSelector(t.Context(), &amporav1.PreviewSelectorRequest{Selector: "true"})
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
}

func TestTagsAndLabels(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleOperator)
	token := must(c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{Tags: map[string]string{"site": "berlin"}}))(t).GetToken()
	if token.GetTags()["site"] != "berlin" {
		t.Errorf("issued %v", token)
	}
	for _, tags := range []map[string]string{{"": "v"}, {"-a": "v"}, {"k": ""}, {"k": strings.Repeat("x", 257)}, {strings.Repeat("k", 65): "v"}} {
		_, err := c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{Tags: tags})
		refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	}
	pool := must(c.tokenPools.CreateTokenPool(t.Context(), &amporav1.CreateTokenPoolRequest{Name: "p", Tags: map[string]string{"site": "paris"}}))(t).GetPool()
	pool = must(c.tokenPools.UpdateTokenPool(t.Context(), &amporav1.UpdateTokenPoolRequest{Id: pool.GetId(), PerHour: proto.Int32(5)}))(t).GetPool()
	if pool.GetTags()["site"] != "paris" {
		t.Errorf("the pool is %v", pool)
	}
	pool = must(c.tokenPools.UpdateTokenPool(t.Context(), &amporav1.UpdateTokenPoolRequest{Id: pool.GetId(), Tags: &amporav1.Tags{}}))(t).GetPool()
	if len(pool.GetTags()) != 0 {
		t.Errorf("the pool is %v", pool)
	}
	_, err := c.groups.ListLabels(t.Context(), &amporav1.ListLabelsRequest{})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	if got := must(c.groups.ListLabels(t.Context(), &amporav1.ListLabelsRequest{Kind: amporav1.LabelKind_LABEL_KIND_TAG}))(t); len(got.GetLabels()) != 0 {
		t.Errorf("nobody has tags: %v", got)
	}
}
