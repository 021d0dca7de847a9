// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"strings"
)

// ChangeKind says what a change does.
type ChangeKind string

// The kinds.
const (
	ComponentAdded   ChangeKind = "component_added"
	ComponentRemoved ChangeKind = "component_removed"
	// ComponentModified stands for more changes of settings than are worth listing.
	ComponentModified ChangeKind = "component_modified"
	SettingAdded      ChangeKind = "setting_added"
	SettingRemoved    ChangeKind = "setting_removed"
	SettingChanged    ChangeKind = "setting_changed"
	PipelineAdded     ChangeKind = "pipeline_added"
	PipelineRemoved   ChangeKind = "pipeline_removed"
	MemberAdded       ChangeKind = "member_added"
	MemberRemoved     ChangeKind = "member_removed"
	// MemberMoved is a component that leaves one pipeline and enters another.
	MemberMoved ChangeKind = "member_moved"
	// MembersReordered are the processors of a pipeline.
	MembersReordered  ChangeKind = "members_reordered"
	ExtensionEnabled  ChangeKind = "extension_enabled"
	ExtensionDisabled ChangeKind = "extension_disabled"
	// MoreChanges says how many are left out.
	MoreChanges ChangeKind = "more_changes"
)

// Bounds on changes and on what they show.
const (
	// MaxChanges is how many changes there are at most, the last of which then says how many are left out.
	MaxChanges = 500
	// mostSettings is how many settings of one component are listed.
	mostSettings = 50
)

// Change is one difference of meaning. Secrets in it are [Redacted]; references are shown.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// Path leads to what changes, as in a [Finding]. Of something moved it is where it is afterwards.
	Path string `json:"path"`
	// Before and After are JSON, shortened if they are long; empty if there is nothing.
	Before   string `json:"before,omitempty"`
	After    string `json:"after,omitempty"`
	Sentence string `json:"sentence"`
}

// Diff tells how the meaning of b differs from that of a, in the order of their sections and keys. Formatting, comments,
// anchors, and the order of keys, receivers and exporters are no difference.
func Diff(a, b *Config) []Change {
	return tell(compare(a.normal, b.normal))
}

// edit is a change before it is told: exact, with nothing hidden.
type edit struct {
	kind          ChangeKind
	path          []string
	before, after *Node
	// Of a member: its name, and its place in the list it enters. from is the list that one leaves that is moved.
	member string
	place  int
	from   []string
	// count is how many settings of a modified component change; 0 if what it has were no settings before or after.
	count int
}

func tell(edits []edit) []Change {
	changes := make([]Change, 0, min(len(edits), MaxChanges))
	for i, e := range edits {
		if i == MaxChanges-1 && len(edits) > MaxChanges {
			rest := len(edits) - i
			return append(changes, Change{Kind: MoreChanges, Sentence: fmt.Sprintf("%d more changes are not shown", rest)})
		}
		changes = append(changes, e.tell())
	}
	return changes
}

func (e edit) tell() Change {
	c := Change{Kind: e.kind, Path: pathOf(e.path...)}
	switch e.kind {
	case MemberAdded, MemberRemoved, MemberMoved, ExtensionEnabled, ExtensionDisabled:
		c.Path = pathOf(append(slices.Clone(e.path), unmarked(e.member))...)
	default:
		c.Before, c.After = show(e.path, e.before), show(e.path, e.after)
	}
	c.Sentence = e.sentence(c)
	return c
}

func (e edit) sentence(c Change) string {
	switch e.kind {
	case ComponentAdded, PipelineAdded:
		return e.subject() + " is added"
	case ComponentRemoved, PipelineRemoved:
		return e.subject() + " is removed"
	case ComponentModified:
		if e.count == 0 {
			return fmt.Sprintf("%s changes from %s to %s", e.subject(), c.Before, c.After)
		}
		return fmt.Sprintf("%s changes in %d settings", e.subject(), e.count)
	case SettingAdded:
		return fmt.Sprintf("%s: %s is set to %s", e.subject(), e.within(), c.After)
	case SettingRemoved:
		return fmt.Sprintf("%s: %s is not set any more; it was %s", e.subject(), e.within(), c.Before)
	case SettingChanged:
		return fmt.Sprintf("%s: %s changes from %s to %s", e.subject(), e.within(), c.Before, c.After)
	case MemberAdded:
		return fmt.Sprintf("%s gets the %s %s%s", e.subject(), e.role(), quoted(unmarked(e.member)), e.position())
	case MemberRemoved:
		return fmt.Sprintf("%s loses the %s %s", e.subject(), e.role(), quoted(unmarked(e.member)))
	case MemberMoved:
		return fmt.Sprintf("the %s %s moves from %s to %s%s", e.role(), quoted(unmarked(e.member)), edit{path: e.from}.subject(), e.subject(), e.position())
	case MembersReordered:
		return fmt.Sprintf("%s has its processors in another order: %s, formerly %s", e.subject(), c.After, c.Before)
	case ExtensionEnabled:
		return fmt.Sprintf("the extension %s is enabled", quoted(unmarked(e.member)))
	case ExtensionDisabled:
		return fmt.Sprintf("the extension %s is disabled", quoted(unmarked(e.member)))
	default:
		return string(e.kind)
	}
}

// subject names what the change is about.
func (e edit) subject() string {
	switch {
	case len(e.path) >= 2 && placeOf(e.path[:1]) == inSection:
		return fmt.Sprintf("the %s %s", strings.TrimSuffix(e.path[0], "s"), quoted(e.path[1]))
	case len(e.path) >= 3 && placeOf(e.path[:3]) == inPipeline:
		return fmt.Sprintf("the pipeline %s", quoted(e.path[2]))
	case len(e.path) > 1 && e.path[0] == "service":
		return "the service"
	default:
		return "the configuration"
	}
}

// within is the part of the path that subject does not say.
func (e edit) within() string {
	switch {
	case len(e.path) > 2 && placeOf(e.path[:1]) == inSection:
		return pathOf(e.path[2:]...)
	case len(e.path) > 3 && placeOf(e.path[:3]) == inPipeline:
		return pathOf(e.path[3:]...)
	case len(e.path) > 1 && e.path[0] == "service":
		return pathOf(e.path[1:]...)
	default:
		return pathOf(e.path...)
	}
}

// role is what a member is in its list.
func (e edit) role() string { return strings.TrimSuffix(e.path[len(e.path)-1], "s") }

// position says where a processor comes to stand; the order of the others means nothing.
func (e edit) position() string {
	if e.role() != string(Processor) {
		return ""
	}
	return fmt.Sprintf(" in place %d", e.place+1)
}
