// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// apply does to a normal form what the edits say. It knows nothing of how they were found.
func apply(n *Node, edits []edit) *Node {
	lists := map[string]*membership{}
	in := func(path []string) *membership {
		key := strings.Join(path, "\x01")
		if lists[key] == nil {
			lists[key] = &membership{path: path, ids: labels(find(n, path)).ids}
		}
		return lists[key]
	}
	for _, e := range edits {
		switch e.kind {
		case MemberMoved:
			in(e.from).lose(e.member)
			in(e.path).win(e)
		case MemberRemoved, ExtensionDisabled:
			in(e.path).lose(e.member)
		case MemberAdded, ExtensionEnabled:
			in(e.path).win(e)
		case MembersReordered:
			in(e.path).order = labels(e.after).ids
		case ComponentRemoved, PipelineRemoved, SettingRemoved:
			n = put(n, e.path, nil)
		default:
			n = put(n, e.path, e.after)
		}
	}
	for _, m := range lists {
		n = put(n, m.path, m.node())
	}
	return normalise(n)
}

type membership struct {
	path, ids, order []string
	won              []edit
}

func (m *membership) lose(id string) {
	m.ids = slices.DeleteFunc(m.ids, func(other string) bool { return other == id })
}

func (m *membership) win(e edit) { m.won = append(m.won, e) }

func (m *membership) node() *Node {
	if m.order != nil {
		slices.SortFunc(m.ids, func(a, b string) int {
			return cmp.Compare(slices.Index(m.order, a), slices.Index(m.order, b))
		})
	}
	slices.SortFunc(m.won, func(a, b edit) int { return cmp.Compare(a.place, b.place) })
	for _, e := range m.won {
		m.ids = slices.Insert(m.ids, min(e.place, len(m.ids)), e.member)
	}
	list := &Node{Kind: List}
	for _, id := range m.ids {
		list.Items = append(list.Items, &Node{Kind: String, Text: unmarked(id)})
	}
	return list
}

// find follows keys and indices.
func find(n *Node, path []string) *Node {
	for _, key := range path {
		if n.is(List) {
			i, _ := strconv.Atoi(key)
			n = n.Items[i]
		} else {
			n = n.Get(key)
		}
	}
	return n
}

// put returns n with the value at the path, or without it if the value is nil.
func put(n *Node, path []string, value *Node) *Node {
	if len(path) == 0 {
		return value
	}
	if n.is(List) {
		i, _ := strconv.Atoi(path[0])
		items := slices.Clone(n.Items)
		items[i] = put(items[i], path[1:], value)
		return &Node{Kind: List, Items: items}
	}
	var fields []Field
	if n != nil {
		fields = slices.DeleteFunc(slices.Clone(n.Fields), func(f Field) bool { return f.Key == path[0] })
	}
	if below := put(n.Get(path[0]), path[1:], value); below != nil {
		fields = append(fields, Field{Key: path[0], Value: below})
	}
	return mapping(0, 0, fields)
}
