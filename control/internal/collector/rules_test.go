// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"os"
	"slices"
	"testing"
)

// TestExamples holds every rule to its examples: it finds something in the bad one, and in the good one nothing is
// found that is more than information.
func TestExamples(t *testing.T) {
	for _, r := range Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if r.Good() == "" || r.Bad() == "" {
				t.Fatal("the rule has no examples")
			}
			_, found := Check([]byte(r.Bad()))
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Rule == r.ID })
			if i < 0 {
				t.Fatalf("nothing is found in the bad example, but %+v", found)
			}
			if f := found[i]; f.Message == "" || f.Fix != r.Fix || f.Line < 1 && r.ID != "config-too-large" && r.ID != "more-findings" {
				t.Errorf("found %+v", f)
			}
			for _, f := range found {
				if f.Severity == Error && r.Severity != Error {
					t.Errorf("the bad example has an error beside: %+v", f)
				}
			}
			_, found = Check([]byte(r.Good()))
			for _, f := range found {
				if f.Severity != Info || f.Rule == r.ID {
					t.Errorf("found in the good example: %+v", f)
				}
			}
		})
	}
}

func TestEveryExampleHasARule(t *testing.T) {
	entries, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ruleOf(e.Name()).ID == "" {
			t.Errorf("examples/%s is of no rule", e.Name())
		}
	}
}

func TestRulesAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] || r.Summary == "" || r.Fix == "" || r.Layer == "" || severityOrder(Finding{Severity: r.Severity}) < 0 {
			t.Errorf("%q is repeated or lacks something", r.ID)
		}
		seen[r.ID] = true
	}
}
