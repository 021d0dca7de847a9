// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "go.yaml.in/yaml/v3"

// expandedNodes counts the nodes below root, root included, with every alias replaced by what it stands for. It stops
// adding up past MaxNodes, and an alias inside its own anchor counts as more than that. Each node is visited once.
func expandedNodes(root *yaml.Node) int {
	e := expansion{}
	return e.count(root)
}

// expansion remembers the count below each anchored node; underway marks one that is being counted.
type expansion map[*yaml.Node]int

const underway = -1

func (e expansion) count(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		return e.anchored(n.Alias)
	}
	if n.Anchor != "" {
		return e.anchored(n)
	}
	return e.below(n)
}

func (e expansion) anchored(n *yaml.Node) int {
	switch known, seen := e[n]; {
	case seen && known == underway:
		return MaxNodes + 1
	case seen:
		return known
	}
	e[n] = underway
	e[n] = e.below(n)
	return e[n]
}

func (e expansion) below(n *yaml.Node) int {
	total := 1
	for _, child := range n.Content {
		if total += e.count(child); total > MaxNodes {
			return MaxNodes + 1
		}
	}
	return total
}
