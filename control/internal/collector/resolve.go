// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// resolver turns what the parser read into nodes. It is only given what [checkRoot] accepted: no cycles, a bounded
// number of nodes, and no value that cannot be decoded.
type resolver struct {
	anchored map[*yaml.Node]*Node
}

// resolve returns the mapping below root.
func resolve(root *yaml.Node) *Node {
	r := resolver{anchored: map[*yaml.Node]*Node{}}
	return r.node(root)
}

func (r resolver) node(n *yaml.Node) *Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Anchor == "" {
		return r.fresh(n)
	}
	if known, ok := r.anchored[n]; ok {
		return known
	}
	made := r.fresh(n)
	r.anchored[n] = made
	return made
}

func (r resolver) fresh(n *yaml.Node) *Node {
	p := at(n)
	switch n.Kind {
	case yaml.SequenceNode:
		list := &Node{Kind: List, Line: p.line, Column: p.column, Items: make([]*Node, 0, len(n.Content))}
		for _, item := range n.Content {
			list.Items = append(list.Items, r.node(item))
		}
		return list
	case yaml.MappingNode:
		return mapping(p.line, p.column, r.fields(n))
	default:
		kind, text := scalarOf(n)
		return &Node{Kind: kind, Line: p.line, Column: p.column, Text: text}
	}
}

// fields returns the entries of a mapping with those that it merges in: its own win, then the first of the merged
// (https://yaml.org/type/merge.html).
func (r resolver) fields(n *yaml.Node) []Field {
	fields := make([]Field, 0, len(n.Content)/2)
	place := make(map[string]int, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		_, text := scalarOf(key)
		p := at(n.Content[i])
		f := Field{Key: text, Line: p.line, Column: p.column, Value: r.node(value)}
		if at, seen := place[text]; seen { // 1 and "1" are two keys to the parser, and one to the Collector
			fields[at] = f
			continue
		}
		place[text] = len(fields)
		fields = append(fields, f)
	}
	for _, m := range merged {
		fields = r.merge(fields, place, m)
	}
	return fields
}

func (r resolver) merge(fields []Field, place map[string]int, from *yaml.Node) []Field {
	source := r.node(from)
	sources := []*Node{source}
	if source.Kind == List {
		sources = source.Items
	}
	for _, s := range sources {
		for _, f := range s.Fields {
			if _, seen := place[f.Key]; !seen {
				place[f.Key] = len(fields)
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// scalarOf decodes a scalar as the Collector does and spells it in one way.
func scalarOf(n *yaml.Node) (Kind, string) {
	switch n.ShortTag() {
	case "!!str":
		return String, n.Value
	case "!!null":
		return Null, ""
	case "!!binary":
		if decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), "")); err == nil {
			return String, string(decoded)
		}
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return String, n.Value
	}
	switch v := value.(type) {
	case nil:
		return Null, ""
	case bool:
		return Bool, fmt.Sprint(v)
	case float64:
		return Float, fmt.Sprint(v)
	case time.Time:
		return Time, v.Format(time.RFC3339Nano)
	case string:
		return String, v
	default: // int, int64, uint64
		return Int, fmt.Sprint(v)
	}
}
