// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

// StandIn is a configuration that may be shown to a Collector of which nothing is known: where the other has a reference
// or a secret, it has a placeholder. It is not safe for concurrent use.
//
// Nobody knows of what type a reference will be. A placeholder begins as a number that the Collector also takes for text
// (its provider "yaml" keeps both), and may be given another type; see [StandIn.Vary].
type StandIn struct {
	config *Config
	holes  map[string]*hole // by path
}

// hole is a place where a placeholder is.
type hole struct {
	path []string
	// tried is which of placeholders it has. A fixed one has the only one that can be there.
	tried int
	fixed *yaml.Node
}

// placeholders in the order in which they are tried. What stands for a whole value begins with the first.
var placeholders = []*yaml.Node{
	text("${yaml:1}"),
	text("1"), // for a Collector without the provider
	scalar("!!int", "1"),
	scalar("!!bool", "true"),
	text("localhost:4317"),
	{Kind: yaml.SequenceNode, Style: yaml.FlowStyle},
	{Kind: yaml.MappingNode, Style: yaml.FlowStyle},
}

// firstTyped is the first placeholder that is not a number and a text at once.
const firstTyped = 3

func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Style: yaml.DoubleQuotedStyle}
}

// StandIn returns the stand-in of the configuration.
func (c *Config) StandIn() *StandIn {
	return &StandIn{config: c, holes: map[string]*hole{}}
}

// mostShown is how many values a stand-in has at most: several are made at once, some hundred bytes a value.
const mostShown = 1 << 17

// Body is the stand-in as YAML, with its aliases written out: if that is longer than MaxBytes, or has more than 131 072
// values, it is refused with ReasonTooLarge.
func (s *StandIn) Body() ([]byte, error) {
	if count(s.config.root, mostShown) > mostShown {
		return nil, tooManyValues()
	}
	var body bytes.Buffer
	encoder := yaml.NewEncoder(&body)
	if err := encoder.Encode(s.node(s.config.root, nil, false)); err != nil || body.Len() > MaxBytes {
		return nil, fault.New(fault.Invalid, ReasonTooLarge, "the configuration is too long with its aliases written out").WithCause(err)
	}
	return body.Bytes(), nil
}

// count is how many values there are below a node, itself among them, or some number above most.
func count(n *Node, most int) int {
	total := 1
	for _, item := range n.Items {
		if total += count(item, most-total); total > most {
			return total
		}
	}
	for _, f := range n.Fields {
		if total += count(f.Value, most-total); total > most {
			return total
		}
	}
	return total
}

func (s *StandIn) node(n *Node, path []string, secret bool) *yaml.Node {
	switch n.Kind {
	case List:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i, item := range n.Items {
			list.Content = append(list.Content, s.node(item, append(path, strconv.Itoa(i)), secret))
		}
		return list
	case Map:
		fields := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range n.Fields {
			below := len(path) >= 2 && hides(n, f.Key, secret)
			fields.Content = append(fields.Content, text(f.Key), s.node(f.Value, append(path, f.Key), below))
		}
		return fields
	case String:
		return s.text(n.Text, path, secret)
	case Null:
		return scalar("!!null", "null")
	case Bool:
		return scalar("!!bool", n.Text)
	case Int:
		return scalar("!!int", n.Text)
	case Time:
		return scalar("!!timestamp", n.Text)
	default:
		spelled := map[string]string{"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}
		return scalar("!!float", cmp.Or(spelled[n.Text], n.Text))
	}
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// text is what stands for a text. A part of a text can only be text.
func (s *StandIn) text(value string, path []string, secret bool) *yaml.Node {
	spans := references(value)
	switch {
	case len(spans) == 1 && spans[0] == span{0, len(value)}:
		h := s.hole(path)
		if h.fixed != nil {
			return h.fixed
		}
		return placeholders[h.tried]
	case secret && plainly(value), pemKey.MatchString(value):
		return s.only(path, text("1"))
	}
	// What is hidden is hidden wherever it is in the text, so this comes before its references.
	hidden := userInfo.ReplaceAllString(value, "${1}:1@")
	var whole strings.Builder
	from := 0
	for _, r := range references(hidden) {
		whole.WriteString(hidden[from:r.begin] + "1")
		from = r.end
	}
	whole.WriteString(hidden[from:])
	if whole.String() == value {
		return text(value)
	}
	return s.only(path, text(whole.String()))
}

// only notes that there is a placeholder which can be no other.
func (s *StandIn) only(path []string, placeholder *yaml.Node) *yaml.Node {
	s.hole(path).fixed = placeholder
	return placeholder
}

// hole notes that there is a placeholder at the path.
func (s *StandIn) hole(path []string) *hole {
	key := strings.Join(path, delimiter)
	h := s.holes[key]
	if h == nil {
		h = &hole{path: slices.Clone(path), fixed: structural(path)}
		s.holes[key] = h
	}
	return h
}

// structural is what stands for what is part of the structure: an empty mapping or list. It is nil for a setting.
func structural(path []string) *yaml.Node {
	list, fields := placeholders[len(placeholders)-2], placeholders[len(placeholders)-1]
	service := len(path) > 0 && path[0] == "service"
	switch {
	case len(path) == 1, len(path) == 2 && !service:
		return fields
	case !service:
		return nil
	case path[1] == "extensions" && len(path) == 2, path[1] == "pipelines" && len(path) == 4:
		return list
	case len(path) == 2, path[1] == "pipelines" && len(path) == 3:
		return fields
	default:
		return nil
	}
}

// wires reports whether it depends on the hole what components there are, or which are used.
func (h *hole) wires() bool {
	return len(h.path) == 1 || h.path[0] == "service" && (h.path[1] == "pipelines" || h.path[1] == "extensions")
}

// Vary gives another type to the placeholders that a Collector complains of by name, and reports whether there were any.
// What it said before is then of no use: it is to be asked again. It is true no more than a few times.
func (s *StandIn) Vary(output string) bool {
	varied := false
	if strings.Contains(output, `scheme "yaml" is not supported`) {
		for _, h := range s.holes {
			if h.fixed == nil && h.tried == 0 {
				h.tried, varied = 1, true
			}
		}
		return varied
	}
	for _, c := range s.complaints(output) {
		h := s.holes[strings.Join(c.path, delimiter)]
		if h == nil || h.fixed != nil || h.tried == len(placeholders)-1 {
			continue
		}
		if h.tried++; h.tried == 1 {
			h.tried = firstTyped
		}
		varied = true
	}
	return varied
}
