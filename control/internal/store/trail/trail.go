// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package trail is what changes leave behind: the audit event, which says who changed what, and the events, which say to
// the readers of the history what happened. Stores write them in the transaction of the change; what they say is
// composed here, once for all backends.
//
// Nothing of a trail is ever a secret or a body. The package is pure: what it composes depends on the arguments alone.
package trail

import (
	"encoding/json"
	"fmt"
)

// Entry is what an audit event says besides who did it, when and from where.
type Entry struct {
	Action     string // noun.verb: config_version.publish
	EntityKind string
	EntityID   string
	// Before and After are what a person would want to know of the entity; nil for nothing.
	Before, After Fields
}

// Fields become a JSON object.
type Fields map[string]any

// Objects is before and after as parameters: JSON as a string, NULL for nil.
func (e Entry) Objects() (before, after any, err error) {
	if before, err = object(e.Before); err != nil {
		return nil, nil, err
	}
	after, err = object(e.After)
	return before, after, err
}

func object(f Fields) (any, error) {
	if f == nil {
		return nil, nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode for the audit log: %w", err)
	}
	return string(b), nil
}
