// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strconv"
	"strings"
)

// place says what stands at a path of the normal form.
type place uint8

const (
	anywhere place = iota
	inConfig
	inSection
	inComponent
	inService
	inPipelines
	inPipeline
	inMembers
	inExtensions
)

func placeOf(path []string) place {
	switch {
	case len(path) == 0:
		return inConfig
	case slices.Contains([]string{"receivers", "processors", "exporters", "connectors", "extensions"}, path[0]):
		return []place{inSection, inComponent, anywhere}[min(len(path)-1, 2)]
	case path[0] != "service":
		return anywhere
	case len(path) == 1:
		return inService
	case len(path) == 2 && path[1] == "extensions":
		return inExtensions
	case path[1] != "pipelines":
		return anywhere
	case len(path) == 2:
		return inPipelines
	case len(path) == 3:
		return inPipeline
	case len(path) == 4 && slices.Contains([]string{"receivers", "processors", "exporters"}, path[3]):
		return inMembers
	default:
		return anywhere
	}
}

// compare returns the edits that turn one normal form into the other.
func compare(a, b *Node) []edit {
	var d differ
	d.at(nil, a, b)
	return paired(d.edits)
}

type differ struct{ edits []edit }

func (d *differ) note(kind ChangeKind, path []string, before, after *Node) {
	d.edits = append(d.edits, edit{kind: kind, path: slices.Clone(path), before: before, after: after})
}

// at compares what two forms have at a path; nil is nothing.
func (d *differ) at(path []string, a, b *Node) {
	switch p := placeOf(path); {
	case a == b:
	case p.container() && bothMaps(a, b):
		d.fields(path, a, b)
	case p == inComponent:
		d.component(path, a, b)
	case p == inPipeline && a == nil:
		d.note(PipelineAdded, path, nil, b)
	case p == inPipeline && b == nil:
		d.note(PipelineRemoved, path, a, nil)
	case p == inMembers && bothIDs(a, b):
		d.members(path, a, b)
	case p == inExtensions && bothIDs(a, b):
		d.extensions(path, a, b)
	default:
		d.setting(path, a, b)
	}
}

// container reports whether nothing and an empty mapping are the same at the place.
func (p place) container() bool {
	return p == inConfig || p == inSection || p == inService || p == inPipelines
}

// bothMaps and bothIDs report whether two nodes are of the expected shape, as far as they are there.
func bothMaps(a, b *Node) bool { return (a == nil || a.Kind == Map) && (b == nil || b.Kind == Map) }
func bothIDs(a, b *Node) bool  { return (a == nil || ids(a)) && (b == nil || ids(b)) }

// fields compares two mappings key by key.
func (d *differ) fields(path []string, a, b *Node) {
	eachField(a, b, func(key string, a, b *Node) { d.at(append(path, key), a, b) })
}

// eachField calls visit for the keys of both mappings, in order.
func eachField(a, b *Node, visit func(key string, a, b *Node)) {
	var left, right []Field
	if a != nil {
		left = a.Fields
	}
	if b != nil {
		right = b.Fields
	}
	for len(left) > 0 || len(right) > 0 {
		switch {
		case len(right) == 0 || len(left) > 0 && left[0].Key < right[0].Key:
			visit(left[0].Key, left[0].Value, nil)
			left = left[1:]
		case len(left) == 0 || right[0].Key < left[0].Key:
			visit(right[0].Key, nil, right[0].Value)
			right = right[1:]
		default:
			visit(left[0].Key, left[0].Value, right[0].Value)
			left, right = left[1:], right[1:]
		}
	}
}

func (d *differ) component(path []string, a, b *Node) {
	switch {
	case a == nil:
		d.note(ComponentAdded, path, nil, b)
	case b == nil:
		d.note(ComponentRemoved, path, a, nil)
	default:
		before := len(d.edits)
		d.setting(path, a, b)
		changed := d.edits[before:]
		if len(changed) == 1 && len(changed[0].path) == len(path) {
			changed[0].kind = ComponentModified
		} else if len(changed) > mostSettings {
			count := len(changed)
			d.edits = d.edits[:before]
			d.note(ComponentModified, path, a, b)
			d.edits[before].count = count
		}
	}
}

// setting compares two values of which nothing is known but what they are. Lists of different length differ as a whole.
func (d *differ) setting(path []string, a, b *Node) {
	switch {
	case a == b:
	case a == nil:
		d.note(SettingAdded, path, nil, b)
	case b == nil:
		d.note(SettingRemoved, path, a, nil)
	case a.Kind == Map && b.Kind == Map:
		d.fields(path, a, b)
	case a.Kind == List && b.Kind == List && len(a.Items) == len(b.Items):
		for i := range a.Items {
			d.setting(append(path, strconv.Itoa(i)), a.Items[i], b.Items[i])
		}
	case !equal(a, b):
		d.note(SettingChanged, path, a, b)
	}
}

func (d *differ) extensions(path []string, a, b *Node) {
	before, after := labels(a), labels(b)
	for _, id := range before.without(after) {
		d.edits = append(d.edits, edit{kind: ExtensionDisabled, path: slices.Clone(path), member: id})
	}
	for _, id := range after.without(before) {
		d.edits = append(d.edits, edit{kind: ExtensionEnabled, path: slices.Clone(path), member: id})
	}
}

// members compares two lists of a pipeline. Receivers and exporters are sorted in the normal form, so that a difference
// of order is one of processors.
func (d *differ) members(path []string, a, b *Node) {
	before, after := labels(a), labels(b)
	lost, won := before.without(after), after.without(before)
	for _, id := range lost {
		d.edits = append(d.edits, edit{kind: MemberRemoved, path: slices.Clone(path), member: id})
	}
	for _, id := range won {
		d.edits = append(d.edits, edit{kind: MemberAdded, path: slices.Clone(path), member: id, place: after.place[id]})
	}
	stayed := func(l list) []string {
		return slices.DeleteFunc(slices.Clone(l.ids), func(id string) bool {
			_, here := before.place[id]
			_, there := after.place[id]
			return !here || !there
		})
	}
	if !slices.Equal(stayed(before), stayed(after)) {
		d.note(MembersReordered, path, a, b)
	}
}

// list is a list of ids, each with its place.
type list struct {
	ids   []string
	place map[string]int
}

// labels returns the ids of a list. A processor that is there twice, which the Collector refuses, gets a mark the second
// time.
func labels(n *Node) list {
	l := list{place: map[string]int{}}
	if n == nil {
		return l
	}
	times := map[string]int{}
	for i, item := range n.Items {
		id := item.Text
		if times[id]++; times[id] > 1 {
			id += mark + strconv.Itoa(times[id])
		}
		l.ids = append(l.ids, id)
		l.place[id] = i
	}
	return l
}

// mark separates an id from how often it was there before.
const mark = "\x00"

// unmarked is the id of a label.
func unmarked(label string) string {
	id, _, _ := strings.Cut(label, mark)
	return id
}

func (l list) without(other list) (rest []string) {
	for _, id := range l.ids {
		if _, there := other.place[id]; !there {
			rest = append(rest, id)
		}
	}
	return rest
}

// paired makes one move of a member that leaves one pipeline and one of the same name that enters another in the same
// role.
func paired(edits []edit) []edit {
	leaving := map[string][]int{}
	name := func(e edit) string { return e.role() + " " + e.member }
	for i, e := range edits {
		if e.kind == MemberRemoved {
			leaving[name(e)] = append(leaving[name(e)], i)
		}
	}
	gone := map[int]bool{}
	for i := range edits {
		e := &edits[i]
		if e.kind != MemberAdded || len(leaving[name(*e)]) == 0 {
			continue
		}
		j := leaving[name(*e)][0]
		leaving[name(*e)] = leaving[name(*e)][1:]
		e.kind, e.from = MemberMoved, edits[j].path
		gone[j] = true
	}
	kept := edits[:0]
	for i, e := range edits {
		if !gone[i] {
			kept = append(kept, e)
		}
	}
	return kept
}
