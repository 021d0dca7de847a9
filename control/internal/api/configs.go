// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	library "gitlab.com/ampora/ampora/control/internal/configs"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// configs is the ConfigService.
type configs struct {
	library *library.Configs
	store   store.Configs
	access  store.Access
	content *content.Content
}

// CreateConfig creates a configuration, with a first draft if the request has a body.
func (s *configs) CreateConfig(ctx context.Context, r *amporav1.CreateConfigRequest) (*amporav1.CreateConfigResponse, error) {
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	var first *library.Draft
	if r.Body != nil {
		first = &library.Draft{Body: r.GetBody(), Note: r.GetNote()}
	}
	c, v, err := s.library.Create(ctx, auth.By(ctx),
		fleet.Config{Name: r.GetName(), Description: r.GetDescription(), Kind: kindFrom(r.GetKind())}, first)
	answer := &amporav1.CreateConfigResponse{Config: config(c)}
	if first != nil {
		answer.Version = version(v)
	}
	return answer, err
}

// CheckConfig says what there is to say about a configuration.
func (s *configs) CheckConfig(ctx context.Context, r *amporav1.CheckConfigRequest) (*amporav1.CheckConfigResponse, error) {
	verdict, err := s.library.Check(ctx, auth.By(ctx).Tenant, sourceFrom(r.GetSource()), audienceFrom(r.GetAudience()))
	if err != nil {
		return nil, err
	}
	valid, invalid, unknown := verdict.Agents()
	return &amporav1.CheckConfigResponse{
		Findings: each(verdict.Findings, finding), SemanticHash: hashText(verdict.Semantic), Publishable: verdict.Publishable(),
		Builds: each(verdict.Builds, buildVerdict), ValidAgents: int64(valid), InvalidAgents: int64(invalid), UnknownAgents: int64(unknown),
	}, nil
}

// CompareConfigs says how the meaning of two configurations differs.
func (s *configs) CompareConfigs(ctx context.Context, r *amporav1.CompareConfigsRequest) (*amporav1.CompareConfigsResponse, error) {
	c, err := s.library.Compare(ctx, auth.By(ctx).Tenant, sideFrom(r.GetFrom()), sideFrom(r.GetTo()))
	return &amporav1.CompareConfigsResponse{SameBytes: c.Same, Changes: each(c.Changes, change)}, err
}

// DiffConfigTexts reveals how the bytes of two configurations differ.
func (s *configs) DiffConfigTexts(ctx context.Context, r *amporav1.DiffConfigTextsRequest) (*amporav1.DiffConfigTextsResponse, error) {
	by := auth.By(ctx)
	reveal := func(entity, id string) error { return s.access.RecordAudit(ctx, by, "config.diff", entity, id) }
	unified, err := s.library.DiffTexts(ctx, by.Tenant, sideFrom(r.GetFrom()), sideFrom(r.GetTo()), reveal)
	return &amporav1.DiffConfigTextsResponse{Unified: unified}, err
}

// RenderConfig reveals what an agent would be offered.
func (s *configs) RenderConfig(ctx context.Context, r *amporav1.RenderConfigRequest) (*amporav1.RenderConfigResponse, error) {
	by := auth.By(ctx)
	reveal := func(entity, id string) error { return s.access.RecordAudit(ctx, by, "config.render", entity, id) }
	body, err := s.library.Render(ctx, by.Tenant, sourceFrom(r.GetSource()), fleet.AgentID(r.GetAgentId()), reveal)
	return &amporav1.RenderConfigResponse{Body: body}, err
}

// ImportConfig stores bytes under the name they give themselves.
func (s *configs) ImportConfig(ctx context.Context, r *amporav1.ImportConfigRequest) (*amporav1.ImportConfigResponse, error) {
	i, err := s.library.Import(ctx, auth.By(ctx), library.Import{
		Draft: library.Draft{Body: r.GetBody(), Note: r.GetNote()}, Name: r.GetName(), Kind: configKinds.decode(r.GetKind()),
	})
	return &amporav1.ImportConfigResponse{Config: config(i.Config), Version: version(i.Version), Unchanged: i.Unchanged}, err
}

// GetConfig finds a configuration by id or name.
func (s *configs) GetConfig(ctx context.Context, r *amporav1.GetConfigRequest) (*amporav1.GetConfigResponse, error) {
	c, err := s.store.Config(ctx, auth.By(ctx).Tenant, r.GetConfig())
	return &amporav1.GetConfigResponse{Config: config(c)}, err
}

// ListConfigs lists by name.
func (s *configs) ListConfigs(ctx context.Context, r *amporav1.ListConfigsRequest) (*amporav1.ListConfigsResponse, error) {
	page, err := pageOf(listConfigs, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Configs(ctx, auth.By(ctx).Tenant, fleet.ConfigFilter{
		NamePrefix: r.GetNamePrefix(), Kind: configKinds.decode(r.GetKind()), Drafts: r.GetDrafts(),
	}, page)
	return &amporav1.ListConfigsResponse{Configs: each(list, config), NextPageToken: place(listConfigs, next)}, err
}

// CreateConfigVersion stores a body as a new draft.
func (s *configs) CreateConfigVersion(ctx context.Context, r *amporav1.CreateConfigVersionRequest) (*amporav1.CreateConfigVersionResponse, error) {
	v, err := s.library.Add(ctx, auth.By(ctx), r.GetConfigId(), library.Draft{Body: r.GetBody(), Note: r.GetNote()})
	return &amporav1.CreateConfigVersionResponse{Version: version(v)}, err
}

// UpdateConfigVersion replaces the body of a draft.
func (s *configs) UpdateConfigVersion(ctx context.Context, r *amporav1.UpdateConfigVersionRequest) (*amporav1.UpdateConfigVersionResponse, error) {
	v, err := s.library.Update(ctx, auth.By(ctx),
		library.Ref{Config: fleet.ConfigID(r.GetConfigId()), Version: int(r.GetVersion()), Revision: int(r.GetRevision())},
		library.Draft{Body: r.GetBody(), Note: r.GetNote()})
	return &amporav1.UpdateConfigVersionResponse{Version: version(v)}, err
}

// RestoreConfigVersion makes the bytes of a version a new draft.
func (s *configs) RestoreConfigVersion(ctx context.Context, r *amporav1.RestoreConfigVersionRequest) (*amporav1.RestoreConfigVersionResponse, error) {
	v, err := s.library.Restore(ctx, auth.By(ctx),
		library.Ref{Config: fleet.ConfigID(r.GetConfigId()), Version: int(r.GetVersion())}, r.GetNote())
	return &amporav1.RestoreConfigVersionResponse{Version: version(v)}, err
}

// ListConfigVersions lists newest first.
func (s *configs) ListConfigVersions(ctx context.Context, r *amporav1.ListConfigVersionsRequest) (*amporav1.ListConfigVersionsResponse, error) {
	page, err := pageOf(listVersions, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.ConfigVersions(ctx, auth.By(ctx).Tenant, fleet.ConfigID(r.GetConfigId()), fleet.VersionFilter{
		State: versionStates.decode(r.GetState()),
		Hash:  hashFrom[fleet.ContentHash](r.GetContentHash()), Semantic: hashFrom[fleet.SemanticHash](r.GetSemanticHash()),
	}, page)
	return &amporav1.ListConfigVersionsResponse{Versions: each(list, version), NextPageToken: place(listVersions, next)}, err
}

// GetConfigVersionBody reveals the bytes of a version.
func (s *configs) GetConfigVersionBody(ctx context.Context, r *amporav1.GetConfigVersionBodyRequest) (*amporav1.GetConfigVersionBodyResponse, error) {
	by := auth.By(ctx)
	v, err := s.store.ConfigVersion(ctx, by.Tenant, fleet.ConfigID(r.GetConfigId()), int(r.GetVersion()))
	if err != nil {
		return nil, err
	}
	if err := s.access.RecordAudit(ctx, by, "config_version.reveal", "config_version", versionName(v)); err != nil {
		return nil, err
	}
	body, err := s.content.Known(ctx, by.Tenant, v.Hash)
	return &amporav1.GetConfigVersionBodyResponse{Version: version(v), Body: body}, err
}

// PublishConfigVersion makes a draft immutable.
func (s *configs) PublishConfigVersion(ctx context.Context, r *amporav1.PublishConfigVersionRequest) (*amporav1.PublishConfigVersionResponse, error) {
	v, err := s.library.Publish(ctx, auth.By(ctx),
		library.Ref{Config: fleet.ConfigID(r.GetConfigId()), Version: int(r.GetVersion()), Revision: int(r.GetRevision())}, r.GetWaive())
	return &amporav1.PublishConfigVersionResponse{Version: version(v)}, err
}

// ArchiveConfigVersion takes a published version out of use.
func (s *configs) ArchiveConfigVersion(ctx context.Context, r *amporav1.ArchiveConfigVersionRequest) (*amporav1.ArchiveConfigVersionResponse, error) {
	v, err := s.store.ArchiveConfigVersion(ctx, auth.By(ctx), fleet.ConfigID(r.GetConfigId()), int(r.GetVersion()))
	return &amporav1.ArchiveConfigVersionResponse{Version: version(v)}, err
}

// UnarchiveConfigVersion brings an archived version back into use.
func (s *configs) UnarchiveConfigVersion(ctx context.Context, r *amporav1.UnarchiveConfigVersionRequest) (*amporav1.UnarchiveConfigVersionResponse, error) {
	v, err := s.store.UnarchiveConfigVersion(ctx, auth.By(ctx), fleet.ConfigID(r.GetConfigId()), int(r.GetVersion()))
	return &amporav1.UnarchiveConfigVersionResponse{Version: version(v)}, err
}
