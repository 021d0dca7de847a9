// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"context"
	"slices"
	"sync"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonRuleTaken refuses a rule of a tenant with the id of one that everybody has.
const ReasonRuleTaken = "RULE_ID_TAKEN"

// ruleBook has the tenants' own rules ready to be asked. What was compiled is kept by its text.
type ruleBook struct {
	store store.ConfigRules

	mu       sync.Mutex
	compiled map[fleet.ConfigRule]collector.CompiledRule
}

// mostCompiled is how many rules are kept compiled.
const mostCompiled = 10_000

func newRuleBook(db store.ConfigRules) *ruleBook {
	return &ruleBook{store: db, compiled: map[fleet.ConfigRule]collector.CompiledRule{}}
}

// of returns the rules of a tenant as they are now. One that does not compile any more, because the language became
// stricter, is an error: what it forbids must not pass.
func (b *ruleBook) of(ctx context.Context, tenant fleet.TenantID) ([]collector.CompiledRule, error) {
	rules, err := b.store.ConfigRules(ctx, tenant)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ready := make([]collector.CompiledRule, len(rules))
	for i, r := range rules {
		if ready[i], err = b.compile(r); err != nil {
			return nil, err
		}
	}
	return ready, nil
}

func (b *ruleBook) compile(r fleet.ConfigRule) (collector.CompiledRule, error) {
	if c, kept := b.compiled[r]; kept {
		return c, nil
	}
	c, err := compile(r)
	if err != nil {
		return c, err
	}
	if len(b.compiled) >= mostCompiled {
		clear(b.compiled)
	}
	b.compiled[r] = c
	return c, nil
}

func compile(r fleet.ConfigRule) (collector.CompiledRule, error) {
	return collector.TenantRule{
		ID: r.ID, Severity: collector.Severity(r.Severity), Expression: r.Expression, Message: r.Message, Fix: r.Fix,
	}.Compile()
}

// PutRule stores a rule of the tenant's own that can be asked.
func (c *Configs) PutRule(ctx context.Context, by fleet.By, r fleet.ConfigRule) (fleet.ConfigRule, error) {
	if slices.ContainsFunc(collector.Rules(), func(known collector.Rule) bool { return known.ID == r.ID }) {
		return fleet.ConfigRule{}, fault.New(fault.AlreadyExists, ReasonRuleTaken, "there is a rule %s that everybody has", r.ID)
	}
	if _, err := compile(r); err != nil {
		return fleet.ConfigRule{}, err
	}
	return c.store.PutConfigRule(ctx, by, r)
}
