// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// normalise returns the configuration as one tree in which everything that means the same to the Collector is the same:
//
//   - ids are without white space around their halves;
//   - a component without settings has an empty mapping;
//   - receivers and exporters of a pipeline, and the extensions, are sorted and named once; processors keep their order;
//   - what is empty at the level of sections, service and pipelines is left out.
//
// What has an unexpected shape is kept as it is. Settings are not touched: only their component knows what they mean.
func normalise(root *Node) *Node {
	var fields []Field
	for _, f := range root.Fields {
		switch f.Key {
		case "receivers", "processors", "exporters", "connectors", "extensions":
			f.Value = normalSection(f.Value)
		case "service":
			f.Value = normalService(f.Value)
		default:
			fields = append(fields, f)
			continue
		}
		if !f.Value.empty() {
			fields = append(fields, f)
		}
	}
	return mapping(root.Line, root.Column, fields)
}

func normalSection(n *Node) *Node {
	return eachEntry(n, func(body *Node) *Node {
		if body.Kind == Null {
			return &Node{Kind: Map, Line: body.Line, Column: body.Column}
		}
		return body
	})
}

// eachEntry returns the mapping with its keys read as ids and its values changed. Anything else is returned as it is.
func eachEntry(n *Node, change func(*Node) *Node) *Node {
	if !n.is(Map) {
		return n
	}
	fields := make([]Field, 0, len(n.Fields))
	for _, f := range n.Fields {
		fields = append(fields, Field{Key: normalID(f.Key), Line: f.Line, Column: f.Column, Value: change(f.Value)})
	}
	made := mapping(n.Line, n.Column, fields)
	// Two keys that are one id are refused by the Collector; here the first stays.
	made.Fields = slices.CompactFunc(made.Fields, func(a, b Field) bool { return a.Key == b.Key })
	return made
}

// normalID is the one spelling of an id. What is none stays as it is.
func normalID(text string) string {
	id, wrong := parseID(text)
	if wrong != "" {
		return text
	}
	return id.String()
}

// changed returns n with some of its fields changed, without those that are empty then.
func changed(n *Node, how map[string]func(*Node) *Node) *Node {
	if !n.is(Map) {
		return n
	}
	fields := make([]Field, 0, len(n.Fields))
	for _, f := range n.Fields {
		change, ok := how[f.Key]
		if ok {
			f.Value = change(f.Value)
		}
		if !ok || !f.Value.empty() {
			fields = append(fields, f)
		}
	}
	return mapping(n.Line, n.Column, fields)
}

func normalService(n *Node) *Node {
	return changed(n, map[string]func(*Node) *Node{
		"extensions": idSet,
		"telemetry":  func(n *Node) *Node { return n },
		"pipelines": func(n *Node) *Node {
			return eachEntry(n, normalPipeline)
		},
	})
}

func normalPipeline(n *Node) *Node {
	if n.Kind == Null {
		return &Node{Kind: Map, Line: n.Line, Column: n.Column}
	}
	return changed(n, map[string]func(*Node) *Node{"receivers": idSet, "processors": idList, "exporters": idSet})
}

// idList returns a list of ids with each in its normal spelling, anything else as it is.
func idList(n *Node) *Node {
	if !ids(n) {
		return n
	}
	items := make([]*Node, 0, len(n.Items))
	for _, item := range n.Items {
		items = append(items, &Node{Kind: String, Line: item.Line, Column: item.Column, Text: normalID(item.Text)})
	}
	return &Node{Kind: List, Line: n.Line, Column: n.Column, Items: items}
}

// idSet is idList without order and repetition.
func idSet(n *Node) *Node {
	n = idList(n)
	if ids(n) {
		slices.SortStableFunc(n.Items, func(a, b *Node) int { return cmp.Compare(a.Text, b.Text) })
		n.Items = slices.CompactFunc(n.Items, func(a, b *Node) bool { return a.Text == b.Text })
	}
	return n
}

// ids reports whether n is a list of texts.
func ids(n *Node) bool {
	return n.is(List) && !slices.ContainsFunc(n.Items, func(item *Node) bool { return item.Kind != String })
}

// SemanticHash is the SHA-256 over the normal form: equal for configurations that mean the same to the Collector,
// whatever their formatting, comments, anchors and order of keys.
func (c *Config) SemanticHash() fleet.SemanticHash {
	h := sha256.New()
	w := bufio.NewWriterSize(h, 4096)
	_, _ = w.WriteString("ampora collector v1\x00")
	encode(w, c.normal)
	_ = w.Flush()
	return fleet.SemanticHash(h.Sum(nil))
}

// encode writes a node so that two different ones never give the same bytes: kind, length, content.
func encode(w *bufio.Writer, n *Node) {
	_ = w.WriteByte(byte(n.Kind))
	switch n.Kind {
	case List:
		encodeLength(w, len(n.Items))
		for _, item := range n.Items {
			encode(w, item)
		}
	case Map:
		encodeLength(w, len(n.Fields))
		for _, f := range n.Fields {
			encodeText(w, f.Key)
			encode(w, f.Value)
		}
	default:
		encodeText(w, n.Text)
	}
}

func encodeText(w *bufio.Writer, text string) {
	encodeLength(w, len(text))
	_, _ = io.WriteString(w, text)
}

func encodeLength(w *bufio.Writer, n int) {
	var b [binary.MaxVarintLen64]byte
	_, _ = w.Write(b[:binary.PutUvarint(b[:], uint64(n))]) //nolint:gosec // a length
}
