// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// groups is the GroupService.
type groups struct {
	store store.Groups
	limit int // of agents that one act may change
}

// CreateGroup creates an empty group.
func (s *groups) CreateGroup(ctx context.Context, r *amporav1.CreateGroupRequest) (*amporav1.CreateGroupResponse, error) {
	by := auth.By(ctx)
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	g, err := s.store.CreateGroup(ctx, by, fleet.Group{
		Tenant: by.Tenant, ID: newID[fleet.GroupID](), Name: r.GetName(), Description: r.GetDescription(), CreatedAt: by.At,
	})
	return &amporav1.CreateGroupResponse{Group: group(g)}, err
}

// GetGroup finds a group by id or name.
func (s *groups) GetGroup(ctx context.Context, r *amporav1.GetGroupRequest) (*amporav1.GetGroupResponse, error) {
	g, err := s.store.Group(ctx, auth.By(ctx).Tenant, r.GetGroup())
	return &amporav1.GetGroupResponse{Group: group(g)}, err
}

// ListGroups lists by name.
func (s *groups) ListGroups(ctx context.Context, r *amporav1.ListGroupsRequest) (*amporav1.ListGroupsResponse, error) {
	page, err := pageOf(listGroups, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Groups(ctx, auth.By(ctx).Tenant, r.GetShowDeleted(), page)
	return &amporav1.ListGroupsResponse{Groups: each(list, group), NextPageToken: place(listGroups, next)}, err
}

// DeleteGroup hides a group.
func (s *groups) DeleteGroup(ctx context.Context, r *amporav1.DeleteGroupRequest) (*amporav1.DeleteGroupResponse, error) {
	return &amporav1.DeleteGroupResponse{}, s.store.DeleteGroup(ctx, auth.By(ctx), fleet.GroupID(r.GetId()))
}

// UndeleteGroup brings a group back, empty.
func (s *groups) UndeleteGroup(ctx context.Context, r *amporav1.UndeleteGroupRequest) (*amporav1.UndeleteGroupResponse, error) {
	g, err := s.store.UndeleteGroup(ctx, auth.By(ctx), fleet.GroupID(r.GetId()))
	return &amporav1.UndeleteGroupResponse{Group: group(g)}, err
}

// AddGroupMembers moves agents into a group.
func (s *groups) AddGroupMembers(ctx context.Context, r *amporav1.AddGroupMembersRequest) (*amporav1.AddGroupMembersResponse, error) {
	members := idsFrom[fleet.AgentID](r.GetAgentIds())
	g, err := s.store.AddGroupMembers(ctx, auth.By(ctx), fleet.GroupID(r.GetId()), members, s.limit)
	if errors.Is(err, store.ErrLimit) {
		return nil, auth.RolloutRequired(s.limit).With("agents", strconv.Itoa(len(members))).WithCause(err)
	}
	return &amporav1.AddGroupMembersResponse{Group: group(g)}, err
}

// RemoveGroupMembers takes agents out of a group.
func (s *groups) RemoveGroupMembers(ctx context.Context, r *amporav1.RemoveGroupMembersRequest) (*amporav1.RemoveGroupMembersResponse, error) {
	g, err := s.store.RemoveGroupMembers(ctx, auth.By(ctx), fleet.GroupID(r.GetId()), idsFrom[fleet.AgentID](r.GetAgentIds()))
	return &amporav1.RemoveGroupMembersResponse{Group: group(g)}, err
}
