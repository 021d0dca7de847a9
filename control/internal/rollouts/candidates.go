// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"errors"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

const (
	// blastTags is how many keys of tags a blast radius is told by: those that most agents have.
	blastTags = 8
	// readAtOnce is how many rows are read at once.
	readAtOnce = 1000
)

// blastLabels are labels that say where an agent is.
var blastLabels = []string{"cloud.region", "deployment.environment", "deployment.environment.name", "k8s.cluster.name", "os.type"}

// candidates reads what a plan has to know of agents, and says how much each would be changed.
func (r *Rollouts) candidates(ctx context.Context, tenant fleet.TenantID, d fleet.RolloutDefinition, of store.RolloutScope) ([]fleet.RolloutCandidate, error) {
	tags, err := r.store.LabelsInUse(ctx, tenant, store.Tags, "", blastTags)
	if err != nil {
		return nil, err
	}
	of.Group, of.Config, of.Version, of.Blast = d.Group, d.Config, d.Version, slices.Concat(of.Blast, blastLabels)
	for _, tag := range tags {
		of.Blast = append(of.Blast, tag.Text)
	}
	if d.Order.Kind == fleet.OrderSpread {
		of.Spread, of.Blast = d.Order.Label, append(of.Blast, d.Order.Label)
	}
	slices.Sort(of.Blast)
	of.Blast = slices.Compact(of.Blast)
	list, err := r.store.RolloutCandidates(ctx, tenant, of)
	if err != nil {
		return nil, err
	}
	classes := classes{r, tenant, map[fleet.AssignedVersion]*version{}, map[[2]fleet.AssignedVersion]fleet.ChangeClass{}}
	for i, c := range list {
		to := c.Target
		if to == (fleet.AssignedVersion{}) {
			to = fleet.AssignedVersion{Config: d.Config, Version: d.Version}
		}
		if list[i].Change, err = classes.of(ctx, c, to); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// classes says how much agents are changed. Each two versions are compared once.
type classes struct {
	*Rollouts
	tenant   fleet.TenantID
	versions map[fleet.AssignedVersion]*version
	compared map[[2]fleet.AssignedVersion]fleet.ChangeClass
}

// version is a version that was read; config is nil if what it means is not known.
type version struct {
	offer  fleet.OfferHash
	config *collector.Config
}

// of is the class of the change from what an agent runs to another version.
func (c *classes) of(ctx context.Context, agent fleet.RolloutCandidate, to fleet.AssignedVersion) (fleet.ChangeClass, error) {
	if agent.Runs == (fleet.AssignedVersion{}) {
		return fleet.ChangeNew, nil
	}
	next, err := c.version(ctx, to)
	if err != nil {
		return "", err
	}
	if agent.RunsOffer == next.offer {
		return fleet.ChangeNone, nil
	}
	pair := [2]fleet.AssignedVersion{agent.Runs, to}
	if class, known := c.compared[pair]; known {
		return class, nil
	}
	runs, err := c.version(ctx, agent.Runs)
	if err != nil {
		return "", err
	}
	c.compared[pair] = compare(runs, next)
	return c.compared[pair], nil
}

func compare(runs, next *version) fleet.ChangeClass {
	if runs.config == nil || next.config == nil {
		return fleet.ChangeOpaque
	}
	changes := collector.Diff(runs.config, next.config)
	switch {
	case len(changes) == 0:
		return fleet.ChangeFormat
	// What is left out of so many may be anything.
	case len(changes) >= collector.MaxChanges, slices.ContainsFunc(changes, ofPipelines):
		return fleet.ChangePipelines
	default:
		return fleet.ChangeComponents
	}
}

func ofPipelines(c collector.Change) bool {
	return slices.Contains([]collector.ChangeKind{
		collector.PipelineAdded, collector.PipelineRemoved, collector.MemberAdded, collector.MemberRemoved, collector.MemberMoved, collector.MembersReordered,
	}, c.Kind)
}

// version reads a version once. What is of another kind, a template, or not there any more means nothing.
func (c *classes) version(ctx context.Context, of fleet.AssignedVersion) (*version, error) {
	if v, read := c.versions[of]; read {
		return v, nil
	}
	stored, err := c.store.ConfigVersion(ctx, c.tenant, of.Config, of.Version)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	v := &version{offer: stored.Offer}
	c.versions[of] = v
	// What is not there has no meaning either.
	if stored.Templated || stored.Semantic.IsZero() {
		return v, nil
	}
	body, err := c.content.Known(ctx, c.tenant, stored.Hash)
	if err != nil {
		return nil, err
	}
	if parsed, err := collector.Parse(body); err == nil {
		v.config = parsed
	}
	return v, nil
}
