// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/collector"
	library "gitlab.com/ampora/ampora/control/internal/configs"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// configRules is the ConfigRuleService.
type configRules struct {
	library *library.Configs
	store   store.ConfigRules
}

// ListConfigRules lists by id.
func (s *configRules) ListConfigRules(ctx context.Context, _ *amporav1.ListConfigRulesRequest) (*amporav1.ListConfigRulesResponse, error) {
	rules, err := s.store.ConfigRules(ctx, auth.By(ctx).Tenant)
	return &amporav1.ListConfigRulesResponse{Rules: each(rules, configRule)}, err
}

// PutConfigRule stores a rule.
func (s *configRules) PutConfigRule(ctx context.Context, r *amporav1.PutConfigRuleRequest) (*amporav1.PutConfigRuleResponse, error) {
	by, given := auth.By(ctx), r.GetRule()
	put, err := s.library.PutRule(ctx, by, fleet.ConfigRule{
		Tenant: by.Tenant, ID: given.GetId(), Severity: string(severities.decode(given.GetSeverity())), Expression: given.GetExpression(),
		Message: given.GetMessage(), Fix: given.GetFix(),
	})
	return &amporav1.PutConfigRuleResponse{Rule: configRule(put)}, err
}

// DeleteConfigRule forgets a rule.
func (s *configRules) DeleteConfigRule(ctx context.Context, r *amporav1.DeleteConfigRuleRequest) (*amporav1.DeleteConfigRuleResponse, error) {
	return &amporav1.DeleteConfigRuleResponse{}, s.store.DeleteConfigRule(ctx, auth.By(ctx), r.GetId())
}

func configRule(r fleet.ConfigRule) *amporav1.ConfigRule {
	return &amporav1.ConfigRule{
		Id: r.ID, Severity: severities.encode(collector.Severity(r.Severity)), Expression: r.Expression, Message: r.Message, Fix: r.Fix,
		ChangedBy: r.ChangedBy, ChangedAt: moment(r.ChangedAt),
	}
}
