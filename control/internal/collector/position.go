// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

// position is a place in a body, counted from 1.
type position struct{ line, column int }

func at(n *yaml.Node) position { return position{max(n.Line, 1), max(n.Column, 1)} }

func positionOf(body []byte, offset int) position {
	before := body[:offset]
	return position{bytes.Count(before, []byte{'\n'}) + 1, offset - bytes.LastIndexByte(before, '\n')}
}

func notYAML(p position, what string) *fault.Error { return refusal(ReasonNotYAML, p, what) }

func notMapping(p position, what string) *fault.Error { return refusal(ReasonNotMapping, p, what) }

func refusal(reason string, p position, what string) *fault.Error {
	return fault.New(fault.Invalid, reason, "line %d, column %d: %s", p.line, p.column, what).
		With("line", strconv.Itoa(p.line)).With("column", strconv.Itoa(p.column))
}

var parserLine = regexp.MustCompile(`^line ([0-9]+): `)

// countsFromZero matches what the grammar (not the scanner) of the parser complains of: it counts those lines from 0.
var countsFromZero = regexp.MustCompile(`^did not find expected (<document start>|<stream-start>|node content|key|'-' indicator|',' or '[\]}]')$`)

// fromParser turns an error of the parser into ours. The parser knows lines only; root, if there is one, knows what
// stands on them. Without a root the column is that of the line's first character that is no space, which for the
// commonest mistakes (indentation, tabs) is the place.
func fromParser(body []byte, root *yaml.Node, err error) *fault.Error {
	text := err.Error()
	if types := (*yaml.TypeError)(nil); errors.As(err, &types) && len(types.Errors) > 0 {
		text = types.Errors[0]
	}
	text = strings.TrimPrefix(text, "yaml: ")
	line := 1
	if match := parserLine.FindStringSubmatch(text); match != nil {
		text = strings.TrimPrefix(text, match[0])
		line, _ = strconv.Atoi(match[1])
		if countsFromZero.MatchString(text) {
			line++
		}
	}
	if root != nil {
		if node := firstOn(root, line); node != nil {
			return notYAML(at(node), text)
		}
	}
	return notYAML(position{line, indentation(body, line) + 1}, text)
}

// firstOn returns the first node of the line in the order of the text.
func firstOn(n *yaml.Node, line int) *yaml.Node {
	if n.Line == line && n.Kind != yaml.MappingNode && n.Kind != yaml.SequenceNode {
		return n
	}
	for _, child := range n.Content {
		if found := firstOn(child, line); found != nil {
			return found
		}
	}
	return nil
}

// indentation counts the spaces a line begins with.
func indentation(body []byte, line int) int {
	for range line - 1 {
		_, body, _ = bytes.Cut(body, []byte{'\n'})
	}
	return len(body) - len(bytes.TrimLeft(body, " "))
}
