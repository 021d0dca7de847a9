// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) configRuleCommands() *cobra.Command {
	return noun("config-rules", "What your tenant forbids in configurations, beside what the Collector refuses",
		p.configRulesList(), p.configRulesPut(), p.configRulesDelete())
}

func (p *program) configRulesList() *cobra.Command {
	return p.remote(verb{use: "list", short: "List the tenant's own rules", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			answer, err := api.configRules.ListConfigRules(ctx, &amporav1.ListConfigRulesRequest{})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return p.configRuleTable(answer.GetRules()) })
		})
}

func (p *program) configRuleTable(rules []*amporav1.ConfigRule) view {
	t := newTable("RULE", "SEVERITY", "CHANGED", "BY", "MESSAGE", "EXPRESSION")
	for _, r := range rules {
		t.row(or(r.GetId()), word(r.GetSeverity()), relative(p.now(), r.GetChangedAt()), or(r.GetChangedBy()), escape(r.GetMessage()), escape(r.GetExpression()))
	}
	return t
}

func (p *program) configRulesPut() *cobra.Command {
	var file, severity string
	rule := &amporav1.ConfigRule{}
	cmd := p.remote(verb{
		use: "put RULE [flags]", short: "Store a rule, in the place of one of its name", args: cobra.ExactArgs(1),
		long: `Store a rule, in the place of one of its name. Its expression is CEL, and true where the rule is violated. What
violates one of severity error is not published, and the rule cannot be waived. Needs the role admin.`,
		example: `amporactl config-rules put no-debug --message 'debug is for laptops' --expression '"debug" in config.exporters'`,
	}, func(ctx context.Context, api *api, args []string) (err error) {
		if (rule.GetExpression() == "") == (file == "") {
			return usage("give the expression, or a file with it: one of the two")
		}
		if file != "" {
			text, err := p.readBody(file)
			if err != nil {
				return err
			}
			rule.Expression = string(text)
		}
		rule.Id = args[0]
		if rule.Severity, err = enumNamed[amporav1.FindingSeverity]("severity", severity); err != nil {
			return err
		}
		answer, err := api.configRules.PutConfigRule(ctx, &amporav1.PutConfigRuleRequest{Rule: rule})
		if err != nil {
			return err
		}
		return p.show(answer.GetRule(), func() view { return p.configRuleTable([]*amporav1.ConfigRule{answer.GetRule()}) })
	})
	cmd.Flags().StringVarP(&rule.Expression, "expression", "e", "", "the `CEL` expression")
	bodyFlag(cmd, &file)
	cmd.Flags().StringVar(&severity, "severity", "error", "`SEVERITY`: error, warning or info")
	cmd.Flags().StringVar(&rule.Message, "message", "", "what a finding says, `TEXT`")
	cmd.Flags().StringVar(&rule.Fix, "fix", "", "what to do, `TEXT`")
	_ = cmd.MarkFlagRequired("message") // fails for an unknown flag only
	return cmd
}

func (p *program) configRulesDelete() *cobra.Command {
	return p.remote(verb{use: "delete RULE", short: "Forget a rule", args: cobra.ExactArgs(1), long: "Forget a rule. Needs the role admin."},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.configRules.DeleteConfigRule(ctx, &amporav1.DeleteConfigRuleRequest{Id: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return sentence("deleted %s", escape(args[0])) })
		})
}
