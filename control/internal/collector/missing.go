// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strings"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// buildRules need more to look at than a configuration: see [Config.Missing].
var buildRules = []Rule{
	{
		ID: "missing-component", Layer: Build, Severity: Error,
		Summary: "A component is of a type that a build of the Collector does not have. Looked at for each build that the agents in question report.",
		Fix:     "Use a component that the build has, or give these agents another build.",
	},
}

// Missing returns a finding for each component that is of a type the build does not have, used or not: the Collector
// refuses both. Nothing is found if the build is not known, which an empty list says.
func (c *Config) Missing(available []fleet.Component) []Finding {
	if len(available) == 0 {
		return nil
	}
	has := map[ComponentKind]map[string]bool{}
	for _, a := range available {
		kind := ComponentKind(a.Kind)
		if has[kind] == nil {
			has[kind] = map[string]bool{}
		}
		for _, name := range acceptedAs(kind, a.Name) {
			has[kind][name] = true
		}
	}
	var found findings
	say := found.of(ruleOf("missing-component"))
	viewOf(c).eachComponent(func(c Component) {
		if c.Fault == "" && !has[c.Kind][c.ID.Type] {
			say(c.spot(), "the build has no %s %s", c.Kind, quoted(c.ID.Type))
		}
	})
	return found.ordered()
}

// acceptedAs returns the names a build accepts for a type that it lists: its own and the one from before it was renamed.
// Builds list the new name alone.
func acceptedAs(kind ComponentKind, name string) []string {
	names := []string{name}
	if strings.Contains(name, "_") {
		names = append(names, kindOf(name))
	}
	if kind == Exporter && name == "otlp_grpc" {
		names = append(names, "otlp")
	}
	return names
}
