// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/groups"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var labelKinds = word[store.LabelKind, amporav1.LabelKind]{
	{store.Labels, amporav1.LabelKind_LABEL_KIND_LABEL},
	{store.Tags, amporav1.LabelKind_LABEL_KIND_TAG},
}

func group(g fleet.Group) *amporav1.Group {
	return &amporav1.Group{
		Id: string(g.ID), Name: g.Name, Description: g.Description, MemberCount: count(g.MemberCount), Kind: kindOf(g),
		Selector: g.Selector, Priority: int32(g.Priority), //nolint:gosec // bounded by the message's rules
		DefaultConfig: defaultConfig(g.Default), DefaultOnClaims: g.DefaultOnClaims,
		WaitingCount: count(g.WaitingCount), WaitingBecause: waitingBecause(g),
		FailingCount: count(g.Failing.Agents), FailingSince: moment(g.Failing.Since), Failure: g.Failing.Words,
		CreatedAt: moment(g.CreatedAt), DeletedAt: moment(g.DeletedAt),
	}
}

func kindOf(g fleet.Group) amporav1.GroupKind {
	if g.Dynamic() {
		return amporav1.GroupKind_GROUP_KIND_DYNAMIC
	}
	return amporav1.GroupKind_GROUP_KIND_STATIC
}

func defaultConfig(d fleet.DefaultConfig) *amporav1.DefaultConfig {
	if d.Config == "" {
		return nil
	}
	return &amporav1.DefaultConfig{ConfigId: string(d.Config), ConfigName: d.ConfigName, Version: count(d.Version)}
}

func waitingBecause(g fleet.Group) string {
	switch {
	case g.WaitingCount == 0:
		return ""
	case g.Settling:
		return "they joined while the group's rollout was not completed"
	default:
		return "more joined at once than one act may change; a rollout lets them in"
	}
}

// previewed encodes what a selector would do. The names of groups are looked up as far as they are known.
func previewed(p groups.Previewed, names map[fleet.GroupID]string) *amporav1.PreviewSelectorResponse {
	answer := &amporav1.PreviewSelectorResponse{
		Agents: count(p.Agents), Matched: count(p.Matched), Members: count(p.Members), Explicit: count(p.Explicit),
		Elsewhere: count(p.Elsewhere), Joining: count(p.Joining), FailingCount: count(p.Failing.Agents), Failure: p.Failing.Words,
	}
	for id, n := range p.From {
		answer.Left = append(answer.Left, &amporav1.LeftGroup{GroupId: string(id), GroupName: names[id], Agents: count(n)})
	}
	slices.SortFunc(answer.GetLeft(), func(a, b *amporav1.LeftGroup) int {
		return cmp.Or(cmp.Compare(b.GetAgents(), a.GetAgents()), cmp.Compare(a.GetGroupId(), b.GetGroupId()))
	})
	for _, c := range p.Sample {
		seen := fleet.Agent{ID: c.Agent, ServiceName: c.ServiceName, HostName: c.HostName}
		answer.Sample = append(answer.Sample, &amporav1.MatchedAgent{
			Id: string(c.Agent), DisplayName: seen.DisplayName(), GroupId: string(c.Group), GroupName: names[c.Group],
		})
	}
	return answer
}

func labelUse(u store.LabelUse) *amporav1.LabelUse {
	return &amporav1.LabelUse{Text: u.Text, Agents: count(u.Agents)}
}
