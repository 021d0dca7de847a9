// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "strings"

// templateRules are about what is asked for of the agent: see [Template].
var templateRules = []Rule{
	{
		ID: "template-reference", Layer: Semantics, Severity: Error,
		Summary: "A reference to what is known of an agent has none of the forms there are, or stands in a key. No agent would get the configuration.",
		Fix:     "Write ${ampora:tag:KEY}, ${ampora:label:KEY} or ${ampora:agent:id}, in a value, with or without a default: ${ampora:tag:KEY:-eu}.",
		config:  func(v view, say report) { asked{say, map[*Node]bool{}}.in(v.root) },
	},
}

// asked finds what is asked for. It looks at each value once, however many aliases it has.
type asked struct {
	say  report
	seen map[*Node]bool
}

func (a asked) in(n *Node) {
	if n == nil || a.seen[n] {
		return
	}
	a.seen[n] = true
	if n.is(String) {
		if _, wrong := cut(n.Text); wrong != "" {
			a.say(spot{"", n.Line, n.Column}, "%s is no reference to what is known of an agent", quoted(wrong))
		}
	}
	for _, item := range n.Items {
		a.in(item)
	}
	for _, f := range n.Fields {
		if strings.Contains(f.Key, marker) {
			a.say(spot{pathOf(f.Key), f.Line, f.Column}, "a key cannot be another for each agent")
		}
		a.in(f.Value)
	}
}
