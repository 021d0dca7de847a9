// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) tokenCommands() *cobra.Command {
	return noun("tokens", "Bootstrap tokens: single-use secrets with which agents enrol",
		p.tokensIssue(), p.tokensList(), p.tokensRevoke())
}

func (p *program) tokensIssue() *cobra.Command {
	var ttl lifetime
	var group, agent, description, out string
	var replace bool
	var tags map[string]string
	cmd := p.remote(verb{
		use: "issue [flags]", short: "Issue a token for one agent", args: cobra.NoArgs,
		long: `Issue a bootstrap token for one agent. The secret is shown this once: alone on standard output, or in the file
that --out names.

With --agent no new agent comes in by it: that one comes back under its id, with its group, assignments and history. It
must have no certificate that is good, or was revoked before its end, unless an Admin says --replace: then what is good
is revoked when the token is redeemed.`,
		example: "amporactl tokens issue --group berlin --out token\namporactl tokens issue | amporactl enroll --token-file - --server https://gateway:4320 --out-dir .",
	}, func(ctx context.Context, api *api, _ []string) error {
		if agent == "" && replace || agent != "" && group != "" {
			return usage("an agent that comes back keeps its group, and --replace is about one that --agent names")
		}
		groupID, err := api.groupID(ctx, group)
		if err != nil {
			return err
		}
		agentID, err := api.agentOrNone(ctx, agent)
		if err != nil {
			return err
		}
		return p.mint(out, func() (minted, error) {
			answer, err := api.tokens.IssueBootstrapToken(ctx,
				&amporav1.IssueBootstrapTokenRequest{Ttl: ttl.proto(), GroupId: groupID, Description: description, Tags: tags, AgentId: agentID, Replace: replace})
			return minted{
				answer, answer.GetSecret(), func() { answer.Secret = "" },
				"token " + answer.GetToken().GetId() + " expires " + stamp(answer.GetToken().GetExpiresAt()),
			}, err
		})
	})
	cmd.Flags().Var(&ttl, "ttl", "redeemable for `DURATION`, 15m to 7d (the server's default is 24h)")
	cmd.Flags().StringVar(&group, "group", "", "the `GROUP` the agent joins (name or id)")
	cmd.Flags().StringVar(&agent, "agent", "", "the `AGENT` that comes back by it (name or id)")
	cmd.Flags().BoolVar(&replace, "replace", false, "let it back in though it has a good certificate, or was revoked (Admin)")
	cmd.Flags().StringVar(&description, "description", "", "what it is for, `TEXT`")
	tagsFlag(cmd, &tags)
	outFlag(cmd, &out)
	return cmd
}

func (p *program) tokensList() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List tokens, newest first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			tokens, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.BootstrapToken, string, error) {
					answer, err := api.tokens.ListBootstrapTokens(ctx,
						&amporav1.ListBootstrapTokensRequest{PageSize: size, PageToken: token})
					return answer.GetTokens(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListBootstrapTokensResponse{Tokens: tokens}, func() view { return p.tokenTable(tokens) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) tokenTable(tokens []*amporav1.BootstrapToken) view {
	t := newTable("ID", "STATE", "EXPIRES", "CREATED", "BY", "POOL", "GROUP", "AGENT", "DESCRIPTION")
	for _, token := range tokens {
		t.row(or(token.GetId()), word(token.GetState()), relative(p.now(), token.GetExpiresAt()),
			relative(p.now(), token.GetCreatedAt()), or(token.GetCreatedBy()), or(token.GetPool()), or(token.GetGroupId()),
			or(cmp.Or(token.GetAgentId(), token.GetForAgentId())), or(token.GetDescription()))
	}
	return t
}

func (p *program) tokensRevoke() *cobra.Command {
	return p.remote(verb{use: "revoke ID", short: "Kill a token that has not been redeemed", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.tokens.RevokeBootstrapToken(ctx, &amporav1.RevokeBootstrapTokenRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer.GetToken(), func() view { return p.tokenTable([]*amporav1.BootstrapToken{answer.GetToken()}) })
		})
}

// proto is nil when no lifetime was given: the server has its own default.
func (l *lifetime) proto() *durationpb.Duration {
	if *l == 0 {
		return nil
	}
	return durationpb.New(l.duration())
}
