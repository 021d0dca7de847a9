// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// delimiter stands between the keys of a path, as in the Collector's own --set and messages.
const delimiter = "::"

// builder fills a Config. What is not of the kind the Collector demands is noted and left out.
type builder struct{ *Config }

func (b builder) config(root *Node) {
	b.root, b.split = unflatten(root)
	for _, k := range []ComponentKind{Receiver, Processor, Exporter, Connector, Extension} {
		s := b.Section(k)
		s.Kind = k
		b.section(s, b.root.Get(k.section()))
	}
	b.service(b.root.Get("service"))
	known := []string{"receivers", "processors", "exporters", "connectors", "extensions", "service"}
	b.Rest = others(b.root, known)
}

// deepestSplit bounds the recursion: a key with more delimiters is left alone, and so unknown.
const deepestSplit = 32

// unflatten nests the keys at the root that hold the delimiter, as the Collector does, and returns them.
func unflatten(root *Node) (*Node, []splitKey) {
	var split []splitKey
	entries := make([]entry, 0, len(root.Fields))
	for _, f := range root.Fields {
		path := []string{f.Key}
		if n := strings.Count(f.Key, delimiter); n > 0 && n <= deepestSplit {
			path = strings.Split(f.Key, delimiter)
			split = append(split, splitKey{f, root.field(path[0]) != nil})
		}
		entries = append(entries, entry{path, f})
	}
	if split == nil {
		return root, nil
	}
	return nest(root, entries), split
}

// entry is a field at a path.
type entry struct {
	path  []string
	field Field
}

// nest returns a mapping of the entries, at the place of n. Where a value and entries below it meet, the entries are
// added to it, if it is a mapping.
func nest(n *Node, entries []entry) *Node {
	direct := map[string]Field{}
	below := map[string][]entry{}
	for _, e := range entries {
		key := e.path[0]
		e.field.Key = key
		if len(e.path) == 1 {
			direct[key] = e.field
		} else {
			below[key] = append(below[key], entry{e.path[1:], e.field})
		}
	}
	for key, list := range below {
		f, both := direct[key]
		if !both {
			f = list[0].field
			f.Value = &Node{Kind: Map, Line: f.Line, Column: f.Column}
		}
		if f.Value.is(Map) {
			for _, own := range f.Value.Fields {
				list = append(list, entry{[]string{own.Key}, own})
			}
			f.Value = nest(f.Value, list)
		}
		direct[key] = f
	}
	return mapping(n.Line, n.Column, slices.Collect(maps.Values(direct)))
}

// mapping returns the fields of n, which shall be a mapping. If it is a reference instead, or has another shape, what it
// says is elsewhere.
func (b builder) mapping(n *Node, path ...string) (fields []Field, elsewhere bool) {
	switch {
	case n == nil || n.Kind == Null:
		return nil, false
	case isReference(n):
		return nil, true
	case n.Kind != Map:
		b.shapes = append(b.shapes, misshapen{path, n, "a mapping"})
		return nil, true
	}
	return n.Fields, false
}

func (b builder) section(s *Section, n *Node) {
	fields, elsewhere := b.mapping(n, s.Kind.section())
	s.Elsewhere = elsewhere
	for _, f := range fields {
		id, wrong := parseID(f.Key)
		s.Components = append(s.Components, Component{Kind: s.Kind, ID: id, Fault: wrong, Settings: f.Value, Line: f.Line, Column: f.Column, key: f.Key})
		_, _ = b.mapping(f.Value, s.Kind.section(), f.Key)
	}
}

func (b builder) service(n *Node) {
	s := &b.Service
	s.node = n
	_, s.Elsewhere = b.mapping(n, "service")
	s.Extensions = b.members(n.Get("extensions"), "service", "extensions")
	s.Telemetry = n.Get("telemetry")
	_, _ = b.mapping(s.Telemetry, "service", "telemetry")
	s.Rest = others(n, []string{"extensions", "pipelines", "telemetry"})
	fields, elsewhere := b.mapping(n.Get("pipelines"), "service", "pipelines")
	s.Elsewhere = s.Elsewhere || elsewhere
	for _, f := range fields {
		s.Pipelines = append(s.Pipelines, b.pipeline(f))
	}
}

func (b builder) pipeline(f Field) Pipeline {
	path := []string{"service", "pipelines", f.Key}
	id, wrong := parseID(f.Key)
	p := Pipeline{ID: id, Fault: wrong, Line: f.Line, Column: f.Column, key: f.Key}
	_, p.Elsewhere = b.mapping(f.Value, path...)
	p.Receivers = b.members(f.Value.Get("receivers"), append(path, "receivers")...)
	p.Processors = b.members(f.Value.Get("processors"), append(path, "processors")...)
	p.Exporters = b.members(f.Value.Get("exporters"), append(path, "exporters")...)
	p.Rest = others(f.Value, []string{"receivers", "processors", "exporters"})
	return p
}

func (b builder) members(n *Node, path ...string) (m Members) {
	switch {
	case n == nil || n.Kind == Null:
		return m
	case isReference(n):
		m.Elsewhere = true
		return m
	case n.Kind != List:
		b.shapes = append(b.shapes, misshapen{path, n, "a list"})
		m.Elsewhere = true
		return m
	}
	for i, item := range n.Items {
		switch {
		case isReference(item):
			m.Elsewhere = true
		case item.Kind != String:
			b.shapes = append(b.shapes, misshapen{append(slices.Clone(path), strconv.Itoa(i)), item, "the id of a component"})
			m.Elsewhere = true
		default:
			id, wrong := parseID(item.Text)
			m.Refs = append(m.Refs, Ref{ID: id, Fault: wrong, Line: item.Line, Column: item.Column, text: item.Text, place: i})
		}
	}
	return m
}

// others are the fields of n that are not known.
func others(n *Node, known []string) (rest []Field) {
	if !n.is(Map) {
		return nil
	}
	for _, f := range n.Fields {
		if !slices.Contains(known, f.Key) {
			rest = append(rest, f)
		}
	}
	return rest
}
