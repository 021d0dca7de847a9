// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// targetFlags name what a configuration is assigned to: one agent or one group.
type targetFlags struct{ agent, group string }

func (f *targetFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.agent, "agent", "", "the `AGENT` (id, prefix of it, or name)")
	cmd.Flags().StringVar(&f.group, "group", "", "the `GROUP` (name or id)")
	cmd.MarkFlagsOneRequired("agent", "group")
	cmd.MarkFlagsMutuallyExclusive("agent", "group")
}

func (f *targetFlags) target(ctx context.Context, api *api) (*amporav1.Target, error) {
	if f.agent != "" {
		id, err := api.agentID(ctx, f.agent)
		return &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: id}}, err
	}
	id, err := api.groupID(ctx, f.group)
	return &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: id}}, err
}

func (p *program) configsAssign() *cobra.Command {
	var to targetFlags
	var wait bool
	cmd := p.remote(verb{
		use: "assign CONFIG[@VERSION] --agent AGENT | --group GROUP [flags]", args: cobra.ExactArgs(1),
		short: "Say what an agent or a group shall run",
		long: `Point an agent or a group at a published version, by default the newest. An agent's own assignment wins over
its group's. For a group of more agents than may change at once it makes and starts a rollout of one wave.

With --wait the command follows the agents that this decides for until each of them has applied it, failed or been
skipped, and exits with 4 if any failed. An agent that is offline is waited for; bound that with --timeout.`,
		example: "amporactl configs assign edge@3 --group berlin --wait --timeout 5m",
		follows: func() bool { return wait },
	}, func(ctx context.Context, api *api, args []string) error {
		ref, err := parseVersionRef(args[0])
		if err != nil {
			return err
		}
		target, err := to.target(ctx, api)
		if err != nil {
			return err
		}
		config, err := api.config(ctx, ref.config)
		if err != nil {
			return err
		}
		answer, err := api.assignments.Assign(ctx,
			&amporav1.AssignRequest{Target: target, ConfigId: config.GetId(), Version: ref.version})
		if err != nil {
			return err
		}
		if wait {
			return p.awaitDelivery(ctx, api, answer.GetAssignment())
		}
		return p.show(answer, func() view { return assigned(answer) })
	})
	to.flags(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "follow until every agent has applied it, failed or been skipped")
	return cmd
}

func assigned(answer *amporav1.AssignResponse) view {
	assignment := answer.GetAssignment()
	if id := answer.GetRolloutId(); id != "" {
		return sentence("%s@%d is rolled out to %s, %s; follow it with: amporactl rollouts watch %s",
			assignment.GetConfigName(), assignment.GetVersion(), targetName(assignment.GetTarget()), counted(answer.GetAgents(), "agent"), id)
	}
	return sentence("%s@%d is assigned to %s and decides for %s",
		assignment.GetConfigName(), assignment.GetVersion(), targetName(assignment.GetTarget()), counted(answer.GetAgents(), "agent"))
}

// targetName is the kind and id of a target. "amporactl agents get" takes it as it is.
func targetName(target *amporav1.Target) string {
	if agent := target.GetAgentId(); agent != "" {
		return "agent/" + agent
	}
	return "group/" + target.GetGroupId()
}

func (p *program) configsUnassign() *cobra.Command {
	var from targetFlags
	cmd := p.remote(verb{
		use: "unassign --agent AGENT | --group GROUP", short: "Remove the assignment of an agent or a group", args: cobra.NoArgs,
		long: "Remove the assignment of an agent or a group. Agents keep what they run.",
	}, func(ctx context.Context, api *api, _ []string) error {
		target, err := from.target(ctx, api)
		if err != nil {
			return err
		}
		answer, err := api.assignments.Unassign(ctx, &amporav1.UnassignRequest{Target: target})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return sentence("nothing is assigned to %s any more", targetName(target)) })
	})
	from.flags(cmd)
	return cmd
}

func (p *program) configsAssignments() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "assignments [flags]", short: "List what is assigned to whom", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			list, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.Assignment, string, error) {
					answer, err := api.assignments.ListAssignments(ctx,
						&amporav1.ListAssignmentsRequest{PageSize: size, PageToken: token})
					return answer.GetAssignments(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListAssignmentsResponse{Assignments: list}, func() view { return p.assignmentTable(list) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) assignmentTable(list []*amporav1.Assignment) view {
	t := newTable("TARGET", "CONFIG", "GENERATION", "CREATED", "BY")
	for _, assignment := range list {
		target := targetName(assignment.GetTarget())
		if assignment.GetDefault() {
			target += ", by default"
		}
		t.row(escape(target),
			fmt.Sprintf("%s@%d", escape(assignment.GetConfigName()), assignment.GetVersion()),
			number(assignment.GetGeneration()), relative(p.now(), assignment.GetCreatedAt()), or(assignment.GetCreatedBy()))
	}
	return t
}
