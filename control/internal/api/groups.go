// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/groups"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonDefaultOnClaims says that a group gives its default for what agents claim of themselves, and does not say so.
const ReasonDefaultOnClaims = "DEFAULT_ON_CLAIMS"

const (
	// previewsAtOnce bounds how many selectors are previewed at once: each looks at all agents.
	previewsAtOnce = 2
	previewSample  = 50
	labelsAtOnce   = 1000
)

// groupService is the GroupService.
type groupService struct {
	store    store.Groups
	choices  store.Grouping
	rollouts *rollouts.Rollouts
	limit    int // of agents that one act may change
	// previews has a place for each that is under way.
	previews chan struct{}
}

// CreateGroup creates an empty group. A dynamic one fills within seconds.
func (s *groupService) CreateGroup(ctx context.Context, r *amporav1.CreateGroupRequest) (*amporav1.CreateGroupResponse, error) {
	by := auth.By(ctx)
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	g := fleet.Group{
		Tenant: by.Tenant, ID: newID[fleet.GroupID](), Name: r.GetName(), Description: r.GetDescription(), Selector: r.GetSelector(),
		Priority: int(r.GetPriority()), Default: defaultFrom(r.GetDefaultConfig()), DefaultOnClaims: r.GetDefaultOnClaims(), CreatedAt: by.At,
	}
	if err := checkGroup(g); err != nil {
		return nil, err
	}
	g, err := s.store.CreateGroup(ctx, by, g)
	return &amporav1.CreateGroupResponse{Group: group(g)}, err
}

// checkGroup refuses a selector that cannot be evaluated, and a default that is given on claims without saying so.
func checkGroup(g fleet.Group) error {
	if !g.Dynamic() {
		if g.Priority != 0 {
			return auth.InvalidField("priority", "is for groups with a selector")
		}
		return nil
	}
	selector, err := groups.Compile(g.Selector)
	if err == nil && selector.ReadsClaims() && g.Default.Config != "" && !g.DefaultOnClaims {
		return fault.New(fault.Invalid, ReasonDefaultOnClaims,
			"the selector reads agent.claimed, so whoever claims the right thing gets the group's default configuration, and whatever secrets it holds; say default_on_claims if that is meant")
	}
	return err
}

// UpdateGroup changes what is given.
func (s *groupService) UpdateGroup(ctx context.Context, r *amporav1.UpdateGroupRequest) (*amporav1.UpdateGroupResponse, error) {
	by := auth.By(ctx)
	was, err := s.store.Group(ctx, by.Tenant, r.GetId())
	if err != nil {
		return nil, err
	}
	is := groupAfter(was, r)
	if is.Dynamic() != was.Dynamic() {
		return nil, fmt.Errorf("update a group: %w", store.ErrDynamic)
	}
	if err := checkGroup(is); err != nil {
		return nil, err
	}
	g, err := s.store.UpdateGroup(ctx, by, was, is)
	return &amporav1.UpdateGroupResponse{Group: group(g)}, err
}

// groupAfter is the group as the request wants it.
func groupAfter(g fleet.Group, r *amporav1.UpdateGroupRequest) fleet.Group {
	if r.Description != nil {
		g.Description = r.GetDescription()
	}
	if r.Selector != nil {
		g.Selector = r.GetSelector()
	}
	if r.Priority != nil {
		g.Priority = int(r.GetPriority())
	}
	if r.GetDefaultConfig() != nil {
		g.Default = defaultFrom(r.GetDefaultConfig())
	}
	if r.DefaultOnClaims != nil {
		g.DefaultOnClaims = r.GetDefaultOnClaims()
	}
	return g
}

// PreviewSelector says what a selector would do.
func (s *groupService) PreviewSelector(ctx context.Context, r *amporav1.PreviewSelectorRequest) (*amporav1.PreviewSelectorResponse, error) {
	tenant := auth.By(ctx).Tenant
	proposed := fleet.Group{Tenant: tenant, ID: newID[fleet.GroupID]()}
	if r.GetGroup() != "" {
		var err error
		if proposed, err = s.store.Group(ctx, tenant, r.GetGroup()); err != nil {
			return nil, err
		}
		if !proposed.Dynamic() {
			return nil, fmt.Errorf("preview a selector: %w", store.ErrDynamic)
		}
	}
	proposed.Selector = cmp.Or(r.GetSelector(), proposed.Selector)
	if r.Priority != nil {
		proposed.Priority = int(r.GetPriority())
	}
	select {
	case s.previews <- struct{}{}:
		defer func() { <-s.previews }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	seen, err := groups.Preview(ctx, s.choices, tenant, proposed, previewSample)
	if err != nil {
		return nil, err
	}
	names, err := s.names(ctx, tenant, seen)
	return previewed(seen, names), err
}

// names looks up the groups that a preview names: few, as agents are in few.
func (s *groupService) names(ctx context.Context, tenant fleet.TenantID, seen groups.Previewed) (map[fleet.GroupID]string, error) {
	names := map[fleet.GroupID]string{"": ""}
	look := func(id fleet.GroupID) error {
		if _, known := names[id]; known {
			return nil
		}
		g, err := s.store.Group(ctx, tenant, string(id))
		names[id] = g.Name
		return err
	}
	for id := range seen.From {
		if err := look(id); err != nil {
			return nil, err
		}
	}
	for _, c := range seen.Sample {
		if err := look(c.Group); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// ListLabels says which labels or tags agents have.
func (s *groupService) ListLabels(ctx context.Context, r *amporav1.ListLabelsRequest) (*amporav1.ListLabelsResponse, error) {
	uses, err := s.choices.LabelsInUse(ctx, auth.By(ctx).Tenant, labelKinds.decode(r.GetKind()), r.GetKey(), labelsAtOnce)
	return &amporav1.ListLabelsResponse{Labels: each(uses, labelUse)}, err
}

// GetGroup finds a group by id or name.
func (s *groupService) GetGroup(ctx context.Context, r *amporav1.GetGroupRequest) (*amporav1.GetGroupResponse, error) {
	g, err := s.store.Group(ctx, auth.By(ctx).Tenant, r.GetGroup())
	return &amporav1.GetGroupResponse{Group: group(g)}, err
}

// ListGroups lists by name.
func (s *groupService) ListGroups(ctx context.Context, r *amporav1.ListGroupsRequest) (*amporav1.ListGroupsResponse, error) {
	page, err := pageOf(listGroups, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Groups(ctx, auth.By(ctx).Tenant, r.GetShowDeleted(), page)
	return &amporav1.ListGroupsResponse{Groups: each(list, group), NextPageToken: place(listGroups, next)}, err
}

// DeleteGroup hides a group.
func (s *groupService) DeleteGroup(ctx context.Context, r *amporav1.DeleteGroupRequest) (*amporav1.DeleteGroupResponse, error) {
	return &amporav1.DeleteGroupResponse{}, s.rollouts.DeleteGroup(ctx, auth.By(ctx), fleet.GroupID(r.GetId()))
}

// UndeleteGroup brings a group back, empty; a dynamic one fills again.
func (s *groupService) UndeleteGroup(ctx context.Context, r *amporav1.UndeleteGroupRequest) (*amporav1.UndeleteGroupResponse, error) {
	g, err := s.store.UndeleteGroup(ctx, auth.By(ctx), fleet.GroupID(r.GetId()))
	return &amporav1.UndeleteGroupResponse{Group: group(g)}, err
}

// AddGroupMembers moves agents into a static group.
func (s *groupService) AddGroupMembers(ctx context.Context, r *amporav1.AddGroupMembersRequest) (*amporav1.AddGroupMembersResponse, error) {
	members := idsFrom[fleet.AgentID](r.GetAgentIds())
	g, err := s.store.AddGroupMembers(ctx, auth.By(ctx), fleet.GroupID(r.GetId()), members, s.limit)
	return &amporav1.AddGroupMembersResponse{Group: group(g)}, err
}

// RemoveGroupMembers takes agents out of a static group.
func (s *groupService) RemoveGroupMembers(ctx context.Context, r *amporav1.RemoveGroupMembersRequest) (*amporav1.RemoveGroupMembersResponse, error) {
	g, err := s.store.RemoveGroupMembers(ctx, auth.By(ctx), fleet.GroupID(r.GetId()), idsFrom[fleet.AgentID](r.GetAgentIds()))
	return &amporav1.RemoveGroupMembersResponse{Group: group(g)}, err
}
