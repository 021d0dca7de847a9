// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) configsPush() *cobra.Command {
	var file, note string
	var publish bool
	cmd := p.remote(verb{
		use: "push CONFIG -f FILE [flags]", short: "Add a version to a configuration", args: cobra.ExactArgs(1),
		long:    "Add a version to a configuration: a draft, or with --publish one that can be assigned.",
		example: "amporactl configs push edge -f edge.yaml --note 'batch before export'",
	}, func(ctx context.Context, api *api, args []string) error {
		body, err := p.readBody(file)
		if err != nil {
			return err
		}
		config, err := api.config(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.configs.CreateConfigVersion(ctx,
			&amporav1.CreateConfigVersionRequest{ConfigId: config.GetId(), Body: body, Note: note})
		if err != nil {
			return err
		}
		version := answer.GetVersion()
		if publish {
			if version, err = api.publish(ctx, config, version, nil); err != nil {
				return err
			}
		}
		return p.showVersion(config, version)
	})
	bodyFlag(cmd, &file)
	_ = cmd.MarkFlagRequired("file") // fails for an unknown flag only
	noteFlag(cmd, &note)
	cmd.Flags().BoolVar(&publish, "publish", false, "publish the version at once")
	return cmd
}

func (p *program) configsImport() *cobra.Command {
	var name, kind, note string
	var publish bool
	cmd := p.remote(verb{
		use: "import FILE... [flags]", short: "Store files under the names they give themselves", args: cobra.MinimumNArgs(1),
		long: `Store files, byte for byte, under the names they give themselves in their first lines:

  # ampora.name: edge

A configuration that is new is created; one that is there gets a further version, unless its newest version has these
bytes already. - is standard input. The first file that is refused ends the import; those before it are stored.`,
		example: "amporactl configs import configs/*.yaml --publish\namporactl configs import --name edge - < edge.yaml",
	}, func(ctx context.Context, api *api, args []string) error {
		if name != "" && len(args) > 1 {
			return usage("--name is for one file")
		}
		as, err := enumNamed[amporav1.ConfigKind]("kind", kind)
		if err != nil {
			return err
		}
		t, stored := newTable("FILE", "VERSION", "STATE", "SHA256", "OUTCOME"), &amporav1.ListConfigVersionsResponse{}
		for _, file := range args {
			answer, err := p.importFile(ctx, api, file, &amporav1.ImportConfigRequest{Name: name, Kind: as, Note: note}, publish)
			if err != nil {
				_, _ = fmt.Fprintf(p.streams.Err, "%s was not imported; %d before it were\n", escape(file), len(stored.GetVersions()))
				return err
			}
			outcome, version := "stored", answer.GetVersion()
			if answer.GetUnchanged() {
				outcome = "unchanged"
			}
			stored.Versions = append(stored.Versions, version)
			t.row(escape(file), fmt.Sprintf("%s@%d", escape(answer.GetConfig().GetName()), version.GetVersion()), word(version.GetState()),
				short(version.GetContentHash()), outcome)
		}
		return p.show(stored, func() view { return t })
	})
	cmd.Flags().StringVar(&name, "name", "", "the `NAME` of a file that gives itself none")
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of new configurations: collector (the default) or opaque")
	noteFlag(cmd, &note)
	cmd.Flags().BoolVar(&publish, "publish", false, "publish the versions at once")
	return cmd
}

// importFile imports one file and, if asked, publishes what came of it; what is published already stays as it is.
func (p *program) importFile(
	ctx context.Context, api *api, file string, request *amporav1.ImportConfigRequest, publish bool,
) (*amporav1.ImportConfigResponse, error) {
	var err error
	if request.Body, err = p.readBody(file); err != nil {
		return nil, err
	}
	answer, err := api.configs.ImportConfig(ctx, request)
	if err == nil && publish && answer.GetVersion().GetState() == amporav1.VersionState_VERSION_STATE_DRAFT {
		answer.Version, err = api.publish(ctx, answer.GetConfig(), answer.GetVersion(), nil)
	}
	return answer, err
}

func (p *program) configsEdit() *cobra.Command {
	var file, note string
	var revision int32
	cmd := p.remote(verb{
		use: "edit CONFIG[@VERSION] -f FILE [flags]", short: "Replace the bytes of a draft", args: cobra.ExactArgs(1),
		long: `Replace the bytes of a draft, by default the newest version. With --revision the draft is replaced only
if nobody changed it since it was read; "configs versions" shows the revisions.`,
		example: "amporactl configs cat edge@4 > edge.yaml\namporactl configs edit edge@4 --revision 2 -f edge.yaml",
	}, func(ctx context.Context, api *api, args []string) error {
		body, err := p.readBody(file)
		if err != nil {
			return err
		}
		config, ref, err := api.version(ctx, args[0], (*amporav1.Config).GetLatest)
		if err != nil {
			return err
		}
		draft, err := api.versionInfo(ctx, config, ref)
		if err != nil {
			return err
		}
		request := &amporav1.UpdateConfigVersionRequest{
			ConfigId: config.GetId(), Version: ref, Revision: draft.GetRevision(), Body: body, Note: first(note, draft.GetNote()),
		}
		if revision != 0 {
			request.Revision = revision
		}
		answer, err := api.configs.UpdateConfigVersion(ctx, request)
		if err != nil {
			return err
		}
		return p.showVersion(config, answer.GetVersion())
	})
	bodyFlag(cmd, &file)
	_ = cmd.MarkFlagRequired("file") // fails for an unknown flag only
	noteFlag(cmd, &note)
	revisionFlag(cmd, &revision)
	return cmd
}

func revisionFlag(cmd *cobra.Command, revision *int32) {
	cmd.Flags().Int32Var(revision, "revision", 0, "the revision `N` that was read; refused if it is another by now")
}

func (p *program) configsCat() *cobra.Command {
	return p.remote(verb{
		use: "cat CONFIG[@VERSION]", short: "Print the exact bytes of a version", args: cobra.ExactArgs(1),
		long: `Print the exact bytes of a version; without one, of the newest that is published, or of the newest if none is.
They may hold secrets: the call is audited. On a terminal, characters that could drive it are escaped.`,
		example: "amporactl configs cat edge@3 > edge.yaml",
	}, func(ctx context.Context, api *api, args []string) error {
		config, version, err := api.version(ctx, args[0], func(config *amporav1.Config) int32 {
			if published := config.GetLatestPublished(); published != 0 {
				return published
			}
			return config.GetLatest()
		})
		if err != nil {
			return err
		}
		answer, err := api.configs.GetConfigVersionBody(ctx,
			&amporav1.GetConfigVersionBodyRequest{ConfigId: config.GetId(), Version: version})
		if err != nil {
			return err
		}
		if p.format != formatTable {
			return p.show(answer, nil)
		}
		return writeExact(p.streams.Out, answer.GetBody())
	})
}

func (p *program) configsRender() *cobra.Command {
	var file, agent string
	cmd := p.remote(verb{
		use: "render CONFIG[@VERSION] | -f FILE --agent AGENT", short: "Print what an agent would be offered of a template", args: cobra.MaximumNArgs(1),
		long: `Print what an agent would be offered of a configuration that asks for what is known of it, as in
${ampora:tag:region}. Nothing is stored or sent. It may hold secrets: the call is audited.`,
		example: "amporactl configs render edge@4 --agent otelcol@db-7",
	}, func(ctx context.Context, api *api, args []string) error {
		source, err := p.source(ctx, api, file, args)
		if err != nil {
			return err
		}
		id, err := api.agentID(ctx, agent)
		if err != nil {
			return err
		}
		answer, err := api.configs.RenderConfig(ctx, &amporav1.RenderConfigRequest{Source: source, AgentId: id})
		if err != nil {
			return err
		}
		if p.format != formatTable {
			return p.show(answer, nil)
		}
		return writeExact(p.streams.Out, answer.GetBody())
	})
	bodyFlag(cmd, &file)
	cmd.Flags().StringVar(&agent, "agent", "", "the `AGENT` (id, prefix of it, or name)")
	_ = cmd.MarkFlagRequired("agent") // fails for an unknown flag only
	return cmd
}

func (p *program) configsPublish() *cobra.Command {
	var revision int32
	var waive []string
	cmd := p.remote(verb{
		use: "publish CONFIG[@VERSION] [flags]", short: "Make a draft immutable and assignable", args: cobra.ExactArgs(1),
		long: `Make a draft, by default the newest version, immutable and assignable. What the Collector would refuse is not
published; "configs check" says what that is. With --waive a rule does not stand in the way, for example where the rest
of a configuration lies on the agents' own disks; it stays on record.`,
		example: "amporactl configs publish edge@4\namporactl configs publish edge@4 --waive undefined-component",
	}, func(ctx context.Context, api *api, args []string) error {
		config, version, err := api.version(ctx, args[0], (*amporav1.Config).GetLatest)
		if err != nil {
			return err
		}
		published, err := api.publish(ctx, config, &amporav1.ConfigVersion{Version: version, Revision: revision}, waive)
		if err != nil {
			return err
		}
		return p.showVersion(config, published)
	})
	revisionFlag(cmd, &revision)
	cmd.Flags().StringSliceVar(&waive, "waive", nil, "the `RULE` that shall not stand in the way; may be given more than once")
	return cmd
}

func (p *program) configsRestore() *cobra.Command {
	var note string
	cmd := p.remote(verb{
		use: "restore CONFIG@VERSION [flags]", short: "Make the bytes of a version a new draft", args: cobra.ExactArgs(1),
		long:    "Make the bytes of a version, in whatever state it is, a new draft, to be looked at and published.",
		example: "amporactl configs restore edge@3 --note 'back to before the batch processor'",
	}, func(ctx context.Context, api *api, args []string) error {
		config, version, err := api.version(ctx, args[0], nil)
		if err != nil {
			return err
		}
		answer, err := api.configs.RestoreConfigVersion(ctx,
			&amporav1.RestoreConfigVersionRequest{ConfigId: config.GetId(), Version: version, Note: note})
		if err != nil {
			return err
		}
		return p.showVersion(config, answer.GetVersion())
	})
	noteFlag(cmd, &note)
	return cmd
}

func (p *program) configsUnarchive() *cobra.Command {
	return p.remote(verb{
		use: "unarchive CONFIG@VERSION", short: "Bring an archived version back into use", args: cobra.ExactArgs(1),
		long: "Bring an archived version back into use: it is published, as it was. Needs the role admin.",
	}, func(ctx context.Context, api *api, args []string) error {
		config, version, err := api.version(ctx, args[0], nil)
		if err != nil {
			return err
		}
		answer, err := api.configs.UnarchiveConfigVersion(ctx,
			&amporav1.UnarchiveConfigVersionRequest{ConfigId: config.GetId(), Version: version})
		if err != nil {
			return err
		}
		return p.showVersion(config, answer.GetVersion())
	})
}

func (p *program) configsArchive() *cobra.Command {
	return p.remote(verb{
		use: "archive CONFIG@VERSION", short: "Take a published version out of use", args: cobra.ExactArgs(1),
		long: "Take a published version out of use. It is refused while the version is assigned.",
	}, func(ctx context.Context, api *api, args []string) error {
		config, version, err := api.version(ctx, args[0], nil)
		if err != nil {
			return err
		}
		answer, err := api.configs.ArchiveConfigVersion(ctx,
			&amporav1.ArchiveConfigVersionRequest{ConfigId: config.GetId(), Version: version})
		if err != nil {
			return err
		}
		return p.showVersion(config, answer.GetVersion())
	})
}

// version finds a configuration and the version meant. normally chooses it when the reference names none; nil means
// that it must.
func (a *api) version(
	ctx context.Context, text string, normally func(*amporav1.Config) int32,
) (*amporav1.Config, int32, error) {
	ref, err := parseVersionRef(text)
	if err != nil {
		return nil, 0, err
	}
	if ref.version == 0 && normally == nil {
		return nil, 0, usage("name the version, as in %s@3", text)
	}
	config, err := a.config(ctx, ref.config)
	if err != nil {
		return nil, 0, err
	}
	if ref.version == 0 {
		ref.version = normally(config)
	}
	if ref.version == 0 {
		return nil, 0, fail(ExitNotFound, "add one with: amporactl configs push "+escape(ref.config)+" -f FILE",
			"the configuration %s has no version", ref.config)
	}
	return config, ref.version, nil
}

func (a *api) versionInfo(ctx context.Context, config *amporav1.Config, version int32) (*amporav1.ConfigVersion, error) {
	var found *amporav1.ConfigVersion
	err := eachPage(ctx, 0, a.versionPages(&amporav1.ListConfigVersionsRequest{ConfigId: config.GetId()}), func(versions []*amporav1.ConfigVersion) bool {
		for _, candidate := range versions {
			if candidate.GetVersion() == version {
				found = candidate
			}
		}
		return found == nil
	})
	if err == nil && found == nil {
		return nil, fail(ExitNotFound, "list them with: amporactl configs versions "+escape(config.GetName()),
			"the configuration %s has no version %d", config.GetName(), version)
	}
	return found, err
}
