// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Bounds on a configuration.
const (
	// MaxBytes is the longest body that is looked at: 8 MiB.
	MaxBytes = 8 << 20
	// MaxNodes is how many scalars, lists and mappings a body may come to with its aliases written out. Collectors
	// write them out; a short text can name billions. Long text and mappings of thousands of keys count for more (see weigh).
	MaxNodes = 1 << 20
)

// Reasons for which a body is refused. All are of kind [fault.Invalid]; all but the first carry the metadata "line"
// and "column", counted from 1, columns in bytes.
const (
	// ReasonTooLarge: more than MaxBytes, or more than MaxNodes, or so many lines that it could be.
	ReasonTooLarge = "CONFIG_TOO_LARGE"
	// ReasonNotYAML: the Collector's parser refuses it.
	ReasonNotYAML = "CONFIG_NOT_YAML"
	// ReasonNotMapping: it is YAML, but not one document whose root is a mapping with text as keys.
	ReasonNotMapping = "CONFIG_NOT_A_MAPPING"
)

// CheckMapping returns nil if body is exactly one YAML document whose root is a mapping, as the Collector and its
// supervisor read it; else a [fault.Error] with one of the reasons above. The body is not changed, and need not name
// any component: `{}` is a mapping.
func CheckMapping(body []byte) error {
	_, err := readRoot(body)
	return err
}

// readRoot returns the root of a body that CheckMapping accepts.
func readRoot(body []byte) (root *yaml.Node, err error) {
	if len(body) > MaxBytes {
		return nil, fault.New(fault.Invalid, ReasonTooLarge, "the configuration has %d bytes, more than the %d allowed", len(body), MaxBytes)
	}
	if at := invalidUTF8(body); at >= 0 {
		return nil, notYAML(positionOf(body, at), "a byte that is not UTF-8")
	}
	if marks(body) > maxMarks {
		return nil, tooManyValues()
	}
	// What makes the parser panic here would end the Collector that reads it.
	defer func() {
		if recovered := recover(); recovered != nil {
			err = notYAML(position{1, 1}, "the parser cannot read it").WithCause(fmt.Errorf("yaml: panic: %v", recovered))
		}
	}()
	if root, err = onlyRoot(body); err != nil {
		return nil, err
	}
	return root, checkRoot(body, root)
}

// onlyRoot parses the one document there may be and returns its root, which is a mapping.
func onlyRoot(body []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(body))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, notMapping(position{1, 1}, "there is nothing but white space and comments")
	case err != nil:
		return nil, fromParser(body, nil, err)
	}
	root := &document
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		root = document.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, notMapping(at(root), "the root is "+kindName(root)+", not a mapping")
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
		return root, nil
	case err != nil:
		return nil, fromParser(body, nil, err)
	}
	return nil, notMapping(at(&second), "a second document begins; collectors read only the first")
}

// checkRoot decodes the root the two ways in which it will be decoded on the agent's side.
func checkRoot(body []byte, root *yaml.Node) error {
	if weigh(root) > MaxNodes {
		return tooManyValues()
	}
	var confmap any // go.opentelemetry.io/collector/confmap.NewRetrievedFromYAML
	if err := root.Decode(&confmap); err != nil {
		return fromParser(body, root, err)
	}
	if _, ok := confmap.(map[string]any); !ok {
		return notMapping(firstOddKey(root), "a key at the root is not text")
	}
	var koanf map[string]any // github.com/knadh/koanf/parsers/yaml, in the supervisor
	if err := root.Decode(&koanf); err != nil {
		return fromParser(body, root, err)
	}
	return nil
}

func tooManyValues() error {
	return fault.New(fault.Invalid, ReasonTooLarge,
		"the configuration has more values than collectors can be expected to read, with its aliases written out")
}

func invalidUTF8(body []byte) int {
	if utf8.Valid(body) {
		return -1
	}
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "empty"
		}
		return "a single value"
	default:
		return "empty"
	}
}

// firstOddKey is where the first key of a mapping stands that is not read as text.
func firstOddKey(root *yaml.Node) position {
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch root.Content[i].ShortTag() {
		case "!!str", "!!merge":
		default:
			return at(root.Content[i])
		}
	}
	return at(root)
}
