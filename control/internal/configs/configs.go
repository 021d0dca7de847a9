// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package configs turns bytes into versions of configurations: it checks them, stores them, brings them back, and says
// how one differs from another.
//
// What is guaranteed: bytes are stored and given back exactly; nothing that no agent of its kind could take is stored;
// what is published was checked as it is, in the revision that is published.
package configs

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/render"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/validator"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonChanged refuses a change of a draft that somebody else has changed. Its metadata say what is there now:
// "revision", "content_hash", "changed_by" and "changed_at" (RFC 3339).
const ReasonChanged = "DRAFT_CHANGED"

// Configs is the library of configurations.
type Configs struct {
	store   Backend
	content *content.Content

	renderer *render.Renderer
	rules    *ruleBook
	// validator is nil if there is none.
	validator *validator.Client
}

// Backend is the part of the database that the library needs.
type Backend interface {
	store.Configs
	store.ConfigRules
	store.Fleet
}

// New returns the library in the database, with the bytes in content. The renderer previews; the validator is nil if there
// is none.
func New(db Backend, c *content.Content, r *render.Renderer, v *validator.Client) *Configs {
	return &Configs{store: db, content: c, renderer: r, rules: newRuleBook(db), validator: v}
}

// Draft is what somebody wrote.
type Draft struct {
	Body []byte
	Note string
}

// Ref names a version. Revision is the one that was read, 0 for whichever.
type Ref struct {
	Config   fleet.ConfigID
	Version  int
	Revision int
}

// Create stores a configuration, with a first draft if there is one.
func (c *Configs) Create(ctx context.Context, by fleet.By, config fleet.Config, first *Draft) (fleet.Config, fleet.ConfigVersion, error) {
	config.Tenant, config.ID, config.CreatedAt = by.Tenant, fleet.ConfigID(uuid.Must(uuid.NewV7()).String()), by.At
	if first == nil {
		created, err := c.store.CreateConfig(ctx, by, config, nil)
		return created, fleet.ConfigVersion{}, err
	}
	v, err := c.keep(ctx, by, config, *first)
	if err != nil {
		return fleet.Config{}, fleet.ConfigVersion{}, err
	}
	created, err := c.store.CreateConfig(ctx, by, config, &v)
	if err != nil {
		return fleet.Config{}, fleet.ConfigVersion{}, err
	}
	v, err = c.store.ConfigVersion(ctx, by.Tenant, created.ID, created.Latest)
	return created, v, err
}

// Add stores a further draft of a configuration, found by id or name.
func (c *Configs) Add(ctx context.Context, by fleet.By, idOrName string, d Draft) (fleet.ConfigVersion, error) {
	config, err := c.store.Config(ctx, by.Tenant, idOrName)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return c.add(ctx, by, config, d)
}

func (c *Configs) add(ctx context.Context, by fleet.By, config fleet.Config, d Draft) (fleet.ConfigVersion, error) {
	v, err := c.keep(ctx, by, config, d)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return c.store.CreateConfigVersion(ctx, by, v)
}

// Update replaces a draft. If it was changed since the revision that was read, the error says by whom and to what.
func (c *Configs) Update(ctx context.Context, by fleet.By, ref Ref, d Draft) (fleet.ConfigVersion, error) {
	config, err := c.store.Config(ctx, by.Tenant, string(ref.Config))
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	v, err := c.keep(ctx, by, config, d)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	v.Version, v.Revision = ref.Version, ref.Revision
	updated, err := c.store.UpdateConfigVersion(ctx, by, v)
	return updated, c.explained(ctx, by.Tenant, ref, err)
}

// Publish makes a draft immutable, if its checks find nothing that the Collector refuses but what the rules to waive are
// about. The revision that was checked is the one that is published.
func (c *Configs) Publish(ctx context.Context, by fleet.By, ref Ref, waive []string) (fleet.ConfigVersion, error) {
	config, v, body, err := c.read(ctx, by.Tenant, ref)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	_, verdict, err := c.judge(ctx, by.Tenant, config.Kind, body)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	waived, err := refusal(verdict, waive)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	if ref.Revision == 0 {
		ref.Revision = v.Revision
	}
	published, err := c.store.PublishConfigVersion(ctx, by, fleet.Publication{
		Config: ref.Config, Version: ref.Version, Revision: ref.Revision, Semantic: verdict.Semantic, Templated: templated(config.Kind, body), Waived: waived,
	})
	return published, c.explained(ctx, by.Tenant, ref, err)
}

// Restore makes the bytes of a version a new draft. They were checked when they were stored, and are when they are
// published.
func (c *Configs) Restore(ctx context.Context, by fleet.By, ref Ref, note string) (fleet.ConfigVersion, error) {
	v, err := c.store.ConfigVersion(ctx, by.Tenant, ref.Config, ref.Version)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	v.RestoredFrom, v.Note = v.Version, note
	if note == "" {
		v.Note = "restored from version " + strconv.Itoa(v.Version)
	}
	return c.store.CreateConfigVersion(ctx, by, v)
}

// keep checks and stores bytes, and is the draft that refers to them, without a number.
func (c *Configs) keep(ctx context.Context, by fleet.By, config fleet.Config, d Draft) (fleet.ConfigVersion, error) {
	semantic, err := meaning(config.Kind, d.Body)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	hashes, err := c.content.Put(ctx, by.Tenant, by.At, d.Body)
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	size, contentType := int64(len(d.Body)), config.Kind.ContentType()
	return fleet.ConfigVersion{
		Tenant: by.Tenant, Config: config.ID, State: fleet.VersionDraft, Hash: hashes[0], Size: size, ContentType: contentType,
		Offer: fleet.Rendered(hashes[0], size, contentType).OfferHash(), Semantic: semantic, Templated: templated(config.Kind, d.Body), Revision: 1, Note: d.Note,
		CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}, nil
}

// read finds a version with its configuration and its bytes.
func (c *Configs) read(ctx context.Context, tenant fleet.TenantID, ref Ref) (fleet.Config, fleet.ConfigVersion, []byte, error) {
	config, err := c.store.Config(ctx, tenant, string(ref.Config))
	if err != nil {
		return fleet.Config{}, fleet.ConfigVersion{}, nil, err
	}
	v, err := c.store.ConfigVersion(ctx, tenant, ref.Config, ref.Version)
	if err != nil {
		return fleet.Config{}, fleet.ConfigVersion{}, nil, err
	}
	body, err := c.content.Known(ctx, tenant, v.Hash)
	return config, v, body, err
}

// templated says whether bytes ask for what is known of an agent. Only those of the Collector can: of others nobody could
// say whether a value stays in its place.
func templated(kind fleet.ConfigKind, body []byte) bool {
	return kind == fleet.KindCollector && collector.IsTemplate(body)
}

// meaning is what bytes mean, if they are of a kind that this program understands. Bytes that no agent of their kind could
// take are refused.
func meaning(kind fleet.ConfigKind, body []byte) (fleet.SemanticHash, error) {
	if kind != fleet.KindCollector {
		return fleet.SemanticHash{}, nil
	}
	model, err := collector.Parse(body)
	if err != nil {
		return fleet.SemanticHash{}, err
	}
	return model.SemanticHash(), nil
}

// explained turns a lost write of a draft into what there is to know about the one that won.
func (c *Configs) explained(ctx context.Context, tenant fleet.TenantID, ref Ref, err error) error {
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	now, readErr := c.store.ConfigVersion(ctx, tenant, ref.Config, ref.Version)
	if readErr != nil {
		return err
	}
	return fault.New(fault.Conflict, ReasonChanged, "revision %d of the draft is not the last: %s wrote revision %d; read that and change it anew",
		ref.Revision, now.ChangedBy, now.Revision).
		With("revision", strconv.Itoa(now.Revision)).With("content_hash", now.Hash.String()).
		With("changed_by", now.ChangedBy).With("changed_at", now.ChangedAt.Format(time.RFC3339)).WithCause(err)
}
