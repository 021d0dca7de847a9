// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// format is how results are written.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

// String, Set and Type make format a flag.
func (f *format) String() string { return string(*f) }

// Set refuses what is no format.
func (f *format) Set(text string) error {
	switch format(text) {
	case formatTable, formatJSON, formatYAML:
		*f = format(text)
		return nil
	default:
		return fmt.Errorf("it is one of: table, json, yaml")
	}
}

// Type names the flag's value in the help.
func (f *format) Type() string { return "table|json|yaml" }

// table collects the rows of one table. Cells are escaped by whoever makes them from foreign text, with [or] or
// [escape].
type table struct {
	heads []string
	rows  [][]string
}

func newTable(heads ...string) *table { return &table{heads: heads} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(out io.Writer) error {
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, cells := range append([][]string{t.heads}, t.rows...) {
		if _, err := fmt.Fprintln(columns, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return columns.Flush()
}

// properties collects what is known of one thing, one line each. Lines without a value are left out.
type properties struct{ lines [][2]string }

func (p *properties) add(name, value string) {
	if value != "" && value != none {
		p.lines = append(p.lines, [2]string{name, value})
	}
}

func (p *properties) write(out io.Writer) error {
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range p.lines {
		if _, err := fmt.Fprintf(columns, "%s:\t%s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return columns.Flush()
}

// view is what a person sees of a message in the table format.
type view interface{ write(out io.Writer) error }

// views are several, one after the other.
type views []view

func (v views) write(out io.Writer) error {
	for _, one := range v {
		if err := one.write(out); err != nil {
			return err
		}
	}
	return nil
}

// show writes a result in the format asked for. seen is called for a table only.
func (p *program) show(message proto.Message, seen func() view) error {
	if p.format == formatTable {
		return seen().write(p.streams.Out)
	}
	text, err := p.encode(message, "  ")
	if err != nil {
		return err
	}
	_, err = p.streams.Out.Write(text)
	return err
}

// encode writes a message as JSON, indented unless indent is empty, or as YAML.
func (p *program) encode(message proto.Message, indent string) ([]byte, error) {
	text, err := jsonOf(message, indent)
	if err != nil || p.format != formatYAML {
		return text, err
	}
	return yamlOf(text)
}

// jsonOf is the API's JSON mapping with a layout that is the same every time: protojson varies its spaces on purpose.
func jsonOf(message proto.Message, indent string) ([]byte, error) {
	raw, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	var laidOut bytes.Buffer
	if indent == "" {
		err = json.Compact(&laidOut, raw)
	} else {
		err = json.Indent(&laidOut, raw, "", indent)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	laidOut.WriteByte('\n')
	return escapeJSON(laidOut.Bytes()), nil
}

// yamlOf reads JSON, which YAML contains, as a tree of YAML nodes, so that the order of fields stays.
func yamlOf(text []byte) ([]byte, error) {
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	blockStyle(&tree)
	var laidOut bytes.Buffer
	encoder := yaml.NewEncoder(&laidOut)
	encoder.SetIndent(2)
	if err := encoder.Encode(&tree); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return laidOut.Bytes(), nil
}

// blockStyle drops JSON's braces. Strings that hold characters a terminal acts on stay in double quotes, where they are
// escaped; the others get the quotes they need.
func blockStyle(node *yaml.Node) {
	if node.Kind != yaml.ScalarNode || escape(node.Value) == node.Value {
		node.Style = 0
	}
	for _, child := range node.Content {
		blockStyle(child)
	}
}

// sentence is a view of a single line. Its arguments are escaped.
func sentence(form string, args ...any) view { return line(escape(fmt.Sprintf(form, args...))) }

type line string

func (l line) write(out io.Writer) error {
	_, err := fmt.Fprintln(out, string(l))
	return err
}
