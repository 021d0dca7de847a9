// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"os"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// TestExamples holds every rule to its examples: it finds something in the bad one, and in the good one nothing is
// found that is more than information.
func TestExamples(t *testing.T) {
	for _, r := range Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if r.Good() == "" || r.Bad() == "" {
				t.Fatal("the rule has no examples")
			}
			found := lookAt(r, r.Bad())
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
			for _, f := range lookAt(r, r.Good()) {
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

// build is what the missing-component rule is held against.
var build = []fleet.Component{
	{Kind: "receiver", Name: "nop"},
	{Kind: "exporter", Name: "nop"},
	{Kind: "exporter", Name: "otlp_grpc"},
	{Kind: "processor", Name: "k8s_attributes"},
}

func lookAt(r Rule, body string) []Finding {
	c, found := Check([]byte(body))
	if c != nil && r.Layer == Build {
		return c.Missing(build)
	}
	return found
}

func TestMissing(t *testing.T) {
	c, err := Parse([]byte("receivers: {nop: , otlp: , nop/2: }\nexporters: {otlp: , otlp/2: , otlphttp: , nop: }\nprocessors: {k8sattributes: , nop: , 1: }\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range c.Missing(build) {
		got = append(got, f.Path)
	}
	// A new name is accepted for the old one; a type is looked for among those of its kind.
	if want := []string{"receivers::otlp", "exporters::otlphttp", "processors::nop"}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if found := c.Missing(nil); found != nil {
		t.Errorf("of a build that is not known is missing %v", found)
	}
}
