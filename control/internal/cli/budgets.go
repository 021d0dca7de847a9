// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) budgetCommands() *cobra.Command {
	return noun("budgets", "Disruption budgets: how many agents may be disturbed at once",
		p.budgetsList(), p.budgetsUses(), p.budgetsPut(), p.budgetsDelete())
}

func (p *program) budgetsList() *cobra.Command {
	return p.remote(verb{use: "list", short: "List budgets", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			answer, err := api.budgets.ListBudgets(ctx, &amporav1.ListBudgetsRequest{})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return p.budgetTable(answer.GetBudgets()) })
		})
}

func (p *program) budgetTable(budgets []*amporav1.Budget) view {
	t := newTable("NAME", "LABEL", "MOST", "CREATED", "BY")
	for _, b := range budgets {
		t.row(or(b.GetName()), or(b.GetLabel()), number(b.GetMost()), relative(p.now(), b.GetCreatedAt()), or(b.GetCreatedBy()))
	}
	return t
}

func (p *program) budgetsUses() *cobra.Command {
	var limit int32
	cmd := p.remote(verb{use: "uses [flags]", short: "Show how budgets are used now, the fullest values first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			answer, err := api.budgets.ListBudgetUses(ctx, &amporav1.ListBudgetUsesRequest{Count: limit})
			if err != nil {
				return err
			}
			return p.show(answer, func() view {
				t := newTable("BUDGET", "VALUE", "DISTURBED", "MOST")
				for _, u := range answer.GetUses() {
					t.row(or(u.GetBudget()), or(u.GetValue()), number(u.GetUsed()), number(u.GetMost()))
				}
				return t
			})
		})
	cmd.Flags().Int32Var(&limit, "limit", 0, "at most `N` values (100 if nobody says)")
	return cmd
}

func (p *program) budgetsPut() *cobra.Command {
	budget := &amporav1.Budget{}
	cmd := p.remote(verb{
		use: "put NAME [flags]", short: "Store a budget, in the place of the one of its name", args: cobra.ExactArgs(1),
		long: `Store a budget, in the place of the one of its name: of the agents that have one value of the label, at most so many are
disturbed at once, by all rollouts and restarts together. A tag comes before a label that agents claim; agents that have
neither count for nothing. Needs the role admin.`,
		example: "amporactl budgets put sites --label site --most 2",
	}, func(ctx context.Context, api *api, args []string) error {
		budget.Name = args[0]
		answer, err := api.budgets.PutBudget(ctx, &amporav1.PutBudgetRequest{Budget: budget})
		if err != nil {
			return err
		}
		return p.show(answer.GetBudget(), func() view { return p.budgetTable([]*amporav1.Budget{answer.GetBudget()}) })
	})
	cmd.Flags().StringVar(&budget.Label, "label", "", "the `KEY` of the tag or label")
	cmd.Flags().Int32Var(&budget.Most, "most", 0, "at most `N` agents of one value")
	_, _ = cmd.MarkFlagRequired("label"), cmd.MarkFlagRequired("most") // fail for an unknown flag only
	return cmd
}

func (p *program) budgetsDelete() *cobra.Command {
	return p.remote(verb{use: "delete NAME", short: "Delete a budget", args: cobra.ExactArgs(1), long: "Delete a budget. Needs the role admin."},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.budgets.DeleteBudget(ctx, &amporav1.DeleteBudgetRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return sentence("deleted %s", args[0]) })
		})
}
