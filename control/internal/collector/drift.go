// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strconv"
	"strings"
)

// Drift tells what an agent runs otherwise than it was assigned: Before is what was assigned, After what it says it
// runs. It is made for what agents really report: configurations with all defaults filled in, references resolved,
// durations in another spelling, headers as lists of name and value, secrets hidden, settings left out that the
// component keeps to itself, and whatever the supervisor and local files add. So it looks for what was assigned and not
// the other way round, and where it cannot know, it says nothing: an honest agent has no drift.
//
// A pipeline is what was assigned only if it has no other members than those.
func Drift(assigned, effective *Config) []Change {
	d := drifter{expanded: effective.expanded()}
	d.at(nil, assigned.normal, effective.normal)
	return tell(paired(d.edits))
}

// expanded reports whether the configuration is one that a Collector wrote, from its own types: those have every
// section and no reference. What is not in it may be there all the same. Else a supervisor merged it from texts.
func (c *Config) expanded() bool {
	for _, s := range c.sections() {
		if c.root.field(s.Kind.section()) == nil {
			return false
		}
	}
	return !refers(c.root)
}

func refers(n *Node) bool {
	return isReference(n) ||
		slices.ContainsFunc(n.Items, refers) ||
		slices.ContainsFunc(n.Fields, func(f Field) bool { return refers(f.Value) })
}

type drifter struct {
	differ // in which changes are noted

	expanded bool
}

// whenGone is what is said of a place at which nothing runs.
var whenGone = map[place]ChangeKind{inComponent: ComponentRemoved, inPipeline: PipelineRemoved}

// at compares what was assigned at a path with what runs.
func (d *drifter) at(path []string, a, e *Node) {
	switch p := placeOf(path); {
	case isReference(a):
	case e == nil && whenGone[p] != "":
		d.note(whenGone[p], path, a, nil)
	case (p.container() || p == inPipeline) && bothMaps(a, e):
		d.assigned(path, a, e)
	case p == inMembers && bothIDs(a, e):
		if !refers(a) {
			d.members(path, a, e)
		}
	case p == inExtensions && bothIDs(a, e):
		d.disabled(path, a, e)
	default:
		d.setting(path, a, e)
	}
}

// assigned compares the fields that were assigned.
func (d *drifter) assigned(path []string, a, e *Node) {
	for _, f := range a.Fields {
		d.at(append(path, f.Key), f.Value, e.Get(f.Key))
	}
}

func (d *drifter) disabled(path []string, a, e *Node) {
	for _, id := range labels(a).without(labels(e)) {
		if !hasReference(id) {
			d.edits = append(d.edits, edit{kind: ExtensionDisabled, path: slices.Clone(path), member: id})
		}
	}
}

// setting compares a value that was assigned with the one that runs.
func (d *drifter) setting(path []string, a, e *Node) {
	switch e = asWritten(path, a, e); {
	case a.Kind == Null || isReference(a) || e.is(String) && strings.Contains(e.Text, Redacted):
	case e == nil || e.Kind == Null:
		d.absent(path, a, e)
	case a.Kind == Map && e.Kind == Map:
		for _, f := range a.Fields {
			d.setting(append(path, f.Key), f.Value, e.Get(f.Key))
		}
	case a.Kind == List && e.Kind == List:
		d.lists(path, a, e)
	case d.unlike(path, a, e):
		d.note(SettingChanged, path, a, e)
	}
}

// unlike reports whether two values differ that are not both mappings or both lists. Collectors may show another kind of
// value than was written; merged texts do not.
func (d *drifter) unlike(path []string, a, e *Node) bool {
	if a.scalar() && e.scalar() {
		return !sameValue(a.Text, e.Text)
	}
	return !d.expanded && !telemetry(path)
}

// absent is about what runs with nothing, or null, in place of what was assigned.
func (d *drifter) absent(path []string, a, e *Node) {
	switch {
	case a.off():
	case e == nil && d.shows(path):
		d.note(SettingRemoved, path, a, nil)
	case e != nil && !telemetry(path):
		d.note(SettingChanged, path, a, e)
	}
}

func (d *drifter) lists(path []string, a, e *Node) {
	switch {
	case telemetry(path): // the supervisor adds readers and processors, and Collectors translate them to newer forms
	case len(a.Items) != len(e.Items):
		d.note(SettingChanged, path, a, e)
	default:
		for i := range a.Items {
			d.setting(append(path, strconv.Itoa(i)), a.Items[i], e.Items[i])
		}
	}
}

// shows reports whether a setting at the path would be shown if it were there. Collectors do not show everything of
// their own, but they do show headers.
func (d *drifter) shows(path []string) bool {
	if telemetry(path) {
		return false
	}
	return !d.expanded || len(path) > 1 && holdsHeaders(path[len(path)-2])
}

// telemetry reports whether the path is the Collector's own telemetry, which supervisors are offered settings for.
func telemetry(path []string) bool {
	return len(path) > 1 && path[0] == "service" && path[1] == "telemetry"
}

// off reports whether a value may be shown as nothing: it is empty, zero, false, or a mapping that is switched off.
func (n *Node) off() bool {
	return n.empty() || n.Get("enabled").isFalse() || n.scalar() && slices.Contains([]string{"", "0", "0s", "false"}, n.Text)
}

// asWritten returns headers that were assigned as a mapping as one, where Collectors show a list of names and values.
func asWritten(path []string, assigned, n *Node) *Node {
	if assigned.Kind != Map || !n.is(List) || !holdsHeaders(path[len(path)-1]) {
		return n
	}
	fields := make([]Field, 0, len(n.Items))
	for _, item := range n.Items {
		if name, value := item.Get("name"), item.Get("value"); name.is(String) && value != nil {
			fields = append(fields, Field{Key: name.Text, Value: value})
		}
	}
	return mapping(n.Line, n.Column, fields)
}
