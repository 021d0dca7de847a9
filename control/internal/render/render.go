// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package render makes offers of templates: it puts what is known of agents into what they are assigned, and keeps what
// came out under the hash of the offer.
//
// Agents of which the same is known get the same offer, and its body is stored once. An agent for which a template cannot
// be rendered gets nothing, and it is said why; it harms no other.
package render

import (
	"context"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// atOnce is how many bodies are held in memory.
const atOnce = 50

// Backend is the part of the database that rendering needs; see store.Work.
type Backend interface {
	TemplateValues(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID) (map[fleet.AgentID]fleet.TemplateValues, error)
	PutRenderings(ctx context.Context, tenant fleet.TenantID, renderings []fleet.Rendering, at time.Time) error
}

// Renderer renders. It is safe for concurrent use.
type Renderer struct {
	backend Backend
	content *content.Content
	now     func() time.Time
}

// New returns a Renderer.
func New(backend Backend, c *content.Content, now func() time.Time) *Renderer {
	return &Renderer{backend, c, now}
}

// Offers renders the templates that situations' agents are assigned, all of one tenant: what each is to be offered, or why
// there is no offer. What is returned is stored.
func (r *Renderer) Offers(ctx context.Context, tenant fleet.TenantID, assigned []fleet.Situation) (
	offers map[fleet.AgentID]fleet.VersionRef, refused map[fleet.AgentID]string, err error,
) {
	agents := make([]fleet.AgentID, len(assigned))
	for i, s := range assigned {
		agents[i] = s.Agent
	}
	values, err := r.backend.TemplateValues(ctx, tenant, agents)
	if err != nil {
		return nil, nil, fmt.Errorf("what templates ask for: %w", err)
	}
	b := batch{Renderer: r, tenant: tenant, templates: map[fleet.ContentHash]template{}, offers: map[fleet.AgentID]fleet.VersionRef{}, refused: map[fleet.AgentID]string{}}
	for _, s := range assigned {
		if err := b.render(ctx, s, values[s.Agent]); err != nil {
			return nil, nil, err
		}
		if len(b.bodies) == atOnce {
			if err := b.store(ctx); err != nil {
				return nil, nil, err
			}
		}
	}
	return b.offers, b.refused, b.store(ctx)
}

// batch is one call of Offers.
type batch struct {
	*Renderer
	tenant    fleet.TenantID
	templates map[fleet.ContentHash]template
	offers    map[fleet.AgentID]fleet.VersionRef
	refused   map[fleet.AgentID]string
	// What is to be stored yet.
	bodies     [][]byte
	renderings []fleet.Rendering
	stored     map[fleet.OfferHash]bool
}

// template is a template, or why there is none.
type template struct {
	*collector.Template
	wrong string
}

func (b *batch) render(ctx context.Context, s fleet.Situation, values fleet.TemplateValues) error {
	t, err := b.template(ctx, s.Assigned.Hash)
	if err != nil {
		return err
	}
	if t.wrong != "" {
		b.refused[s.Agent] = t.wrong
		return nil
	}
	body, err := t.Render(values.Value)
	if err != nil {
		b.refused[s.Agent] = fault.From(err).Message
		return nil
	}
	v := *s.Assigned
	v.Hash, v.Size, v.Templated = fleet.HashOf(body), int64(len(body)), false
	v.Offer = fleet.Rendered(v.Hash, v.Size, v.Type).OfferHash()
	b.offers[s.Agent] = v
	// What the agent is on its way to already was stored when it was decided.
	if b.stored[v.Offer] || s.Delivery.Desired.Offer == v.Offer {
		return nil
	}
	if b.stored == nil {
		b.stored = map[fleet.OfferHash]bool{}
	}
	b.stored[v.Offer] = true
	b.bodies = append(b.bodies, body)
	b.renderings = append(b.renderings, fleet.Rendering{Config: v.Config, Version: v.Version, Offer: v.Offer, Hash: v.Hash, Size: v.Size})
	return nil
}

// template reads a template once.
func (b *batch) template(ctx context.Context, hash fleet.ContentHash) (template, error) {
	if t, read := b.templates[hash]; read {
		return t, nil
	}
	body, err := b.content.Known(ctx, b.tenant, hash)
	if err != nil {
		return template{}, fmt.Errorf("read a template: %w", err)
	}
	var t template
	if t.Template, err = collector.ParseTemplate(body); err != nil {
		t.wrong = fault.From(err).Message
	}
	b.templates[hash] = t
	return t, nil
}

func (b *batch) store(ctx context.Context) error {
	if len(b.bodies) == 0 {
		return nil
	}
	now := b.now()
	if _, err := b.content.Put(ctx, b.tenant, now, b.bodies...); err != nil {
		return fmt.Errorf("store what was rendered: %w", err)
	}
	if err := b.backend.PutRenderings(ctx, b.tenant, b.renderings, now); err != nil {
		return fmt.Errorf("store what was rendered: %w", err)
	}
	b.bodies, b.renderings = nil, nil
	return nil
}

// Preview is what an agent would be offered of a template: nothing is stored. The error says why there is no offer.
func (r *Renderer) Preview(ctx context.Context, tenant fleet.TenantID, agent fleet.AgentID, body []byte) ([]byte, error) {
	t, err := collector.ParseTemplate(body)
	if err != nil {
		return nil, err
	}
	values, err := r.backend.TemplateValues(ctx, tenant, []fleet.AgentID{agent})
	if err != nil {
		return nil, fmt.Errorf("what templates ask for: %w", err)
	}
	v, there := values[agent]
	if !there {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "there is no such agent")
	}
	return t.Render(v.Value)
}
