// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) apiTokenCommands() *cobra.Command {
	return noun("api-tokens", "API tokens: what programs and people call this API with",
		p.apiTokensCreate(), p.apiTokensList(), p.apiTokensRevoke())
}

func (p *program) apiTokensCreate() *cobra.Command {
	var ttl lifetime
	var role, out string
	var procedures []string
	cmd := p.remote(verb{
		use: "create NAME --role ROLE [flags]", short: "Create an API token", args: cobra.ExactArgs(1),
		long:    "Create an API token. Its secret is shown this once: alone on standard output, or in the file that --out names.",
		example: "amporactl api-tokens create ci --role operator --ttl 30d --out token",
	}, func(ctx context.Context, api *api, args []string) error {
		allowed, err := enumNamed[amporav1.Role]("role", role)
		if err != nil {
			return err
		}
		return p.mint(out, func() (minted, error) {
			answer, err := api.apiTokens.CreateApiToken(ctx,
				&amporav1.CreateApiTokenRequest{Name: args[0], Role: allowed, Ttl: ttl.proto(), Procedures: procedures})
			return minted{
				answer, answer.GetSecret(), func() { answer.Secret = "" },
				"API token " + answer.GetToken().GetId() + " expires " + stamp(answer.GetToken().GetExpiresAt()),
			}, err
		})
	})
	cmd.Flags().StringVar(&role, "role", "", "what it may do, `ROLE`: viewer, operator or admin")
	_ = cmd.MarkFlagRequired("role") // fails for an unknown flag only
	cmd.Flags().Var(&ttl, "ttl", "it lives for `DURATION`, 1h to 366d (the server's default is 90d)")
	cmd.Flags().StringArrayVar(&procedures, "procedure", nil,
		"allow only this `PROCEDURE`, as in /ampora.v1.AgentService/ListAgents; may be given several times")
	outFlag(cmd, &out)
	return cmd
}

func (p *program) apiTokensList() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List API tokens", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			tokens, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.ApiToken, string, error) {
					answer, err := api.apiTokens.ListApiTokens(ctx, &amporav1.ListApiTokensRequest{PageSize: size, PageToken: token})
					return answer.GetTokens(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListApiTokensResponse{Tokens: tokens}, func() view { return p.apiTokenTable(tokens) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) apiTokenTable(tokens []*amporav1.ApiToken) view {
	t := newTable("ID", "NAME", "ROLE", "STATE", "EXPIRES", "CREATED", "BY", "PROCEDURES")
	for _, token := range tokens {
		procedures := "all of its role"
		if n := len(token.GetProcedures()); n > 0 {
			procedures = number(int64(n))
		}
		t.row(or(token.GetId()), or(token.GetName()), word(token.GetRole()), word(token.GetState()),
			relative(p.now(), token.GetExpiresAt()), relative(p.now(), token.GetCreatedAt()), or(token.GetCreatedBy()), procedures)
	}
	return t
}

func (p *program) apiTokensRevoke() *cobra.Command {
	return p.remote(verb{use: "revoke ID", short: "Revoke an API token", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.apiTokens.RevokeApiToken(ctx, &amporav1.RevokeApiTokenRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer.GetToken(), func() view { return p.apiTokenTable([]*amporav1.ApiToken{answer.GetToken()}) })
		})
}
