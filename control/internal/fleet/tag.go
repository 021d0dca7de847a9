// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tag is what is known of an agent without asking it: an operator said so, or the token or pool it enrolled with did.
// The operator has the last word: what one sets takes the place of what came with the enrolment, and what one removes
// does not come back.
type Tag struct {
	Value  string    `json:"value"`
	Origin TagOrigin `json:"origin"`
}

// TagOrigin is who set a tag.
type TagOrigin string

// The origins.
const (
	TagOfOperator  TagOrigin = "operator"
	TagOfEnrolment TagOrigin = "enrolment"
)

// Bounds of tags.
const (
	MaxTags     = 64 // of one agent
	MaxTagKey   = 128
	MaxTagValue = 256
)

// tagKey has no "=" and does not end with "-", so that a key can be told from what is done with it on a command line.
var tagKey = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)

// CheckTag says in words what is wrong with a tag.
func CheckTag(key, value string) error {
	switch {
	case len(key) > MaxTagKey:
		return fmt.Errorf("the key of a tag has at most %d characters", MaxTagKey)
	case !tagKey.MatchString(key):
		return errors.New("the key of a tag consists of letters, digits and . _ / -, and begins and ends with a letter or digit")
	case len(value) > MaxTagValue:
		return fmt.Errorf("the value of the tag %s has at most %d bytes", key, MaxTagValue)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("the value of the tag %s is a line of text", key)
	default:
		return nil
	}
}

// TagChange is what becomes of tags: those in Set have these values, those in Remove are gone. No key is in both.
type TagChange struct {
	Set    map[string]string
	Remove []string
}

// Check says in words what is wrong with the change.
func (c TagChange) Check() error {
	if len(c.Set)+len(c.Remove) == 0 {
		return errors.New("no tag is named")
	}
	for _, key := range slices.Sorted(maps.Keys(c.Set)) {
		if err := CheckTag(key, c.Set[key]); err != nil {
			return err
		}
	}
	for _, key := range c.Remove {
		if err := CheckTag(key, ""); err != nil {
			return err
		}
		if _, both := c.Set[key]; both {
			return fmt.Errorf("the tag %s cannot be both set and removed", key)
		}
	}
	return nil
}

// Of is what tags become by the change; tags stay as they are.
func (c TagChange) Of(tags map[string]Tag) map[string]Tag {
	next := maps.Clone(tags)
	if next == nil {
		next = map[string]Tag{}
	}
	for key, value := range c.Set {
		next[key] = Tag{Value: value, Origin: TagOfOperator}
	}
	for _, key := range c.Remove {
		delete(next, key)
	}
	return next
}
