// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func named(ids ...string) *amporav1.AgentTargets {
	return &amporav1.AgentTargets{Of: &amporav1.AgentTargets_Ids{Ids: &amporav1.AgentIds{Ids: ids}}}
}

func selecting(f *amporav1.AgentFilter) *amporav1.AgentTargets {
	return &amporav1.AgentTargets{Of: &amporav1.AgentTargets_Filter{Filter: f}}
}

func TestTagsAreSetByFilterAfterALook(t *testing.T) {
	w := newWorld(t)
	ids := w.agents(2)
	operator := w.as(fleet.RoleOperator)
	tag := func(targets *amporav1.AgentTargets) (*amporav1.BulkOutcome, error) {
		return operator.bulk.TagAgents(t.Context(), &amporav1.TagAgentsRequest{Targets: targets, Set: map[string]string{"site": "berlin"}})
	}
	all := selecting(&amporav1.AgentFilter{})
	_, err := tag(all)
	refused(t, err, connect.CodeFailedPrecondition, api.ReasonNoPreview)
	all.DryRun = true
	preview := must(tag(all))(t)
	if preview.GetMatched() != 2 || preview.GetChanged() != 2 || len(preview.GetSample()) != 2 {
		t.Errorf("the preview is %v", preview)
	}
	late := w.agents(1)
	all.DryRun, all.Expect = false, preview.GetMark()
	_, err = tag(all)
	refused(t, err, connect.CodeFailedPrecondition, api.ReasonSelectionChanged)
	done := must(tag(named(append(ids, late[0], "01890a5d-ac96-774b-bcce-b302099a8057")...)))(t)
	if done.GetChanged() != 3 || len(done.GetSkipped()) != 1 || done.GetSkipped()[0].GetReason() != "NOT_FOUND" || len(done.GetSample()) != 0 {
		t.Errorf("done is %v", done)
	}
	shown := must(operator.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: late[0]}))(t).GetAgent().GetTags()["site"]
	if shown.GetValue() != "berlin" || shown.GetOrigin() != amporav1.TagOrigin_TAG_ORIGIN_OPERATOR {
		t.Errorf("the tag is %v", shown)
	}
	found := must(operator.agents.ListAgents(t.Context(), &amporav1.ListAgentsRequest{Filter: &amporav1.AgentFilter{Tags: map[string]string{"site": "berlin"}}}))(t)
	if len(found.GetAgents()) != 3 {
		t.Errorf("found are %d", len(found.GetAgents()))
	}
}

func TestTagsThatAreNoneAreRefused(t *testing.T) {
	w := newWorld(t)
	id := w.agents(1)[0]
	operator := w.as(fleet.RoleOperator)
	for name, r := range map[string]*amporav1.TagAgentsRequest{
		"nothing": {},
		"a key":   {Set: map[string]string{"a b": "c"}},
		"both":    {Set: map[string]string{"a": "c"}, Remove: []string{"a"}},
	} {
		r.Targets = named(id)
		_, err := operator.bulk.TagAgents(t.Context(), r)
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAgentsAreMovedPushedAndDrained(t *testing.T) {
	w := newWorld(t)
	ids := w.agents(limit + 1)
	w.connect(fleet.AgentID(ids[0]), nil)
	operator := w.as(fleet.RoleOperator)
	group := must(operator.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge"}))(t).GetGroup().GetId()
	moved := must(operator.bulk.MoveAgents(t.Context(), &amporav1.MoveAgentsRequest{Targets: named(ids...), GroupId: group}))(t)
	if int(moved.GetChanged()) != len(ids) {
		t.Errorf("moved are %v", moved)
	}
	drained := must(operator.bulk.DrainAgents(t.Context(), &amporav1.DrainAgentsRequest{Targets: named(ids...)}))(t)
	if drained.GetChanged() != 1 || drained.GetSkipped()[0].GetReason() != "NOT_CONNECTED" {
		t.Errorf("drained are %v", drained)
	}
	push := &amporav1.PushConfigsRequest{Targets: named(ids...), Reason: "restored"}
	_, err := operator.bulk.PushConfigs(t.Context(), push)
	refused(t, err, connect.CodePermissionDenied, "ROLE_TOO_LOW")
	pushed := must(w.as(fleet.RoleAdmin).bulk.PushConfigs(t.Context(), push))(t)
	if pushed.GetChanged() != 0 || int(pushed.GetSkipped()[0].GetCount()) != len(ids) || pushed.GetSkipped()[0].GetReason() != "NOTHING_ASSIGNED" {
		t.Errorf("pushed are %v", pushed)
	}
	push.Reason = ""
	if _, err := w.as(fleet.RoleAdmin).bulk.PushConfigs(t.Context(), push); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("without a reason: %v", err)
	}
}
