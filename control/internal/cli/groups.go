// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) groupCommands() *cobra.Command {
	return noun("groups", "Groups: agents that share a configuration",
		p.groupsCreate(), p.groupsUpdate(), p.groupsPreview(), p.groupsList(), p.groupsGet(), p.groupsDelete(), p.groupsUndelete(),
		p.groupsMembers("add", "Put agents into a static group, out of whichever they were in",
			func(ctx context.Context, api *api, group string, agents []string) (*amporav1.Group, error) {
				answer, err := api.groups.AddGroupMembers(ctx, &amporav1.AddGroupMembersRequest{Id: group, AgentIds: agents})
				return answer.GetGroup(), err
			}),
		p.groupsMembers("remove", "Take agents out of a static group",
			func(ctx context.Context, api *api, group string, agents []string) (*amporav1.Group, error) {
				answer, err := api.groups.RemoveGroupMembers(ctx, &amporav1.RemoveGroupMembersRequest{Id: group, AgentIds: agents})
				return answer.GetGroup(), err
			}))
}

func (p *program) groupsCreate() *cobra.Command {
	var flags groupFlags
	cmd := p.remote(verb{
		use: "create NAME [flags]", short: "Create a group", args: cobra.ExactArgs(1),
		long: `Create a group. With --selector it is dynamic: it chooses its members by an expression in CEL over what is known of
agents (agent.verified.id, enrolled_at, method, parent, tags) and what they claim of themselves (agent.claimed.labels, type,
version, host_name, capabilities). See what it would choose with: amporactl groups preview. Whoever joins a group with a
--default gets that configuration.`,
		example: `amporactl groups create berlin --selector 'agent.verified.tags["site"] == "berlin"' --default edge
amporactl groups create linux --selector 'agent.claimed.labels["os.type"] == "linux"' --priority -10`,
	}, func(ctx context.Context, api *api, args []string) error {
		given, err := flags.defaultConfig(ctx, api)
		if err != nil {
			return err
		}
		answer, err := api.groups.CreateGroup(ctx, &amporav1.CreateGroupRequest{
			Name: args[0], Description: flags.description, Selector: flags.selector, Priority: flags.priority,
			DefaultConfig: given, DefaultOnClaims: flags.onClaims,
		})
		if err != nil {
			return err
		}
		return p.showGroup(answer.GetGroup())
	})
	flags.declare(cmd)
	return cmd
}

func (p *program) groupsList() *cobra.Command {
	var deleted bool
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List groups", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			groups, err := pages(ctx, limit, api.groupPages(deleted))
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListGroupsResponse{Groups: groups}, func() view { return p.groupTable(groups) })
		})
	cmd.Flags().BoolVar(&deleted, "deleted", false, "also groups that are deleted")
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (a *api) groupPages(deleted bool) page[*amporav1.Group] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.Group, string, error) {
		answer, err := a.groups.ListGroups(ctx,
			&amporav1.ListGroupsRequest{PageSize: size, PageToken: token, ShowDeleted: deleted})
		return answer.GetGroups(), answer.GetNextPageToken(), err
	}
}

func (p *program) groupTable(groups []*amporav1.Group) view {
	t := newTable("NAME", "ID", "KIND", "MEMBERS", "WAITING", "CREATED", "DELETED", "DESCRIPTION")
	for _, group := range groups {
		t.row(or(group.GetName()), or(group.GetId()), word(group.GetKind()), number(group.GetMemberCount()), number(group.GetWaitingCount()),
			relative(p.now(), group.GetCreatedAt()), relative(p.now(), group.GetDeletedAt()), or(group.GetDescription()))
	}
	return t
}

func (p *program) showGroup(group *amporav1.Group) error {
	return p.show(group, func() view { return p.groupProperties(group) })
}

func (p *program) groupsGet() *cobra.Command {
	return p.remote(verb{use: "get GROUP", short: "Show one group", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.groups.GetGroup(ctx, &amporav1.GetGroupRequest{Group: args[0]})
			if err != nil {
				return err
			}
			return p.showGroup(answer.GetGroup())
		})
}

func (p *program) groupsDelete() *cobra.Command {
	return p.remote(verb{
		use: "delete GROUP", short: "Delete a group; it can be undone", args: cobra.ExactArgs(1),
		long: "Hide a group and free its name and its members. Agents keep what they run. It can be undone with undelete.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.groupID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.groups.DeleteGroup(ctx, &amporav1.DeleteGroupRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return sentence("deleted; undo with: amporactl groups undelete %s", id) })
	})
}

func (p *program) groupsUndelete() *cobra.Command {
	return p.remote(verb{
		use: "undelete GROUP", short: "Bring a deleted group back, without members; a dynamic one chooses anew", args: cobra.ExactArgs(1),
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.deletedGroupID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.groups.UndeleteGroup(ctx, &amporav1.UndeleteGroupRequest{Id: id})
		if err != nil {
			return err
		}
		return p.showGroup(answer.GetGroup())
	})
}

// deletedGroupID finds a deleted group by id or name. Several may have had the same name.
func (a *api) deletedGroupID(ctx context.Context, ref string) (string, error) {
	if wholeID.MatchString(ref) {
		return ref, nil
	}
	var ids []string
	err := eachPage(ctx, 0, a.groupPages(true), func(groups []*amporav1.Group) bool {
		for _, group := range groups {
			if group.GetDeletedAt() != nil && group.GetName() == ref {
				ids = append(ids, group.GetId())
			}
		}
		return true
	})
	switch {
	case err != nil:
		return "", err
	case len(ids) == 0:
		return "", fail(ExitNotFound, "list them with: amporactl groups list --deleted", "there is no deleted group %q", ref)
	case len(ids) > 1:
		return "", fail(ExitUsage, "name it by its id: "+escape(strings.Join(ids, ", ")), "several deleted groups were called %q", ref)
	default:
		return ids[0], nil
	}
}

// changeMembers changes who is in a group.
type changeMembers func(ctx context.Context, api *api, group string, agents []string) (*amporav1.Group, error)

func (p *program) groupsMembers(use, short string, change changeMembers) *cobra.Command {
	return p.remote(verb{use: use + " GROUP AGENT...", short: short, args: cobra.MinimumNArgs(2)},
		func(ctx context.Context, api *api, args []string) error {
			group, err := api.groupID(ctx, args[0])
			if err != nil {
				return err
			}
			agents, err := api.agentIDs(ctx, args[1:])
			if err != nil {
				return err
			}
			changed, err := change(ctx, api, group, agents)
			if err != nil {
				return err
			}
			return p.showGroup(changed)
		})
}
