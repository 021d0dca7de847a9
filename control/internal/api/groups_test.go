// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/auth"
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

func TestManyAgentsNeedARollout(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleOperator)
	config := w.publish(c, "a")
	members := w.agents(limit + 1)
	full := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "full"}))(t).GetGroup().GetId()
	must(c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: full, AgentIds: members}))(t)
	_, err := c.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(full), ConfigId: config})
	about := refused(t, err, connect.CodeFailedPrecondition, auth.ReasonRolloutRequired)
	if about["limit"] != "7" || about["agents"] != "8" {
		t.Errorf("refused with %v", about)
	}

	small := must(c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "small"}))(t).GetGroup().GetId()
	assigned := must(c.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(small), ConfigId: config}))(t)
	if a := assigned.GetAssignment(); a.GetVersion() != 1 || a.GetConfigName() != "a" || a.GetTarget().GetGroupId() != small || assigned.GetAgents() != 0 {
		t.Errorf("assigned %v", assigned)
	}
	_, err = c.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: small, AgentIds: members})
	about = refused(t, err, connect.CodeFailedPrecondition, auth.ReasonRolloutRequired)
	if about["limit"] != "7" || about["agents"] != "8" {
		t.Errorf("refused with %v", about)
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
