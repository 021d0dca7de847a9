// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strings"
)

// Kind says what a node is.
type Kind uint8

// The kinds. A value that looks like a time is one to the Collector's parser, too.
const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	Time
	List
	Map
)

// Node is a value as the Collector reads it: aliases and merge keys are resolved, references are left as they are. What
// an anchor names is one node, however often it is used, so nodes are never changed. Methods accept a nil node, which
// stands for a value that is not there.
type Node struct {
	Kind Kind
	// Line and Column are where it is written, counted from 1; an alias is where its anchor is.
	Line, Column int
	// Text is a scalar in one spelling: 16 for 0x10, true for True.
	Text string
	// Items of a list.
	Items []*Node
	// Fields of a mapping, sorted by key, each key once.
	Fields []Field
}

// Field is an entry of a mapping.
type Field struct {
	Key string
	// Line and Column are where the key is written.
	Line, Column int
	Value        *Node
}

// Get returns what the path of keys leads to, or nil.
func (n *Node) Get(path ...string) *Node {
	for _, key := range path {
		f := n.field(key)
		if f == nil {
			return nil
		}
		n = f.Value
	}
	return n
}

func (n *Node) field(key string) *Field {
	if n == nil || n.Kind != Map {
		return nil
	}
	i, found := slices.BinarySearchFunc(n.Fields, key, func(f Field, key string) int { return strings.Compare(f.Key, key) })
	if !found {
		return nil
	}
	return &n.Fields[i]
}

// is reports whether n is there and of the kind.
func (n *Node) is(k Kind) bool { return n != nil && n.Kind == k }

// empty reports whether n says nothing: it is not there, null, or a mapping or list of nothing.
func (n *Node) empty() bool {
	return n == nil || n.Kind == Null || n.Kind == Map && len(n.Fields) == 0 || n.Kind == List && len(n.Items) == 0
}

// isTrue and isFalse ask for the value itself, not for its absence.
func (n *Node) isTrue() bool  { return n.is(Bool) && n.Text == "true" }
func (n *Node) isFalse() bool { return n.is(Bool) && n.Text == "false" }

// scalar reports whether n is a single value.
func (n *Node) scalar() bool { return n != nil && n.Kind != List && n.Kind != Map }

// mapping returns a mapping of the fields, which it sorts.
func mapping(line, column int, fields []Field) *Node {
	slices.SortFunc(fields, func(a, b Field) int { return strings.Compare(a.Key, b.Key) })
	return &Node{Kind: Map, Line: line, Column: column, Fields: fields}
}

// kindText names what n is in a sentence.
func (n *Node) kindText() string {
	switch {
	case n == nil || n.Kind == Null:
		return "nothing"
	case n.Kind == List:
		return "a list"
	case n.Kind == Map:
		return "a mapping"
	default:
		return "a single value"
	}
}

// equal compares meanings: positions do not count.
func equal(a, b *Node) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Kind != b.Kind || a.Text != b.Text || len(a.Items) != len(b.Items) || len(a.Fields) != len(b.Fields) {
		return false
	}
	for i := range a.Items {
		if !equal(a.Items[i], b.Items[i]) {
			return false
		}
	}
	for i := range a.Fields {
		if a.Fields[i].Key != b.Fields[i].Key || !equal(a.Fields[i].Value, b.Fields[i].Value) {
			return false
		}
	}
	return true
}
