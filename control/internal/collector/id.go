// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"regexp"
	"strings"
)

// What the Collector accepts as the two halves of an id (component/identifiable.go, pipeline/pipeline.go).
var (
	typeForm = regexp.MustCompile(`^[a-zA-Z][0-9a-zA-Z_]{0,62}$`)
	nameForm = regexp.MustCompile(`^[^\pZ\pC\pS]+$`)
)

const (
	longestName = 1024
	// longestID has room for the longest type and name and for white space around them.
	longestID = 2048
)

// Signals are the kinds of data a pipeline can carry.
var Signals = []string{"logs", "metrics", "profiles", "traces"}

// ID is type[/name], of a component, or signal[/name], of a pipeline.
type ID struct {
	Type, Name string
}

// String is the id as it is written.
func (id ID) String() string {
	if id.Name == "" {
		return id.Type
	}
	return id.Type + "/" + id.Name
}

// parseID splits an id as the Collector does, which drops white space around both halves. An id it would refuse is
// returned with the reason.
func parseID(text string) (ID, string) {
	if len(text) > longestID {
		return ID{Type: clip(text, longestID)}, fmt.Sprintf("it is longer than %d bytes", longestID)
	}
	kind, name, named := strings.Cut(text, "/")
	id := ID{strings.TrimSpace(kind), strings.TrimSpace(name)}
	switch {
	case id.Type == "" && !named:
		return id, "an id cannot be empty"
	case id.Type == "":
		return id, "there is nothing before the /"
	case named && id.Name == "":
		return id, "there is nothing after the /"
	case len(id.Name) > longestName:
		return id, fmt.Sprintf("the name is longer than %d bytes", longestName)
	case named && !nameForm.MatchString(id.Name):
		return id, "the name holds white space, a control character or a symbol"
	case !typeForm.MatchString(id.Type):
		return id, "the type must be a letter, then letters, digits and underscores, 63 at most"
	}
	return id, ""
}

// kind is the type without underscores. Upstream renames types to have them (otlphttp is otlp_http now) and accepts the
// former as well, so what is known of a type is known of both.
func (id ID) kind() string { return kindOf(id.Type) }

func kindOf(componentType string) string { return strings.ReplaceAll(componentType, "_", "") }
