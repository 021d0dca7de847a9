// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// configs is the ConfigService.
type configs struct {
	store   store.Configs
	access  store.Access
	content *content.Content
}

// CreateConfig creates a configuration, with a first draft if the request has a body.
func (s *configs) CreateConfig(ctx context.Context, r *amporav1.CreateConfigRequest) (*amporav1.CreateConfigResponse, error) {
	by := auth.By(ctx)
	if err := checkName(r.GetName()); err != nil {
		return nil, err
	}
	c := fleet.Config{
		Tenant: by.Tenant, ID: newID[fleet.ConfigID](), Name: r.GetName(), Description: r.GetDescription(),
		Kind: kindFrom(r.GetKind()), CreatedAt: by.At,
	}
	var first *fleet.ConfigVersion
	if r.Body != nil {
		draft, err := s.draft(ctx, by, c, r.GetBody(), r.GetNote())
		if err != nil {
			return nil, err
		}
		first = &draft
	}
	created, err := s.store.CreateConfig(ctx, by, c, first)
	if err != nil || first == nil {
		return &amporav1.CreateConfigResponse{Config: config(created)}, err
	}
	v, err := s.store.ConfigVersion(ctx, by.Tenant, created.ID, created.Latest)
	return &amporav1.CreateConfigResponse{Config: config(created), Version: version(v)}, err
}

// draft checks and stores a body and is the draft that refers to it, without a number.
func (s *configs) draft(ctx context.Context, by fleet.By, c fleet.Config, body []byte, note string) (fleet.ConfigVersion, error) {
	if err := check(c.Kind, body); err != nil {
		return fleet.ConfigVersion{}, err
	}
	hashes, err := s.content.Put(ctx, by.Tenant, by.At, body)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	size, contentType := int64(len(body)), c.Kind.ContentType()
	return fleet.ConfigVersion{
		Tenant: by.Tenant, Config: c.ID, State: fleet.VersionDraft, Hash: hashes[0], Size: size, ContentType: contentType,
		Offer: fleet.Rendered(hashes[0], size, contentType).OfferHash(), Revision: 1, Note: note,
		CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}, nil
}

// check refuses a body that no agent of its kind could take.
func check(kind fleet.ConfigKind, body []byte) error {
	if kind == fleet.KindCollector {
		return collector.CheckMapping(body)
	}
	return nil
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
	list, next, err := s.store.Configs(ctx, auth.By(ctx).Tenant, page)
	return &amporav1.ListConfigsResponse{Configs: each(list, config), NextPageToken: place(listConfigs, next)}, err
}

// CreateConfigVersion stores a body as a new draft.
func (s *configs) CreateConfigVersion(ctx context.Context, r *amporav1.CreateConfigVersionRequest) (*amporav1.CreateConfigVersionResponse, error) {
	by := auth.By(ctx)
	c, err := s.store.Config(ctx, by.Tenant, r.GetConfigId())
	if err != nil {
		return nil, err
	}
	draft, err := s.draft(ctx, by, c, r.GetBody(), r.GetNote())
	if err != nil {
		return nil, err
	}
	v, err := s.store.CreateConfigVersion(ctx, by, draft)
	return &amporav1.CreateConfigVersionResponse{Version: version(v)}, err
}

// UpdateConfigVersion replaces the body of a draft.
func (s *configs) UpdateConfigVersion(ctx context.Context, r *amporav1.UpdateConfigVersionRequest) (*amporav1.UpdateConfigVersionResponse, error) {
	by := auth.By(ctx)
	c, err := s.store.Config(ctx, by.Tenant, r.GetConfigId())
	if err != nil {
		return nil, err
	}
	draft, err := s.draft(ctx, by, c, r.GetBody(), r.GetNote())
	if err != nil {
		return nil, err
	}
	draft.Version, draft.Revision = int(r.GetVersion()), int(r.GetRevision())
	v, err := s.store.UpdateConfigVersion(ctx, by, draft)
	return &amporav1.UpdateConfigVersionResponse{Version: version(v)}, err
}

// ListConfigVersions lists newest first.
func (s *configs) ListConfigVersions(ctx context.Context, r *amporav1.ListConfigVersionsRequest) (*amporav1.ListConfigVersionsResponse, error) {
	page, err := pageOf(listVersions, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.ConfigVersions(ctx, auth.By(ctx).Tenant, fleet.ConfigID(r.GetConfigId()), page)
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
	body, err := stored(s.content.Get(ctx, by.Tenant, v.Hash))
	return &amporav1.GetConfigVersionBodyResponse{Version: version(v), Body: body}, err
}

// PublishConfigVersion makes a draft immutable. Its body is looked at once more: rules may have become stricter since it
// was stored, and what is published can be offered. The revision that was looked at is the one that is published.
func (s *configs) PublishConfigVersion(ctx context.Context, r *amporav1.PublishConfigVersionRequest) (*amporav1.PublishConfigVersionResponse, error) {
	by, id := auth.By(ctx), fleet.ConfigID(r.GetConfigId())
	draft, err := s.verified(ctx, by.Tenant, id, int(r.GetVersion()))
	if err != nil {
		return nil, err
	}
	revision := draft.Revision
	if r.GetRevision() != 0 {
		revision = int(r.GetRevision())
	}
	v, err := s.store.PublishConfigVersion(ctx, by, id, draft.Version, revision)
	return &amporav1.PublishConfigVersionResponse{Version: version(v)}, err
}

// verified is a version whose body is there and fit for its kind.
func (s *configs) verified(ctx context.Context, tenant fleet.TenantID, id fleet.ConfigID, number int) (fleet.ConfigVersion, error) {
	c, err := s.store.Config(ctx, tenant, string(id))
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	v, err := s.store.ConfigVersion(ctx, tenant, id, number)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	body, err := stored(s.content.Get(ctx, tenant, v.Hash))
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return v, check(c.Kind, body)
}

// ArchiveConfigVersion takes a published version out of use.
func (s *configs) ArchiveConfigVersion(ctx context.Context, r *amporav1.ArchiveConfigVersionRequest) (*amporav1.ArchiveConfigVersionResponse, error) {
	v, err := s.store.ArchiveConfigVersion(ctx, auth.By(ctx), fleet.ConfigID(r.GetConfigId()), int(r.GetVersion()))
	return &amporav1.ArchiveConfigVersionResponse{Version: version(v)}, err
}
