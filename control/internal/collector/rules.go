// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"embed"
	"slices"
)

// Layer says what a rule looks at.
type Layer string

// The layers, in the order in which they are looked at.
const (
	Syntax    Layer = "syntax"
	Semantics Layer = "semantics"
	Lint      Layer = "lint"
	Build     Layer = "build"
)

// Rule is something that is looked for.
type Rule struct {
	ID       string
	Layer    Layer
	Severity Severity
	// Summary says what is found, Fix what to do.
	Summary, Fix string

	config  func(view, report)
	setting func(setting, report)
}

// table has every rule, in the order of the reference page.
var table = slices.Concat(
	syntaxRules, structureRules, wiringRules, connectorRules, referenceRules, securityRules, pipelineRules, settingRules, templateRules, buildRules,
)

// Rules returns every rule.
func Rules() []Rule { return slices.Clone(table) }

// examples has for each rule a folder of its name with bad.yaml, in which the rule finds something, and good.yaml, in
// which nothing is wrong. They are the tests of the rules and the examples of the reference page.
//
//go:embed examples
var examples embed.FS

// Good returns a configuration that the rule has nothing against, Bad one that it has.
func (r Rule) Good() string { return r.example("good") }

// Bad returns a configuration that the rule finds something in.
func (r Rule) Bad() string { return r.example("bad") }

func (r Rule) example(which string) string {
	text, err := examples.ReadFile("examples/" + r.ID + "/" + which + ".yaml")
	if err != nil {
		return ""
	}
	return string(text)
}

// byID is filled here because rules are found by it while the table is being used.
var byID = func() map[string]Rule {
	index := make(map[string]Rule, len(table))
	for _, r := range table {
		index[r.ID] = r
	}
	return index
}()

func ruleOf(id string) Rule { return byID[id] }

// syntaxRules are named like the reasons of the faults of CheckMapping. The last is about findings themselves.
var syntaxRules = []Rule{
	{
		ID: "config-too-large", Layer: Syntax, Severity: Error,
		Summary: "The body is longer than 8 MiB, or comes to more than a million values with its aliases written out.",
		Fix:     "Split the configuration, or write out what the aliases multiply.",
	},
	{
		ID: "config-not-yaml", Layer: Syntax, Severity: Error,
		Summary: "The Collector's YAML parser refuses it: a mistake of syntax, a key that is there twice, an unknown anchor, bytes that are not UTF-8.",
		Fix:     "Correct the line; most often it is the indentation.",
	},
	{
		ID: "config-not-a-mapping", Layer: Syntax, Severity: Error,
		Summary: "It is YAML, but not exactly one document whose root is a mapping.",
		Fix:     "Write the sections receivers, exporters and service at the root of a single document.",
	},
	{
		ID: "more-findings", Layer: Lint, Severity: Info,
		Summary: "There are more findings than are shown. The severity is the worst of those left out.",
		Fix:     "Correct some of those that are shown.",
	},
}
