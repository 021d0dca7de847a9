// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"regexp"
	"strconv"
	"strings"
)

// referenceRules are about what the Collector puts other text in place of (confmap/expand.go, envprovider).
var referenceRules = []Rule{
	{
		ID: "invalid-reference", Layer: Semantics, Severity: Error,
		Summary: "A reference that the Collector cannot resolve: ${1}, ${MY NAME}, or a default without the scheme, ${NAME:-default}.",
		Fix:     "Write ${env:NAME} or ${env:NAME:-default}; write $${1} where ${1} is meant as text.",
		config: func(v view, say report) {
			eachText(nil, v.root, func(path []string, n *Node) {
				for _, r := range references(n.Text) {
					text := n.Text[r.begin:r.end]
					if what := badReference(text); what != "" {
						say(spot{pathOf(path...), n.Line, n.Column}, "%s cannot be resolved: %s", quoted(text), what)
						return
					}
				}
			})
		},
	},
	{
		ID: "bare-variable", Layer: Lint, Severity: Warning,
		Summary: "$NAME without braces. The Collector puts nothing in its place any more.",
		Fix:     "Write ${env:NAME}.",
		setting: func(s setting, say report) {
			if text := s.field.Value.text(); len(text) < longestPart && bare.MatchString(text) {
				say(s.spot(), "%s is not replaced", quoted(text))
			}
		},
	},
}

var (
	// bare is a variable by itself, or before a port.
	bare = regexp.MustCompile(`^\$[A-Z][A-Z0-9_]+(:[0-9]+)?$`)
	// variable is what the Collector accepts as the name of one.
	variable = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// badReference says why a reference cannot be resolved. Of those with others inside, and of other schemes than env,
// nothing is known.
func badReference(text string) string {
	inside := text[2 : len(text)-1]
	if strings.Contains(inside, "$") {
		return ""
	}
	scheme, name, schemed := strings.Cut(inside, ":")
	switch {
	case !schemed:
		name = scheme
	case scheme == "env":
		name, _, _ = strings.Cut(name, ":-")
	case strings.HasPrefix(name, "-") && variable.MatchString(scheme):
		return "a default needs the scheme, ${env:" + clip(inside, longestPart) + "}"
	default:
		return ""
	}
	if !variable.MatchString(name) {
		return quoted(name) + " is no name of a variable"
	}
	return ""
}

// eachText calls visit for every text at or below a node. The path is only valid during the call.
func eachText(path []string, n *Node, visit func(path []string, n *Node)) {
	if n.Kind == String {
		visit(path, n)
	}
	for i, item := range n.Items {
		eachText(append(path, strconv.Itoa(i)), item, visit)
	}
	for _, f := range n.Fields {
		eachText(append(path, f.Key), f.Value, visit)
	}
}
