// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// configs are drawn from few names, so that two of them have much in common.
func configs(t *rapid.T, label string) map[string]any {
	c := map[string]any{}
	ids := map[string][]string{}
	for _, s := range []struct {
		section string
		types   []string
	}{
		{"receivers", []string{"otlp", "nop"}},
		{"processors", []string{"batch", "filter", "memory_limiter"}},
		{"exporters", []string{"debug", "otlp"}},
		{"connectors", []string{"forward", "count"}},
		{"extensions", []string{"health_check", "zpages"}},
	} {
		section, types := s.section, s.types
		body := map[string]any{}
		for _, id := range rapid.SliceOfNDistinct(id(types), 0, 4, rapid.ID).Draw(t, label+section) {
			body[id] = rapid.OneOf(rapid.Just[any](nil), settings(2)).Draw(t, "body")
			ids[section] = append(ids[section], id)
		}
		if len(body) > 0 || rapid.Bool().Draw(t, "empty") {
			c[section] = body
		}
	}
	pipelines := map[string]any{}
	for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"traces", "traces/a", "metrics", "logs", "logs/b"}), 0, 4, rapid.ID).Draw(t, "pipelines") {
		pipelines[p] = map[string]any{
			"receivers":  some(t, append(ids["receivers"], ids["connectors"]...)),
			"processors": some(t, ids["processors"]),
			"exporters":  some(t, append(ids["exporters"], ids["connectors"]...)),
		}
	}
	service := map[string]any{"pipelines": pipelines, "extensions": some(t, ids["extensions"])}
	if rapid.Bool().Draw(t, "telemetry") {
		service["telemetry"] = settings(2).Draw(t, "telemetry settings")
	}
	c["service"] = service
	return c
}

func id(types []string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom(types).Draw(t, "type") + rapid.SampledFrom([]string{"", "/a", "/b"}).Draw(t, "name")
	})
}

// some draws distinct ids in any order.
func some(t *rapid.T, ids []string) []any {
	if len(ids) == 0 {
		return []any{}
	}
	list := []any{}
	for _, id := range rapid.Permutation(ids).Draw(t, "order")[:rapid.IntRange(0, len(ids)).Draw(t, "how many")] {
		list = append(list, id)
	}
	return list
}

func settings(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.SampledFrom([]any{nil, true, false, 1, 16, 1.5, "x", "1", "true", "${env:X}", "a: b # c", "", "0x10", "~", "é\n", "$$x"}),
	)
	if depth == 0 {
		return scalar
	}
	return rapid.OneOf(
		scalar,
		rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"a", "endpoint", "tls", "1", "x::y", "true"}), settings(depth-1), 0, 3), func(m map[string]any) any { return m }),
		rapid.Map(rapid.SliceOfN(settings(depth-1), 0, 3), func(l []any) any { return l }),
	)
}

func parsed(t interface{ Fatalf(string, ...any) }, body []byte) *Config {
	c, err := Parse(body)
	if err != nil {
		t.Fatalf("%v in\n%.2000s", err, body)
	}
	return c
}

func written(t *rapid.T, value any) []byte {
	body, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestFormatIsNoMeaning writes one configuration in two ways: keys in any order, flow or block, other quotes, comments,
// anchors. The hash is the same and there is no difference.
func TestFormatIsNoMeaning(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := configs(t, "a")
		plain := written(t, value)
		var document yaml.Node
		if err := yaml.Unmarshal(plain, &document); err != nil {
			t.Fatal(err)
		}
		restyle(t, document.Content[0])
		anchored(t, document.Content[0])
		fancy := written(t, &document)
		a, b := parsed(t, plain), parsed(t, fancy)
		if a.SemanticHash() != b.SemanticHash() {
			t.Fatalf("the hash differs between\n%s\nand\n%s", plain, fancy)
		}
		if d := Diff(a, b); len(d) > 0 {
			t.Fatalf("differences: %+v between\n%s\nand\n%s", d, plain, fancy)
		}
	})
}

// restyle changes what a node looks like. Receivers and exporters of pipelines are shuffled with the rest.
func restyle(t *rapid.T, n *yaml.Node) {
	if rapid.Bool().Draw(t, "comment") {
		n.HeadComment = "# a comment"
	}
	switch n.Kind {
	case yaml.MappingNode:
		pairs := slices.Collect(slices.Chunk(slices.Clone(n.Content), 2))
		n.Content = nil
		for _, p := range rapid.Permutation(pairs).Draw(t, "keys") {
			if key := p[0].Value; key == "receivers" || key == "exporters" || key == "extensions" {
				p[1].Content = shuffledList(t, p[1])
			}
			n.Content = append(n.Content, p...)
		}
	case yaml.ScalarNode:
		if n.ShortTag() == "!!str" {
			n.Style = rapid.SampledFrom([]yaml.Style{yaml.DoubleQuotedStyle, yaml.SingleQuotedStyle}).Draw(t, "quotes")
		}
	default:
	}
	if n.Kind != yaml.ScalarNode && rapid.Bool().Draw(t, "flow") {
		n.Style = yaml.FlowStyle
	}
	for _, child := range n.Content {
		restyle(t, child)
	}
}

func shuffledList(t *rapid.T, n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode || len(n.Content) < 2 || n.Content[0].Kind != yaml.ScalarNode {
		return n.Content
	}
	return rapid.Permutation(n.Content).Draw(t, "list")
}

// anchored replaces the bodies of components that are written alike by aliases of the first.
func anchored(t *rapid.T, root *yaml.Node) {
	first := map[string]*yaml.Node{}
	anchors := 0
	for i := 1; i < len(root.Content); i += 2 {
		section := root.Content[i]
		if root.Content[i-1].Value == "service" || section.Kind != yaml.MappingNode {
			continue
		}
		for j := 1; j < len(section.Content); j += 2 {
			body := section.Content[j]
			text := string(written(t, body))
			if seen := first[text]; seen != nil && rapid.Bool().Draw(t, "alias") {
				if seen.Anchor == "" {
					anchors++
					seen.Anchor = "same" + strconv.Itoa(anchors)
				}
				section.Content[j] = &yaml.Node{Kind: yaml.AliasNode, Value: seen.Anchor, Alias: seen}
			} else if seen == nil {
				first[text] = body
			}
		}
	}
}

func TestNothingDiffersFromItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := written(t, configs(t, "a"))
		a, again := parsed(t, body), parsed(t, body)
		if d := Diff(a, again); len(d) > 0 {
			t.Fatalf("%+v", d)
		}
		if d := Drift(a, again); len(d) > 0 {
			t.Fatalf("drifted from itself: %+v", d)
		}
	})
}

// TestDifferencesTellTheWholeStory does to one configuration what its difference from another says, and has the other.
func TestDifferencesTellTheWholeStory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := written(t, configs(t, "a")), written(t, configs(t, "b"))
		a, b := parsed(t, before), parsed(t, after)
		edits := compare(a.normal, b.normal)
		if got := apply(a.normal, edits); !equal(got, b.normal) {
			t.Fatalf("%+v does not lead from\n%s\nto\n%s", edits, before, after)
		}
		if same := a.SemanticHash() == b.SemanticHash(); same != (len(edits) == 0) {
			t.Fatalf("equal hashes: %v, and %d differences", same, len(edits))
		}
		for _, c := range Diff(a, b) {
			if c.Sentence == "" || c.Kind == "" || c.Path == "" || len(c.Before)+len(c.After) > 4*longestShown {
				t.Fatalf("an odd change: %+v", c)
			}
		}
	})
}

// TestTheModelIsWhatTheParserReads holds our own resolving of aliases, merges and scalars to the parser's.
func TestTheModelIsWhatTheParserReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := written(t, configs(t, "a"))
		sameAsParser(t, body)
	})
}
