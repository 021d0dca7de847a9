// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) gatewayCommands() *cobra.Command {
	return noun("gateways", "Gateways: what agents connect to", p.gatewaysList(), p.gatewaysGet(), p.gatewaysRevoke())
}

func (p *program) gatewaysList() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List the gateways that may serve this tenant", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			gateways, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.Gateway, string, error) {
					answer, err := api.gateways.ListGateways(ctx, &amporav1.ListGatewaysRequest{PageSize: size, PageToken: token})
					return answer.GetGateways(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListGatewaysResponse{Gateways: gateways}, func() view { return p.gatewayTable(gateways) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) gatewayTable(gateways []*amporav1.Gateway) view {
	t := newTable("ID", "STATE", "BUS", "AGENTS", "SHARED", "VERSION", "STARTED", "EXPIRES")
	for _, g := range gateways {
		t.row(or(g.GetId()), word(g.GetState()), busOf(g), number(g.GetSessions()), yes(g.GetShared()), or(g.GetVersion()),
			relative(p.now(), g.GetStartedAt()), relative(p.now(), g.GetNotAfter()))
	}
	return t
}

// busOf says whether what agents say gets through. Of a gateway that does not run there is nothing to say.
func busOf(g *amporav1.Gateway) string {
	switch {
	case g.GetState() != amporav1.GatewayState_GATEWAY_STATE_ONLINE:
		return none
	case g.GetBusLost():
		return "lost"
	default:
		return "ok"
	}
}

func (p *program) gatewaysGet() *cobra.Command {
	return p.remote(verb{use: "get GATEWAY", short: "Show one gateway", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.gateways.GetGateway(ctx, &amporav1.GetGatewayRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return p.showGateway(answer.GetGateway())
		})
}

func (p *program) showGateway(g *amporav1.Gateway) error {
	return p.show(g, func() view {
		now, lines := p.now(), &properties{}
		lines.add("Id", or(g.GetId()))
		lines.add("State", word(g.GetState()))
		lines.add("Bus", busOf(g))
		lines.add("Agents connected", number(g.GetSessions()))
		lines.add("Serves other tenants too", yes(g.GetShared()))
		lines.add("Version", or(g.GetVersion()))
		lines.add("Started", relative(now, g.GetStartedAt()))
		lines.add("Lease", relative(now, g.GetLeaseUntil()))
		lines.add("Joined", relative(now, g.GetJoinedAt()))
		lines.add("Certificate", or(g.GetSerial()))
		lines.add("Expires", relative(now, g.GetNotAfter()))
		lines.add("Revoked", relative(now, g.GetRevokedAt()))
		return lines
	})
}

func (p *program) gatewaysRevoke() *cobra.Command {
	return p.remote(verb{
		use: "revoke GATEWAY", short: "Refuse a gateway from now on", args: cobra.ExactArgs(1),
		long: `Refuse a gateway of this tenant alone from now on, whatever certificate it shows. Its sessions end, and its agents
connect to another. It can join again with a new token: amporactl join-tokens issue. One that serves other tenants too
is revoked by the installation's operator: ampora-control revoke-gateway.`,
	}, func(ctx context.Context, api *api, args []string) error {
		answer, err := api.gateways.RevokeGateway(ctx, &amporav1.RevokeGatewayRequest{Id: args[0]})
		if err != nil {
			return err
		}
		return p.showGateway(answer.GetGateway())
	})
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
