// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "strconv"

// view is a configuration with what several rules ask for, computed once.
type view struct {
	*Config
	defined map[ComponentKind]map[ID]bool
	// as says for each kind which ids pipelines and the service name in its place. Connectors are named as exporters
	// and as receivers.
	as map[ComponentKind]map[ID]bool
	// unknown are the kinds of which pipelines or the service may name more than is known here.
	unknown map[ComponentKind]bool
}

func viewOf(c *Config) view {
	v := view{Config: c, defined: map[ComponentKind]map[ID]bool{}, as: map[ComponentKind]map[ID]bool{}, unknown: map[ComponentKind]bool{}}
	for _, s := range c.sections() {
		v.defined[s.Kind] = make(map[ID]bool, len(s.Components))
		v.as[s.Kind] = map[ID]bool{}
		v.unknown[s.Kind] = c.Service.Elsewhere
		for _, component := range s.Components {
			v.defined[s.Kind][component.ID] = true
		}
	}
	v.name(Extension, c.Service.Extensions)
	for _, p := range c.Service.Pipelines {
		for _, r := range p.roles() {
			v.name(r.kind, r.members)
			v.unknown[r.kind] = v.unknown[r.kind] || p.Elsewhere
		}
	}
	return v
}

func (v view) name(as ComponentKind, m Members) {
	for _, ref := range m.Refs {
		v.as[as][ref.ID] = true
	}
	v.unknown[as] = v.unknown[as] || m.Elsewhere
}

// resolves reports whether there is a component for a name in the place of kind, or might be.
func (v view) resolves(kind ComponentKind, id ID) bool {
	if v.defined[kind][id] || v.Section(kind).Elsewhere {
		return true
	}
	return kind.connects() && (v.defined[Connector][id] || v.Connectors.Elsewhere)
}

// connects reports whether a connector can stand in the place of the kind.
func (k ComponentKind) connects() bool { return k == Receiver || k == Exporter }

// uses reports whether a component is switched on, or might be.
func (v view) uses(c Component) bool {
	if c.Kind == Connector {
		return v.as[Receiver][c.ID] || v.as[Exporter][c.ID] || v.unknown[Receiver] || v.unknown[Exporter]
	}
	return v.as[c.Kind][c.ID] || v.unknown[c.Kind]
}

// role is one of the three lists of a pipeline.
type role struct {
	kind    ComponentKind
	members Members
}

func (p Pipeline) roles() []role {
	return []role{{Receiver, p.Receivers}, {Processor, p.Processors}, {Exporter, p.Exporters}}
}

func (p Pipeline) spot(below ...string) spot {
	return spot{pathOf(append([]string{"service", "pipelines", p.key}, below...)...), p.Line, p.Column}
}

func (c Component) spot() spot {
	return spot{pathOf(c.Kind.section(), c.key), c.Line, c.Column}
}

// member is where the pipeline names a component.
func (p Pipeline) member(as ComponentKind, r Ref) spot {
	return r.spot("service", "pipelines", p.key, as.section())
}

func (r Ref) spot(list ...string) spot {
	return spot{pathOf(append(list, strconv.Itoa(r.place))...), r.Line, r.Column}
}

// eachRef calls visit for every name in a pipeline.
func (v view) eachRef(visit func(p Pipeline, as ComponentKind, r Ref, at spot)) {
	for _, p := range v.Service.Pipelines {
		for _, role := range p.roles() {
			for _, r := range role.members.Refs {
				visit(p, role.kind, r, p.member(role.kind, r))
			}
		}
	}
}

// eachComponent calls visit for every component that is defined.
func (v view) eachComponent(visit func(Component)) {
	for _, s := range v.sections() {
		for _, c := range s.Components {
			visit(c)
		}
	}
}

// setting is a field somewhere in the settings of a component.
type setting struct {
	component Component
	used      bool
	enabled   func(extension ID) bool
	// path of keys and indices below the component, the field's own key last; only valid during the call.
	path  []string
	field Field
	// beside is the mapping the field is in.
	beside *Node
}

func (s setting) spot() spot {
	return spot{pathOf(append([]string{s.component.Kind.section(), s.component.key}, s.path...)...), s.field.Line, s.field.Column}
}

// eachSetting calls visit for every field of every component.
func (v view) eachSetting(visit func(setting)) {
	v.eachComponent(func(c Component) {
		s := setting{component: c, used: v.uses(c), enabled: func(id ID) bool { return v.as[Extension][id] || v.unknown[Extension] }}
		s.below(c.Settings, visit)
	})
}

func (s setting) below(n *Node, visit func(setting)) {
	if n == nil {
		return
	}
	for i, item := range n.Items {
		if item.scalar() {
			continue
		}
		in := s
		in.path = append(s.path, strconv.Itoa(i))
		in.below(item, visit)
	}
	for _, f := range n.Fields {
		in := s
		in.path, in.field, in.beside = append(s.path, f.Key), f, n
		visit(in)
		in.below(f.Value, visit)
	}
}
