// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) tokenPoolCommands() *cobra.Command {
	return noun("token-pools", "Token pools: bootstrap tokens for fleets that grow by themselves",
		p.poolsCreate(), p.poolsList(), p.poolsGet(), p.poolsUpdate(), p.poolsRotate(), p.poolsDelete(), p.poolsDraw())
}

// poolFlags are the settings of a pool.
type poolFlags struct {
	ttl                       lifetime
	group, description        string
	tags                      map[string]string
	liveLimit, perHour, burst int32
}

func (f *poolFlags) declare(cmd *cobra.Command) {
	cmd.Flags().Var(&f.ttl, "ttl", "each token is redeemable for `DURATION`, 15m to 7d (1h if nobody says)")
	cmd.Flags().StringVar(&f.group, "group", "", "the `GROUP` that agents join (name or id)")
	cmd.Flags().StringVar(&f.description, "description", "", "what it is for, `TEXT`")
	tagsFlag(cmd, &f.tags)
	cmd.Flags().Int32Var(&f.liveLimit, "live-limit", 0, "at most `N` tokens that nobody has redeemed yet, 0 for no limit")
	cmd.Flags().Int32Var(&f.perHour, "per-hour", 0, "at most `N` tokens an hour (60 if nobody says)")
	cmd.Flags().Int32Var(&f.burst, "burst", 0, "at most `N` tokens at once (10 if nobody says)")
}

func (p *program) poolsCreate() *cobra.Command {
	var flags poolFlags
	var out string
	cmd := p.remote(verb{
		use: "create NAME [flags]", short: "Create a pool", args: cobra.ExactArgs(1),
		long: `Create a pool. Its secret is shown this once: alone on standard output, or in the file that --out names. Whoever has it
draws single-use bootstrap tokens, within the pool's limits, and can do nothing else.`,
		example: "amporactl token-pools create web --group web --per-hour 200 --live-limit 50 --out pool-secret",
	}, func(ctx context.Context, api *api, args []string) error {
		groupID, err := api.groupID(ctx, flags.group)
		if err != nil {
			return err
		}
		return p.mint(out, func() (minted, error) {
			answer, err := api.tokenPools.CreateTokenPool(ctx, &amporav1.CreateTokenPoolRequest{
				Name: args[0], Description: flags.description, GroupId: groupID, Ttl: flags.ttl.proto(),
				LiveLimit: flags.liveLimit, PerHour: flags.perHour, Burst: flags.burst, Tags: flags.tags,
			})
			return minted{answer, answer.GetSecret(), func() { answer.Secret = "" }, "token pool " + answer.GetPool().GetId()}, err
		})
	})
	flags.declare(cmd)
	outFlag(cmd, &out)
	return cmd
}

func (p *program) poolsList() *cobra.Command {
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List pools", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			pools, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.TokenPool, string, error) {
					answer, err := api.tokenPools.ListTokenPools(ctx, &amporav1.ListTokenPoolsRequest{PageSize: size, PageToken: token})
					return answer.GetPools(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListTokenPoolsResponse{Pools: pools}, func() view { return p.poolTable(pools) })
		})
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) poolTable(pools []*amporav1.TokenPool) view {
	t := newTable("NAME", "ID", "STATE", "LIVE", "LIMIT", "PER HOUR", "BURST", "TTL", "GROUP", "DESCRIPTION")
	for _, pool := range pools {
		t.row(or(pool.GetName()), or(pool.GetId()), poolState(pool), number(pool.GetLive()), number(pool.GetLiveLimit()),
			number(pool.GetPerHour()), number(pool.GetBurst()), exactly(pool.GetTtl().AsDuration()), or(pool.GetGroupId()), or(pool.GetDescription()))
	}
	return t
}

func poolState(pool *amporav1.TokenPool) string {
	if pool.GetDisabled() {
		return "disabled"
	}
	return "open"
}

func (p *program) poolsGet() *cobra.Command {
	return p.remote(verb{use: "get POOL", short: "Show one pool", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.tokenPools.GetTokenPool(ctx, &amporav1.GetTokenPoolRequest{Pool: args[0]})
			if err != nil {
				return err
			}
			return p.showPool(answer.GetPool())
		})
}

func (p *program) showPool(pool *amporav1.TokenPool) error {
	return p.show(pool, func() view {
		seen := new(properties)
		seen.add("Name", or(pool.GetName()))
		seen.add("Id", or(pool.GetId()))
		seen.add("State", poolState(pool))
		seen.add("Description", or(pool.GetDescription()))
		seen.add("Group", or(pool.GetGroupId()))
		seen.add("Tags", or(tagsText(pool.GetTags())))
		seen.add("Tokens live for", exactly(pool.GetTtl().AsDuration()))
		seen.add("Rate", fmt.Sprintf("%d an hour, %d at once", pool.GetPerHour(), pool.GetBurst()))
		seen.add("Live tokens", liveOf(pool))
		seen.add("Created", relative(p.now(), pool.GetCreatedAt())+" by "+or(pool.GetCreatedBy()))
		seen.add("Secret made", relative(p.now(), pool.GetRotatedAt()))
		seen.add("Former secret dies", relative(p.now(), pool.GetFormerSecretUntil()))
		return seen
	})
}

// tagsText is tags as they are given, by their keys.
func tagsText(tags map[string]string) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, key+"="+tags[key])
	}
	return strings.Join(list, ", ")
}

func liveOf(pool *amporav1.TokenPool) string {
	if pool.GetLiveLimit() == 0 {
		return fmt.Sprint(pool.GetLive())
	}
	return fmt.Sprintf("%d of at most %d", pool.GetLive(), pool.GetLiveLimit())
}

// poolID finds a pool by name or id.
func (a *api) poolID(ctx context.Context, ref string) (string, error) {
	if wholeID.MatchString(ref) {
		return ref, nil
	}
	answer, err := a.tokenPools.GetTokenPool(ctx, &amporav1.GetTokenPoolRequest{Pool: ref})
	return answer.GetPool().GetId(), err
}

func (p *program) poolsUpdate() *cobra.Command {
	var flags poolFlags
	var enable, disable, noTags bool
	var cmd *cobra.Command
	cmd = p.remote(verb{
		use: "update POOL [flags]", short: "Change a pool, for the tokens to come", args: cobra.ExactArgs(1),
		long: `Change what the flags say, for the tokens to come. A disabled pool hands out nothing; what it handed out before can be
redeemed. --group "" takes the group away. --tag names all the tags that there are from then on.`,
		example: "amporactl token-pools update web --per-hour 1000\namporactl token-pools update web --disable",
	}, func(ctx context.Context, api *api, args []string) error {
		change, err := flags.change(ctx, api, cmd)
		if err != nil {
			return err
		}
		if noTags {
			change.Tags = &amporav1.Tags{}
		}
		if enable || disable {
			change.Disabled = proto.Bool(disable)
		}
		if change.Id, err = api.poolID(ctx, args[0]); err != nil {
			return err
		}
		answer, err := api.tokenPools.UpdateTokenPool(ctx, change)
		if err != nil {
			return err
		}
		return p.showPool(answer.GetPool())
	})
	flags.declare(cmd)
	cmd.Flags().BoolVar(&disable, "disable", false, "hand out nothing from now on")
	cmd.Flags().BoolVar(&enable, "enable", false, "hand out tokens again")
	cmd.Flags().BoolVar(&noTags, "no-tags", false, "no tags any more")
	cmd.MarkFlagsMutuallyExclusive("disable", "enable")
	cmd.MarkFlagsMutuallyExclusive("tag", "no-tags")
	cmd.MarkFlagsOneRequired("ttl", "group", "description", "live-limit", "per-hour", "burst", "tag", "no-tags", "disable", "enable")
	return cmd
}

// change is what the flags that were given change.
func (f *poolFlags) change(ctx context.Context, api *api, cmd *cobra.Command) (*amporav1.UpdateTokenPoolRequest, error) {
	change := &amporav1.UpdateTokenPoolRequest{Ttl: f.ttl.proto()}
	for name, apply := range map[string]func(){
		"description": func() { change.Description = &f.description },
		"live-limit":  func() { change.LiveLimit = &f.liveLimit },
		"per-hour":    func() { change.PerHour = &f.perHour },
		"burst":       func() { change.Burst = &f.burst },
		"tag":         func() { change.Tags = &amporav1.Tags{Tags: f.tags} },
	} {
		if cmd.Flags().Changed(name) {
			apply()
		}
	}
	if cmd.Flags().Changed("group") {
		groupID, err := api.groupID(ctx, f.group)
		if err != nil {
			return nil, err
		}
		change.GroupId = &groupID
	}
	return change, nil
}

func (p *program) poolsRotate() *cobra.Command {
	var overlap lifetime
	var out string
	cmd := p.remote(verb{
		use: "rotate-secret POOL [flags]", short: "Give a pool another secret", args: cobra.ExactArgs(1),
		long: `Give a pool another secret, which is shown this once. The one before dies at once, or after --overlap. A secret that
an earlier --overlap kept alive dies in any case.`,
		example: "amporactl token-pools rotate-secret web --overlap 2h --out pool-secret",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.poolID(ctx, args[0])
		if err != nil {
			return err
		}
		return p.mint(out, func() (minted, error) {
			answer, err := api.tokenPools.RotateTokenPoolSecret(ctx,
				&amporav1.RotateTokenPoolSecretRequest{Id: id, Overlap: durationpb.New(overlap.duration())})
			hint := "token pool " + answer.GetPool().GetId() + ": the former secret is dead"
			if until := answer.GetPool().GetFormerSecretUntil(); until != nil {
				hint = "token pool " + answer.GetPool().GetId() + ": the former secret is good until " + stamp(until)
			}
			return minted{answer, answer.GetSecret(), func() { answer.Secret = "" }, hint}, err
		})
	})
	cmd.Flags().Var(&overlap, "overlap", "the former secret is good for `DURATION` more, at most 24h (dead at once if nobody says)")
	outFlag(cmd, &out)
	return cmd
}

func (p *program) poolsDelete() *cobra.Command {
	return p.remote(verb{
		use: "delete POOL", short: "Delete a pool for good, with its tokens that nobody redeemed", args: cobra.ExactArgs(1),
		long: "Delete a pool for good, and revoke its tokens that nobody has redeemed. Agents that it enrolled stay.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.poolID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.tokenPools.DeleteTokenPool(ctx, &amporav1.DeleteTokenPoolRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return sentence("deleted; tokens revoked: %d", answer.GetRevokedTokens()) })
	})
}

func (p *program) poolsDraw() *cobra.Command {
	var secretFile, description, out string
	cmd := p.local(verb{
		use: "draw --secret-file FILE [flags]", short: "Draw a bootstrap token with a pool's secret", args: cobra.NoArgs,
		long: `Draw a bootstrap token from a pool. No API token is needed: the pool's secret, in a file or on standard input, is all.
The token is shown this once: alone on standard output, or in the file that --out names.`,
		example: "amporactl token-pools draw --secret-file pool-secret | amporactl enroll --token-file - --server https://gateway:4320 --out-dir .",
	}, func(ctx context.Context, _ []string) error {
		api, err := p.connectToPool(secretFile)
		if err != nil {
			return err
		}
		return p.mint(out, func() (minted, error) {
			answer, err := api.tokenPools.DrawToken(ctx, &amporav1.DrawTokenRequest{Description: description})
			return minted{
				answer, answer.GetSecret(), func() { answer.Secret = "" },
				"token " + answer.GetTokenId() + " expires " + stamp(answer.GetExpiresAt()),
			}, ofPool(err)
		})
	})
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "`FILE` with the pool's secret, - for standard input")
	cmd.Flags().StringVar(&description, "description", "", "what the token is for, such as this machine's name, `TEXT`")
	outFlag(cmd, &out)
	_ = cmd.MarkFlagRequired("secret-file") // fails for an unknown flag only
	return cmd
}

// ofPool knows better than the code what to do about a secret that is not accepted.
func ofPool(err error) error {
	if err == nil {
		return nil
	}
	failed := failureOf(err, false)
	if failed.code == ExitDenied {
		failed.next = "ask whoever keeps the pool for its present secret; they make another with: amporactl token-pools rotate-secret"
	}
	return failed
}
