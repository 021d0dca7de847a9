// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// groupFlags define a group.
type groupFlags struct {
	description, selector, given string
	priority                     int32
	onClaims                     bool
}

func (f *groupFlags) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.description, "description", "", "what the group is for, `TEXT`")
	flags.StringVar(&f.selector, "selector", "", "choose members by `EXPRESSION`, in CEL")
	flags.Int32Var(&f.priority, "priority", 0, "where several selectors choose an agent the highest `N` wins, -1000 to 1000")
	flags.StringVar(&f.given, "default", "", "agents that join get this `CONFIG[@VERSION]`, by default the newest published version")
	flags.BoolVar(&f.onClaims, "default-on-claims", false, "the default is meant for agents chosen by what they claim of themselves")
}

// defaultConfig is the default that the flags name; nil for none.
func (f *groupFlags) defaultConfig(ctx context.Context, api *api) (*amporav1.DefaultConfig, error) {
	if f.given == "" {
		return nil, nil //nolint:nilnil // none
	}
	ref, err := parseVersionRef(f.given)
	if err != nil {
		return nil, err
	}
	config, err := api.config(ctx, ref.config)
	return &amporav1.DefaultConfig{ConfigId: config.GetId(), Version: ref.version}, err
}

func (p *program) groupsUpdate() *cobra.Command {
	var flags groupFlags
	var cmd *cobra.Command
	cmd = p.remote(verb{
		use: "update GROUP [flags]", short: "Change a group", args: cobra.ExactArgs(1),
		long: `Change what the flags say. A dynamic group chooses its members anew, within 30 seconds; members keep the default that they
got when they joined. --default "" takes the default away. A static group stays static, and a dynamic one dynamic.`,
		example: `amporactl groups update berlin --selector 'agent.verified.tags["site"] in ["berlin", "potsdam"]'`,
	}, func(ctx context.Context, api *api, args []string) error {
		change, err := flags.change(ctx, api, cmd)
		if err != nil {
			return err
		}
		if change.Id, err = api.groupID(ctx, args[0]); err != nil {
			return err
		}
		answer, err := api.groups.UpdateGroup(ctx, change)
		if err != nil {
			return err
		}
		return p.showGroup(answer.GetGroup())
	})
	flags.declare(cmd)
	cmd.MarkFlagsOneRequired("description", "selector", "priority", "default", "default-on-claims")
	return cmd
}

// change is what the flags that were given change.
func (f *groupFlags) change(ctx context.Context, api *api, cmd *cobra.Command) (*amporav1.UpdateGroupRequest, error) {
	change := &amporav1.UpdateGroupRequest{}
	for name, apply := range map[string]func(){
		"description":       func() { change.Description = &f.description },
		"selector":          func() { change.Selector = &f.selector },
		"priority":          func() { change.Priority = &f.priority },
		"default":           func() { change.DefaultConfig = &amporav1.DefaultConfig{} },
		"default-on-claims": func() { change.DefaultOnClaims = &f.onClaims },
	} {
		if cmd.Flags().Changed(name) {
			apply()
		}
	}
	given, err := f.defaultConfig(ctx, api)
	if given != nil {
		change.DefaultConfig = given
	}
	return change, err
}

func (p *program) groupsPreview() *cobra.Command {
	var group string
	var priority int32
	var cmd *cobra.Command
	cmd = p.remote(verb{
		use: "preview [EXPRESSION] [flags]", short: "Show what a selector would choose", args: cobra.MaximumNArgs(1),
		long: `Show which agents a selector would choose, and which of them it would move out of which group. Nothing is changed. With
--group it is previewed in the place of that group's selector; without EXPRESSION it is that one.`,
		example: `amporactl groups preview 'agent.claimed.labels["os.type"] == "linux"'
amporactl groups preview --group berlin --priority 10`,
	}, func(ctx context.Context, api *api, args []string) error {
		request := &amporav1.PreviewSelectorRequest{Group: group}
		if len(args) == 1 {
			request.Selector = args[0]
		}
		if cmd.Flags().Changed("priority") {
			request.Priority = &priority
		}
		answer, err := api.groups.PreviewSelector(ctx, request)
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return previewView(answer) })
	})
	cmd.Flags().StringVar(&group, "group", "", "the `GROUP` whose selector it would be (name or id)")
	cmd.Flags().Int32Var(&priority, "priority", 0, "the priority it would have, `N`")
	return cmd
}

// previewView says in words what a selector would do, then lists some of whom it matches.
func previewView(answer *amporav1.PreviewSelectorResponse) view {
	said := []view{sentence("matches %d of %s", answer.GetMatched(), counted(answer.GetAgents(), "agent"))}
	add := func(n int32, what string) {
		if n > 0 {
			said = append(said, sentence("  %d %s", n, what))
		}
	}
	add(answer.GetMembers(), "in the group already")
	add(answer.GetExplicit(), "in static groups, where they stay")
	add(answer.GetElsewhere(), "chosen by groups that come before")
	for _, left := range answer.GetLeft() {
		if left.GetGroupId() == "" {
			add(left.GetAgents(), "would join, out of no group")
		} else {
			add(left.GetAgents(), "would move out of "+left.GetGroupName())
		}
	}
	if n := answer.GetFailingCount(); n > 0 {
		said = append(said, sentence("fails for %s: %s", counted(n, "agent"), answer.GetFailure()))
	}
	if len(answer.GetSample()) > 0 {
		t := newTable("AGENT", "ID", "GROUP")
		for _, agent := range answer.GetSample() {
			t.row(or(agent.GetDisplayName()), or(agent.GetId()), or(agent.GetGroupName()))
		}
		said = append(said, t)
	}
	return views(said)
}

// groupProperties is one group as a person reads it.
func (p *program) groupProperties(group *amporav1.Group) view {
	lines := &properties{}
	lines.add("Name", or(group.GetName()))
	lines.add("Id", or(group.GetId()))
	lines.add("Description", or(group.GetDescription()))
	lines.add("Kind", word(group.GetKind()))
	lines.add("Selector", or(group.GetSelector()))
	lines.add("Priority", number(group.GetPriority()))
	if given := group.GetDefaultConfig(); given != nil {
		lines.add("Default", escape(defaultName(given, group.GetDefaultOnClaims())))
	}
	lines.add("Members", fmt.Sprint(group.GetMemberCount()))
	if n := group.GetWaitingCount(); n > 0 {
		lines.add("Waiting", escape(fmt.Sprintf("%s: %s", counted(n, "agent"), group.GetWaitingBecause())))
	}
	if n := group.GetFailingCount(); n > 0 {
		lines.add("Failing", escape(fmt.Sprintf("for %s since %s: %s", counted(n, "agent"), relative(p.now(), group.GetFailingSince()), group.GetFailure())))
	}
	lines.add("Created", relative(p.now(), group.GetCreatedAt()))
	lines.add("Deleted", relative(p.now(), group.GetDeletedAt()))
	return lines
}

func defaultName(given *amporav1.DefaultConfig, onClaims bool) string {
	name := given.GetConfigName() + ", the newest published version"
	if given.GetVersion() > 0 {
		name = fmt.Sprintf("%s@%d", given.GetConfigName(), given.GetVersion())
	}
	if onClaims {
		name += "; also on claims"
	}
	return name
}

func (p *program) agentsLabels() *cobra.Command {
	var tags bool
	cmd := p.remote(verb{
		use: "labels [KEY] [flags]", short: "Show which labels or tags agents have", args: cobra.MaximumNArgs(1),
		long: `Show the keys of labels, or the values of one, with the number of agents that have them: what selectors of groups can ask
for. Labels are what agents claim of themselves; with --tags it is what is known of them.`,
		example: "amporactl agents labels\namporactl agents labels os.type\namporactl agents labels site --tags",
	}, func(ctx context.Context, api *api, args []string) error {
		request, head := &amporav1.ListLabelsRequest{Kind: amporav1.LabelKind_LABEL_KIND_LABEL}, "KEY"
		if tags {
			request.Kind = amporav1.LabelKind_LABEL_KIND_TAG
		}
		if len(args) == 1 {
			request.Key, head = args[0], "VALUE"
		}
		answer, err := api.groups.ListLabels(ctx, request)
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			t := newTable(head, "AGENTS")
			for _, use := range answer.GetLabels() {
				t.row(or(use.GetText()), number(use.GetAgents()))
			}
			return t
		})
	})
	cmd.Flags().BoolVar(&tags, "tags", false, "tags in the place of labels")
	return cmd
}

// tagsFlag is for tags that agents get when they enrol.
func tagsFlag(cmd *cobra.Command, into *map[string]string) {
	cmd.Flags().StringToStringVar(into, "tag", nil, "agents get this tag when they enrol, `KEY=VALUE`; may be given several times")
}
