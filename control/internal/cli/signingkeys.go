// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) signingKeyCommands() *cobra.Command {
	return noun("signing-keys", "Keys that sign certificates of agents",
		p.signingKeysList(), p.signingKeysCreate(), p.signingKeysActivate(), p.signingKeysRetire())
}

func (p *program) signingKeysList() *cobra.Command {
	return p.remote(verb{
		use: "list", short: "List signing keys, oldest first", args: cobra.NoArgs,
		long: `List the keys of the tenant's certificate authority, those that are retired too, oldest first. LEAVES are certificates
that are good; AGENTS need the key, because they have shown none of another since, and so many of them are ONLINE;
KNOWN says how many of the gateways that serve the tenant know the key.`,
	}, func(ctx context.Context, api *api, _ []string) error {
		answer, err := api.signingKeys.ListSigningKeys(ctx, &amporav1.ListSigningKeysRequest{})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return p.signingKeyTable(answer.GetSigningKeys()...) })
	})
}

func (p *program) signingKeyTable(keys ...*amporav1.SigningKey) view {
	t := newTable("KEY", "KIND", "STATE", "ALGORITHM", "EXPIRES", "LEAVES", "AGENTS", "ONLINE", "KNOWN")
	for _, k := range keys {
		t.row(k.GetId(), k.GetKind(), word(k.GetState()), word(k.GetAlgorithm()), relative(p.now(), k.GetNotAfter()), strconv.FormatInt(k.GetLeaves(), 10),
			strconv.FormatInt(k.GetDependentAgents(), 10), strconv.FormatInt(k.GetOnlineDependentAgents(), 10),
			strconv.FormatInt(k.GetConfirmedGateways(), 10)+"/"+strconv.FormatInt(k.GetGateways(), 10))
	}
	return t
}

func (p *program) signingKeysCreate() *cobra.Command {
	var algorithm string
	cmd := p.remote(verb{
		use: "create", short: "Make a draft of the next signing key", args: cobra.NoArgs,
		long: `Make a key that is to sign one day, certified by the tenant's root. Gateways learn of it within seconds, and accept what
it will have signed; nothing else changes until it is activated.`,
	}, func(ctx context.Context, api *api, _ []string) error {
		of, err := enumNamed[amporav1.SigningKeyAlgorithm]("algorithm", algorithm)
		if err != nil {
			return err
		}
		answer, err := api.signingKeys.CreateSigningKey(ctx, &amporav1.CreateSigningKeyRequest{Algorithm: of})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return p.signingKeyTable(answer.GetSigningKey()) })
	})
	cmd.Flags().StringVar(&algorithm, "algorithm", "", "`ALGORITHM` of the key, else that of the installation: "+strings.Join(enumWords[amporav1.SigningKeyAlgorithm](), ", "))
	return cmd
}

func (p *program) signingKeysActivate() *cobra.Command {
	var force bool
	cmd := p.remote(verb{
		use: "activate KEY", short: "Let a key sign from now on", args: cobra.ExactArgs(1),
		long: `Let a draft, or again a trusted key, sign from now on. The key that did is trusted: what it has signed stays good. It is
refused while a gateway does not know the key, unless it is forced.`,
	}, func(ctx context.Context, api *api, args []string) error {
		answer, err := api.signingKeys.ActivateSigningKey(ctx, &amporav1.ActivateSigningKeyRequest{Id: args[0], Force: force})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return p.signingKeyTable(answer.GetSigningKey()) })
	})
	cmd.Flags().BoolVar(&force, "force", false, "although gateways do not know it yet: they turn agents away that get a certificate of it, until they do")
	return cmd
}

func (p *program) signingKeysRetire() *cobra.Command {
	var force bool
	cmd := p.remote(verb{
		use: "retire KEY", short: "Let go of a key, for good", args: cobra.ExactArgs(1),
		long: `Let go of a draft or a trusted key, for good: what it has signed is admitted nowhere any more, and sessions that were
opened with it end. It is refused while agents have no certificate of another key, unless it is forced. A trusted key is
retired by itself after AMPORA_PKI_TRUSTED_PERIOD, as soon as no agent needs it.

If a key may be in the hands of others, activate another one, revoke what it has signed with amporactl certificates
revoke --signing-key KEY --reason key-compromise, and retire it by force.`,
	}, func(ctx context.Context, api *api, args []string) error {
		answer, err := api.signingKeys.RetireSigningKey(ctx, &amporav1.RetireSigningKeyRequest{Id: args[0], Force: force})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return p.signingKeyTable(answer.GetSigningKey()) })
	})
	cmd.Flags().BoolVar(&force, "force", false, "although agents need it: they are cut off, and must be enrolled anew")
	return cmd
}
