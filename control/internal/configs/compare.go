// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/drift"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which configurations are not compared.
const (
	// ReasonNotAssigned: nothing is assigned to the agent.
	ReasonNotAssigned = "NOTHING_ASSIGNED"
	// ReasonNotReported: the agent has not said what it runs, or not in one file.
	ReasonNotReported = "NOT_REPORTED"
	// ReasonOpaque: one of the two means nothing to this program; their bytes can be compared.
	ReasonOpaque = "CONFIG_OPAQUE"
)

// Side is one of two configurations that are compared: a source, or that of an agent.
type Side struct {
	Source
	Assigned  fleet.AgentID // what it shall run
	Effective fleet.AgentID // what it says it runs
}

// side is a configuration that was read.
type side struct {
	name      string // for people
	entity    string // and for the audit log: kind and id
	id        string
	kind      fleet.ConfigKind
	body      []byte
	effective bool
}

// Comparison is how one configuration differs from another.
type Comparison struct {
	Same    bool // byte for byte
	Changes []collector.Change
}

// Compare says how the meaning of to differs from that of from. Of what an agent runs it is only said what it does not do
// of the other: it says more than anybody wrote.
func (c *Configs) Compare(ctx context.Context, tenant fleet.TenantID, from, to Side) (Comparison, error) {
	a, b, err := c.sides(ctx, tenant, from, to)
	if err != nil {
		return Comparison{}, err
	}
	if a.kind != fleet.KindCollector || b.kind != fleet.KindCollector {
		return Comparison{}, fault.New(fault.FailedPrecondition, ReasonOpaque, "only configurations of the Collector are compared by what they mean")
	}
	before, err := collector.Parse(a.body)
	if err != nil {
		return Comparison{}, err
	}
	after, err := collector.Parse(b.body)
	if err != nil {
		return Comparison{}, err
	}
	compared := Comparison{Same: bytes.Equal(a.body, b.body)}
	if b.effective && !a.effective {
		compared.Changes = collector.Drift(before, after)
	} else {
		compared.Changes = collector.Diff(before, after)
	}
	return compared, nil
}

// DiffTexts is the difference of the bytes, in the unified format. They may hold secrets: reveal is called for each that
// is stored, before it is told.
func (c *Configs) DiffTexts(ctx context.Context, tenant fleet.TenantID, from, to Side, reveal func(entity, id string) error) (string, error) {
	a, b, err := c.sides(ctx, tenant, from, to)
	if err != nil {
		return "", err
	}
	for _, s := range []side{a, b} {
		if s.entity == "" {
			continue
		}
		if err := reveal(s.entity, s.id); err != nil {
			return "", err
		}
	}
	return collector.TextDiff(collector.Text{Name: a.name, Body: a.body}, collector.Text{Name: b.name, Body: b.body})
}

func (c *Configs) sides(ctx context.Context, tenant fleet.TenantID, from, to Side) (a, b side, err error) {
	if a, err = c.side(ctx, tenant, from); err != nil {
		return a, b, err
	}
	b, err = c.side(ctx, tenant, to)
	return a, b, err
}

func (c *Configs) side(ctx context.Context, tenant fleet.TenantID, s Side) (side, error) {
	switch {
	case s.Effective != "":
		return c.effective(ctx, tenant, s.Effective)
	case s.Assigned != "":
		agent, err := c.store.Agent(ctx, tenant, s.Assigned)
		if err != nil {
			return side{}, err
		}
		desired := agent.Delivery.Desired
		if desired.Version == 0 {
			return side{}, fault.New(fault.FailedPrecondition, ReasonNotAssigned, "nothing is assigned to the agent")
		}
		return c.stored(ctx, tenant, Ref{Config: desired.Config, Version: desired.Version})
	case s.Ref.Config != "":
		return c.stored(ctx, tenant, s.Ref)
	default:
		return side{name: "given", kind: fleet.KindCollector, body: s.Body}, nil
	}
}

func (c *Configs) stored(ctx context.Context, tenant fleet.TenantID, ref Ref) (side, error) {
	config, v, body, err := c.read(ctx, tenant, ref)
	number := strconv.Itoa(v.Version)
	return side{
		name: config.Name + "@" + number, entity: "config_version", id: string(v.Config) + "/" + number, kind: config.Kind, body: body,
	}, err
}

func (c *Configs) effective(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (side, error) {
	agent, err := c.store.Agent(ctx, tenant, id)
	if err != nil {
		return side{}, err
	}
	parts, err := c.store.Parts(ctx, tenant, id)
	if err != nil {
		return side{}, err
	}
	var said *fleet.EffectiveConfig
	if part, reported := parts[fleet.PartEffectiveConfig]; reported {
		if err := json.Unmarshal(part.Value, &said); err != nil {
			return side{}, fmt.Errorf("effective configuration of agent %s: %w", id, err)
		}
	}
	file, reported := drift.Effective(said)
	if !reported {
		return side{}, fault.New(fault.NotFound, ReasonNotReported, "the agent has not said, in one file, what it runs")
	}
	body, err := c.content.Known(ctx, tenant, file.Hash)
	return side{
		name: agent.DisplayName(), entity: "agent", id: string(id), kind: fleet.KindCollector, body: body, effective: true,
	}, err
}

// Render is what an agent would be offered of a configuration. reveal is called for one that is stored, before it is told.
func (c *Configs) Render(ctx context.Context, tenant fleet.TenantID, s Source, agent fleet.AgentID, reveal func(entity, id string) error) ([]byte, error) {
	from, err := c.side(ctx, tenant, Side{Source: s})
	if err != nil {
		return nil, err
	}
	if from.entity != "" {
		if err := reveal(from.entity, from.id); err != nil {
			return nil, err
		}
	}
	if !templated(from.kind, from.body) {
		return from.body, nil
	}
	return c.renderer.Preview(ctx, tenant, agent, from.body)
}
