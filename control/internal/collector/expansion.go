// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "go.yaml.in/yaml/v3"

// maxMarks bounds the memory of parsing, before parsing: a value takes no less than a mark of its own, or half of one,
// and some 200 bytes once it is parsed. Text of 8 MiB reaches the bound with lines of less than 16 characters.
const maxMarks = 1 << 19

// marks counts the bytes that can begin or end a value: line ends (YAML 1.1, section 4.2), commas, opening brackets and
// the dashes of lists. It may count too many, never too few.
func marks(body []byte) (n int) {
	for i, c := range body {
		switch c {
		case '\n', ',', '[', '{', 0x85, 0xa8, 0xa9: // the last three end U+0085, U+2028 and U+2029
			n++
		case '\r':
			if i+1 == len(body) || body[i+1] != '\n' {
				n++
			}
		case '-':
			if i+1 < len(body) && (body[i+1] == ' ' || body[i+1] == '\t') {
				n++
			}
		}
	}
	return n
}

// pairsPerValue is how many comparisons of two keys weigh as much as one value. The parser compares each key of a
// mapping with each other, so that a mapping of more than 8 000 keys weighs too much by itself.
const pairsPerValue = 64

// bytesPerValue is how much text weighs as much as one value, so that long text behind many aliases is bounded, too.
const bytesPerValue = 64

// weigh is what decoding root will cost: the nodes below it, root included, with every alias replaced by what it stands
// for, their text, and the comparisons of keys. It stops adding up past MaxNodes, and an alias inside its own anchor weighs more
// than that. Each node is visited once.
func weigh(root *yaml.Node) int {
	return expansion{}.weigh(root)
}

// expansion remembers the weight below each anchored node; underway marks one that is being weighed.
type expansion map[*yaml.Node]int

const underway = -1

func (e expansion) weigh(n *yaml.Node) int {
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
	total := 1 + len(n.Value)/bytesPerValue
	if n.Kind == yaml.MappingNode {
		keys := len(n.Content) / 2
		total += keys * keys / pairsPerValue
	}
	for _, child := range n.Content {
		if total += e.weigh(child); total > MaxNodes {
			break
		}
	}
	return min(total, MaxNodes+1)
}
