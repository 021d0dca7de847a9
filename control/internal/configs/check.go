// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/validator"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which a draft is not published.
const (
	// ReasonRefused: its checks find what the Collector or a rule refuses. The metadata "rules" names the rules, "errors" says
	// how many findings there are, and "rule", "path", "line" and "column" are those of the first.
	ReasonRefused = "CONFIG_REFUSED"
	// ReasonNotWaivable: a rule that is to be waived is none, or is about syntax.
	ReasonNotWaivable = "RULE_NOT_WAIVABLE"
)

// mostBuilds is how many builds of an audience are looked at.
const mostBuilds = 100

// Source is a configuration as bytes, or (Ref.Config is set) as a version that is stored.
type Source struct {
	Ref  Ref
	Body []byte
}

// Verdict is what there is to say about a configuration.
type Verdict struct {
	Findings []collector.Finding
	Semantic fleet.SemanticHash
	// Builds of the audience, the most frequent first, and how many agents there are whose builds are not among them.
	Builds []BuildVerdict
	Beyond int
}

// BuildVerdict is what agents with one build can do with it.
type BuildVerdict struct {
	fleet.Build
	Missing []collector.Finding
	// Collector is what the build itself says; without an outcome if there is nobody to ask.
	Collector validator.Verdict
}

// Publishable says whether nothing stands in the way.
func (v Verdict) Publishable() bool { return len(v.errors()) == 0 }

func (v Verdict) errors() []collector.Finding {
	return slices.DeleteFunc(slices.Clone(v.Findings), func(f collector.Finding) bool { return f.Severity != collector.Error })
}

// Agents are how many agents of the audience have all that is used, lack something or have a build that refuses it, and
// did not say what they have.
func (v Verdict) Agents() (valid, invalid, unknown int) {
	for _, b := range v.Builds {
		switch {
		case len(b.Missing) > 0 || b.Collector.Outcome == validator.Refused:
			invalid += b.Agents
		case b.Components == nil && b.Collector.Outcome != validator.Accepted:
			unknown += b.Agents
		default:
			valid += b.Agents
		}
	}
	return valid, invalid, unknown + v.Beyond
}

// Check says what there is to say about a configuration and, if an audience is given, about each build in it. The zero
// target is every agent.
func (c *Configs) Check(ctx context.Context, tenant fleet.TenantID, s Source, audience *fleet.Target) (Verdict, error) {
	kind, body := fleet.KindCollector, s.Body
	if s.Ref.Config != "" {
		config, _, stored, err := c.read(ctx, tenant, s.Ref)
		if err != nil {
			return Verdict{}, err
		}
		kind, body = config.Kind, stored
	}
	model, verdict, err := c.judge(ctx, tenant, kind, body)
	if err != nil || audience == nil {
		return verdict, err
	}
	builds, total, err := c.store.Builds(ctx, tenant, *audience, mostBuilds)
	if err != nil {
		return Verdict{}, err
	}
	verdict.Beyond = total
	for _, b := range builds {
		found := BuildVerdict{Build: b}
		if model != nil {
			found.Missing = model.Missing(b.Components)
		}
		verdict.Builds, verdict.Beyond = append(verdict.Builds, found), verdict.Beyond-b.Agents
	}
	c.ask(ctx, model, verdict.Builds)
	return verdict, nil
}

// ask adds what the builds themselves have to say, as far as a validator has them.
func (c *Configs) ask(ctx context.Context, model *collector.Config, builds []BuildVerdict) {
	if model == nil {
		return
	}
	key := func(b BuildVerdict) validator.Key {
		return validator.Key{Name: b.ServiceName, Version: b.ServiceVersion}
	}
	keys := make([]validator.Key, len(builds))
	for i, b := range builds {
		keys[i] = key(b)
	}
	said := c.validator.Check(ctx, model, keys)
	for i, b := range builds {
		builds[i].Collector = said[key(b)]
	}
}

// judge is what can be said of bytes without looking at the fleet: the rules that everybody has, then the tenant's own. Of
// what is no Collector's nothing is known, and its model is nil.
func (c *Configs) judge(ctx context.Context, tenant fleet.TenantID, kind fleet.ConfigKind, body []byte) (*collector.Config, Verdict, error) {
	if kind != fleet.KindCollector {
		return nil, Verdict{}, nil
	}
	model, findings := collector.Check(body)
	verdict := Verdict{Findings: findings}
	if model == nil {
		return nil, verdict, nil
	}
	verdict.Semantic = model.SemanticHash()
	rules, err := c.rules.of(ctx, tenant)
	if err != nil {
		return nil, Verdict{}, err
	}
	own, err := model.Judge(ctx, rules)
	verdict.Findings = append(verdict.Findings, own...)
	return model, verdict, err
}

// refusal is why a draft is not published: nil if every finding of severity error is of a rule that is waived. waived are
// those of the rules that were needed.
func refusal(v Verdict, waive []string) (waived []string, err error) {
	rules := collector.Rules()
	for _, id := range waive {
		if !slices.ContainsFunc(rules, func(r collector.Rule) bool { return r.ID == id && r.Layer != collector.Syntax }) {
			return nil, fault.New(fault.Invalid, ReasonNotWaivable, "%s is no rule that can be waived", id).With("rule", id)
		}
	}
	var broken []string
	var first *collector.Finding
	count := 0
	for _, f := range v.errors() {
		if slices.Contains(waive, f.Rule) {
			waived = append(waived, f.Rule)
			continue
		}
		if first == nil {
			first = &f
		}
		broken, count = append(broken, f.Rule), count+1
	}
	slices.Sort(waived)
	waived = slices.Compact(waived)
	if first == nil {
		return waived, nil
	}
	slices.Sort(broken)
	refused := fault.New(fault.Invalid, ReasonRefused, "line %d: %s%s", first.Line, first.Message, further(count-1)).
		With("errors", strconv.Itoa(count)).With("rules", strings.Join(slices.Compact(broken), " ")).
		With("rule", first.Rule).With("path", first.Path).With("line", strconv.Itoa(first.Line)).With("column", strconv.Itoa(first.Column))
	return nil, refused
}

func further(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "; and one more error"
	default:
		return "; and " + strconv.Itoa(n) + " more errors"
	}
}
