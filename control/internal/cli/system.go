// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/ops"
)

func (p *program) systemCommands() *cobra.Command {
	get := p.remote(verb{use: "get", short: "Show the server, and who you are to it", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			answer, err := api.system.GetSystem(ctx, &amporav1.GetSystemRequest{})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return systemProperties(p.now(), answer) })
		})
	return noun("system", "The installation: what one talks to, and as whom", get)
}

func systemProperties(now time.Time, system *amporav1.GetSystemResponse) view {
	lines := &properties{}
	lines.add("Version", or(system.GetVersion()))
	lines.add("Tenant", or(system.GetTenant()))
	lines.add("You are", or(system.GetPrincipal()))
	lines.add("Role", word(system.GetRole()))
	lines.add("Database", or(system.GetDatabase()))
	lines.add("Trust domain", or(system.GetTrustDomain()))
	lines.add("Agents connect to", or(system.GetOpampUrl()))
	for _, s := range system.GetKeyServices() {
		state := word(s.GetState())
		if s.GetSince() != nil {
			state += " for " + span(now.Sub(s.GetSince().AsTime()))
		}
		if s.GetMakesKeys() {
			state += ", makes the new keys"
		}
		lines.add("Key service "+s.GetKind(), state)
	}
	return lines
}

func (p *program) versionCommand() *cobra.Command {
	return p.local(verb{use: "version", short: "Show the version of this program", args: cobra.NoArgs},
		func(context.Context, []string) error {
			_, err := fmt.Fprintf(p.streams.Out, "amporactl %s\n", ops.Version())
			return err
		})
}
