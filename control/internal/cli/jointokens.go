// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) joinTokenCommands() *cobra.Command {
	return noun("join-tokens", "Join tokens: single-use secrets with which gateways of this tenant join",
		p.joinTokensIssue(), p.joinTokensList(), p.joinTokensRevoke())
}

func (p *program) joinTokensIssue() *cobra.Command {
	var ttl lifetime
	var out, caOut string
	cmd := p.remote(verb{
		use: "issue NAME [flags]", short: "Issue a token for the gateway NAME", args: cobra.ExactArgs(1),
		long: `Issue a token with which the gateway NAME joins, once, to serve this tenant alone. The secret is shown this once:
alone on standard output, or in the file that --out names. The gateway needs besides what it verifies the control plane
with: --ca-out writes it.

A name that is known joins anew: the gateway's former certificates are refused from then on.`,
		example: "amporactl join-tokens issue edge-1 --out join-token --ca-out control-ca.pem",
	}, func(ctx context.Context, api *api, args []string) error {
		ca, err := freshOrSame(caOut, "certificate authority", 0o644)
		if err != nil {
			return err
		}
		defer ca.drop()
		return p.mint(out, func() (minted, error) {
			answer, err := api.joinTokens.IssueJoinToken(ctx, &amporav1.IssueJoinTokenRequest{GatewayId: args[0], Ttl: ttl.proto()})
			if err == nil {
				err = ca.keep(answer.GetControlCaPem())
			}
			return minted{
				answer, answer.GetSecret(), func() { answer.Secret = "" },
				"join token " + answer.GetToken().GetId() + " of gateway " + answer.GetToken().GetGatewayId() + " expires " +
					stamp(answer.GetToken().GetExpiresAt()),
			}, err
		})
	})
	cmd.Flags().Var(&ttl, "ttl", "usable for `DURATION`, 15m to 7d (the server's default is 24h)")
	outFlag(cmd, &out)
	cmd.Flags().StringVar(&caOut, "ca-out", "", "write the certificate authority of the control plane to `FILE`, which is new or holds it already")
	return cmd
}

func (p *program) joinTokensList() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List join tokens, newest first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			tokens, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.JoinToken, string, error) {
					answer, err := api.joinTokens.ListJoinTokens(ctx, &amporav1.ListJoinTokensRequest{PageSize: size, PageToken: token})
					return answer.GetTokens(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListJoinTokensResponse{Tokens: tokens}, func() view { return p.joinTokenTable(tokens) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) joinTokenTable(tokens []*amporav1.JoinToken) view {
	t := newTable("ID", "GATEWAY", "STATE", "EXPIRES", "USED", "CREATED", "BY")
	for _, token := range tokens {
		t.row(or(token.GetId()), or(token.GetGatewayId()), word(token.GetState()), relative(p.now(), token.GetExpiresAt()),
			relative(p.now(), token.GetUsedAt()), relative(p.now(), token.GetCreatedAt()), or(token.GetCreatedBy()))
	}
	return t
}

func (p *program) joinTokensRevoke() *cobra.Command {
	return p.remote(verb{use: "revoke ID", short: "Kill a join token that has not been used", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.joinTokens.RevokeJoinToken(ctx, &amporav1.RevokeJoinTokenRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer.GetToken(), func() view { return p.joinTokenTable([]*amporav1.JoinToken{answer.GetToken()}) })
		})
}
