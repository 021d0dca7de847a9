// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// maxConfig is the largest body the API takes.
const maxConfig = 8 << 20

func (p *program) configCommands() *cobra.Command {
	return noun("configs", "Configurations: named containers of versions, each exact bytes",
		p.configsCreate(), p.configsImport(), p.configsList(), p.configsGet(),
		p.configsVersions(), p.configsPush(), p.configsEdit(), p.configsCheck(), p.configsDiff(), p.configsRender(), p.configsCat(), p.configsPublish(), p.configsRestore(),
		p.configsArchive(), p.configsUnarchive(),
		p.configsAssign(), p.configsUnassign(), p.configsAssignments())
}

// bodyFlag names where the bytes of a version come from.
func bodyFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "`FILE` with the configuration, - for standard input; stored byte for byte")
}

// readBody reads a configuration exactly as it is.
func (p *program) readBody(file string) ([]byte, error) {
	in := p.streams.In
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the caller's own choice
		if err != nil {
			return nil, usage("reading the configuration: %v", err)
		}
		defer opened.Close()
		in = opened
	}
	body, err := readAtMost(in, maxConfig)
	if err != nil {
		return nil, usage("reading the configuration: %s: %v", file, err)
	}
	return body, nil
}

func (p *program) configsCreate() *cobra.Command {
	var file, kind, description, note string
	var publish bool
	cmd := p.remote(verb{
		use: "create NAME [-f FILE] [flags]", short: "Create a configuration, with a first version", args: cobra.ExactArgs(1),
		example: "amporactl configs create edge -f edge.yaml --publish",
	}, func(ctx context.Context, api *api, args []string) error {
		request := &amporav1.CreateConfigRequest{Name: args[0], Description: description, Note: note}
		var err error
		if request.Kind, err = enumNamed[amporav1.ConfigKind]("kind", kind); err != nil {
			return err
		}
		if file == "" && publish {
			return usage("--publish needs a version: name a file with -f")
		}
		if file != "" {
			if request.Body, err = p.readBody(file); err != nil {
				return err
			}
		}
		answer, err := api.configs.CreateConfig(ctx, request)
		if err != nil {
			return err
		}
		if publish {
			if answer.Version, err = api.publish(ctx, answer.GetConfig(), answer.GetVersion(), nil); err != nil {
				return err
			}
			answer.Config.LatestPublished = answer.GetVersion().GetVersion()
		}
		return p.show(answer, func() view { return p.configTable([]*amporav1.Config{answer.GetConfig()}) })
	})
	bodyFlag(cmd, &file)
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND`: collector (a YAML mapping; the default) or opaque (any bytes)")
	cmd.Flags().StringVar(&description, "description", "", "what the configuration is for, `TEXT`")
	noteFlag(cmd, &note)
	cmd.Flags().BoolVar(&publish, "publish", false, "publish the version at once")
	return cmd
}

func noteFlag(cmd *cobra.Command, note *string) {
	cmd.Flags().StringVar(note, "note", "", "what the version changes, `TEXT`")
}

// publish publishes exactly the revision that was written.
func (a *api) publish(
	ctx context.Context, config *amporav1.Config, version *amporav1.ConfigVersion, waive []string,
) (*amporav1.ConfigVersion, error) {
	answer, err := a.configs.PublishConfigVersion(ctx, &amporav1.PublishConfigVersionRequest{
		ConfigId: config.GetId(), Version: version.GetVersion(), Revision: version.GetRevision(), Waive: waive,
	})
	return answer.GetVersion(), err
}

func (p *program) configsList() *cobra.Command {
	var limit int
	var kind string
	filter := &amporav1.ListConfigsRequest{}
	cmd := p.remote(verb{use: "list [flags]", short: "List configurations", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) (err error) {
			if filter.Kind, err = enumNamed[amporav1.ConfigKind]("kind", kind); err != nil {
				return err
			}
			configs, err := pages(ctx, limit,
				func(ctx context.Context, size int32, token string) ([]*amporav1.Config, string, error) {
					filter.PageSize, filter.PageToken = size, token
					answer, err := api.configs.ListConfigs(ctx, filter)
					return answer.GetConfigs(), answer.GetNextPageToken(), err
				})
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListConfigsResponse{Configs: configs}, func() view { return p.configTable(configs) })
		})
	limitFlag(cmd, &limit, 0)
	cmd.Flags().StringVar(&filter.NamePrefix, "name-prefix", "", "only those whose name begins with `PREFIX`")
	cmd.Flags().StringVar(&kind, "kind", "", "only those of `KIND`: collector or opaque")
	cmd.Flags().BoolVar(&filter.Drafts, "drafts", false, "only those with a version that is a draft")
	return cmd
}

func (p *program) configTable(configs []*amporav1.Config) view {
	t := newTable("NAME", "ID", "KIND", "PUBLISHED", "LATEST", "CREATED", "DESCRIPTION")
	for _, config := range configs {
		t.row(or(config.GetName()), or(config.GetId()), word(config.GetKind()), number(config.GetLatestPublished()),
			number(config.GetLatest()), relative(p.now(), config.GetCreatedAt()), or(config.GetDescription()))
	}
	return t
}

func (p *program) configsGet() *cobra.Command {
	return p.remote(verb{use: "get CONFIG", short: "Show one configuration", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			config, err := api.config(ctx, args[0])
			if err != nil {
				return err
			}
			return p.show(config, func() view { return p.configTable([]*amporav1.Config{config}) })
		})
}

func (p *program) configsVersions() *cobra.Command {
	var limit int
	var state string
	cmd := p.remote(verb{use: "versions CONFIG [flags]", short: "List the versions of a configuration, newest first", args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			config, err := api.config(ctx, args[0])
			if err != nil {
				return err
			}
			filter := &amporav1.ListConfigVersionsRequest{ConfigId: config.GetId()}
			if filter.State, err = enumNamed[amporav1.VersionState]("state", state); err != nil {
				return err
			}
			versions, err := pages(ctx, limit, api.versionPages(filter))
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListConfigVersionsResponse{Versions: versions},
				func() view { return p.versionTable(config, versions) })
		})
	limitFlag(cmd, &limit, 0)
	cmd.Flags().StringVar(&state, "state", "", "only those in `STATE`: draft, published or archived")
	return cmd
}

func (a *api) versionPages(filter *amporav1.ListConfigVersionsRequest) page[*amporav1.ConfigVersion] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.ConfigVersion, string, error) {
		filter.PageSize, filter.PageToken = size, token
		answer, err := a.configs.ListConfigVersions(ctx, filter)
		return answer.GetVersions(), answer.GetNextPageToken(), err
	}
}

func (p *program) versionTable(config *amporav1.Config, versions []*amporav1.ConfigVersion) view {
	t := newTable("VERSION", "STATE", "REVISION", "SIZE", "SHA256", "CREATED", "BY", "NOTE")
	for _, version := range versions {
		t.row(fmt.Sprintf("%s@%d", escape(config.GetName()), version.GetVersion()), word(version.GetState()),
			number(version.GetRevision()), bytesOf(version.GetSize()), short(version.GetContentHash()),
			relative(p.now(), version.GetCreatedAt()), or(version.GetCreatedBy()), or(version.GetNote()))
	}
	return t
}

// short is enough of a hash to tell versions apart; -o json has the whole.
func short(hash string) string { return or(hash[:min(12, len(hash))]) }

func (p *program) showVersion(config *amporav1.Config, version *amporav1.ConfigVersion) error {
	return p.show(version, func() view { return p.versionTable(config, []*amporav1.ConfigVersion{version}) })
}
