// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) rolloutCommands() *cobra.Command {
	return noun("rollouts", "Rollouts: bring a version to a group, wave by wave",
		p.rolloutsPlan(), p.rolloutsCreate(), p.rolloutsStart(), p.rolloutsPause(), p.rolloutsResume(), p.rolloutsAdvance(), p.rolloutsExtend(),
		p.rolloutsAbort(), p.rolloutsRollback(), p.rolloutsGet(), p.rolloutsList(), p.rolloutsMembers(), p.rolloutsWatch(), p.rolloutsSimulate())
}

const rolloutNames = `A ROLLOUT is named by its id, a prefix of it, or the name of a group: then the newest of that group is meant.`

// rolloutID finds a rollout by its id, the name of a group, of which the newest is meant, or a prefix of its id that only
// it has.
func (a *api) rolloutID(ctx context.Context, ref string) (string, error) {
	if wholeID.MatchString(ref) {
		return ref, nil
	}
	if idPrefix.MatchString(ref) {
		ids, err := a.rolloutsWithPrefix(ctx, ref)
		switch {
		case err != nil:
			return "", err
		case len(ids) == 1:
			return ids[0], nil
		case len(ids) > 1:
			return "", fail(ExitUsage, "name it by its id: "+escape(strings.Join(ids, ", ")), "several rollouts are meant by %q", ref)
		}
	}
	group, err := a.groupID(ctx, ref)
	if err != nil {
		return "", err
	}
	answer, err := a.rollouts.ListRollouts(ctx, &amporav1.ListRolloutsRequest{PageSize: 1, GroupId: group})
	if err != nil {
		return "", err
	}
	if len(answer.GetRollouts()) == 0 {
		return "", fail(ExitNotFound, "list them with: amporactl rollouts list", "there was no rollout in the group %q", ref)
	}
	return answer.GetRollouts()[0].GetId(), nil
}

// rolloutsWithPrefix relies on the order of the list, the newest id first: it stops behind the prefix.
func (a *api) rolloutsWithPrefix(ctx context.Context, prefix string) (ids []string, err error) {
	err = eachPage(ctx, 0, a.rolloutPages(&amporav1.ListRolloutsRequest{}), func(list []*amporav1.Rollout) bool {
		for _, rollout := range list {
			switch {
			case strings.HasPrefix(rollout.GetId(), prefix):
				ids = append(ids, rollout.GetId())
			case rollout.GetId() < prefix:
				return false
			}
		}
		return len(ids) < 2
	})
	return ids, err
}

func (a *api) rolloutPages(asked *amporav1.ListRolloutsRequest) page[*amporav1.Rollout] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.Rollout, string, error) {
		answer, err := a.rollouts.ListRollouts(ctx, &amporav1.ListRolloutsRequest{
			PageSize: size, PageToken: token, GroupId: asked.GetGroupId(), States: asked.GetStates(),
		})
		return answer.GetRollouts(), answer.GetNextPageToken(), err
	}
}

func (p *program) rolloutsList() *cobra.Command {
	var group string
	var states []string
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List rollouts, newest first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			asked := &amporav1.ListRolloutsRequest{}
			var err error
			if asked.GroupId, err = api.groupID(ctx, group); err != nil {
				return err
			}
			for _, name := range states {
				state, err := enumNamed[amporav1.RolloutState]("state", name)
				if err != nil {
					return err
				}
				asked.States = append(asked.States, state)
			}
			list, err := pages(ctx, limit, api.rolloutPages(asked))
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListRolloutsResponse{Rollouts: list}, func() view { return p.rolloutTable(list) })
		})
	cmd.Flags().StringVar(&group, "group", "", "only those of this `GROUP` (name or id)")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only those in these `STATES`: "+strings.Join(enumWords[amporav1.RolloutState](), ", "))
	limitFlag(cmd, &limit, 100)
	return cmd
}

func (p *program) rolloutTable(list []*amporav1.Rollout) view {
	t := newTable("ID", "GROUP", "CONFIG", "KIND", "STATE", "WAVE", "AGENTS", "CREATED", "BY", "REASON")
	for _, rollout := range list {
		t.row(or(rollout.GetId()), or(rollout.GetDefinition().GetGroupName()), rolledOut(rollout), word(rollout.GetKind()), word(rollout.GetState()),
			waveOf(rollout), number(rollout.GetPlan().GetAgents()), relative(p.now(), rollout.GetCreatedAt()), or(rollout.GetCreatedBy()), or(rollout.GetReason()))
	}
	return t
}

func (p *program) rolloutsGet() *cobra.Command {
	return p.remote(verb{
		use: "get ROLLOUT", short: "Show one rollout with its waves", args: cobra.ExactArgs(1), long: "Show one rollout with its waves. " + rolloutNames,
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.rolloutID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.rollouts.GetRollout(ctx, &amporav1.GetRolloutRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			return views{p.rolloutProperties(answer.GetRollout()), line(""), waveTable(answer.GetRollout(), answer.GetWaves())}
		})
	})
}

func (p *program) rolloutsMembers() *cobra.Command {
	var state string
	var limit int
	asked := &amporav1.ListRolloutMembersRequest{}
	cmd := p.remote(verb{
		use: "members ROLLOUT [flags]", short: "List the agents of a rollout in their order", args: cobra.ExactArgs(1),
		long:    "List the agents of a rollout in their order, with the wave of each. " + rolloutNames,
		example: "amporactl rollouts members berlin --wave 1\namporactl rollouts members berlin --stragglers",
	}, func(ctx context.Context, api *api, args []string) error {
		var err error
		if asked.Id, err = api.rolloutID(ctx, args[0]); err != nil {
			return err
		}
		if asked.State, err = enumNamed[amporav1.RolloutMemberState]("state", state); err != nil {
			return err
		}
		list, err := pages(ctx, limit, api.memberPages(asked))
		if err != nil {
			return err
		}
		return p.show(&amporav1.ListRolloutMembersResponse{Members: list}, func() view { return p.memberTable(list) })
	})
	cmd.Flags().Int32Var(&asked.Wave, "wave", 0, "only those of this `WAVE`, from 1")
	cmd.Flags().StringVar(&state, "state", "", "only those in this `STATE`: "+strings.Join(enumWords[amporav1.RolloutMemberState](), ", "))
	cmd.Flags().BoolVar(&asked.Stragglers, "stragglers", false, "only those that were let in and have not answered, who takes longest first")
	cmd.Flags().BoolVar(&asked.Problems, "problems", false, "only those that a gate counts")
	limitFlag(cmd, &limit, 100)
	return cmd
}

func (a *api) memberPages(asked *amporav1.ListRolloutMembersRequest) page[*amporav1.RolloutMember] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.RolloutMember, string, error) {
		answer, err := a.rollouts.ListRolloutMembers(ctx, &amporav1.ListRolloutMembersRequest{
			PageSize: size, PageToken: token, Id: asked.GetId(), Wave: asked.GetWave(), State: asked.GetState(),
			Stragglers: asked.GetStragglers(), Problems: asked.GetProblems(),
		})
		return answer.GetMembers(), answer.GetNextPageToken(), err
	}
}

func (p *program) memberTable(list []*amporav1.RolloutMember) view {
	t := newTable("WAVE", "AGENT", "HOST", "STATE", "CHANGE", "LET IN", "PROBLEMS", "REASON")
	for _, member := range list {
		t.row(number(member.GetWave()), or(member.GetAgentId()), or(member.GetHostName()), word(member.GetState()), word(member.GetChange()),
			relative(p.now(), member.GetAdmittedAt()), or(strings.Join(problemsOf(member), ", ")), or(member.GetReason()))
	}
	return t
}

func problemsOf(member *amporav1.RolloutMember) (problems []string) {
	for _, problem := range []struct {
		is   bool
		word string
	}{
		{member.GetGone(), "gone"}, {member.GetUnhealthy(), "unhealthy"}, {member.GetMismatch(), "mismatch"}, {member.GetOverdue(), "overdue"},
	} {
		if problem.is {
			problems = append(problems, problem.word)
		}
	}
	return problems
}
