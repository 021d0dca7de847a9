// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// What agents say is stored as it came, in Part.Raw. The columns that are searched and shown are held to what every
// database takes: one message that cannot be stored would stop its partition for good.
const (
	// MaxName is the most bytes of a service's or host's name that a row keeps; a b-tree entry of PostgreSQL has room for
	// 2704 bytes.
	MaxName = 512
	// MaxLabelKey and MaxLabelValue bound searchable labels: a longer key is left out, a longer value cut.
	MaxLabelKey   = 256
	MaxLabelValue = 1024
	// MaxLabels is how many labels of an agent can be searched: the first by key.
	MaxLabels = 256
)

const replacement = string(utf8.RuneError)

// cleanText is s without what is not UTF-8, and without NUL, which PostgreSQL's text refuses.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

// cleanName is a cleaned name of bounded length; nil stays nil.
func cleanName(s *string) *string {
	if s == nil {
		return nil
	}
	name := cut(cleanText(*s), MaxName)
	return &name
}

// cut returns at most limit bytes of s, whole characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// cleanLabels returns the labels that can be searched; never nil.
func cleanLabels(labels map[string]string) map[string]string {
	kept := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		clean := cleanText(key)
		if len(clean) > MaxLabelKey {
			continue
		}
		if len(kept) == MaxLabels {
			break
		}
		kept[clean] = cut(cleanText(labels[key]), MaxLabelValue)
	}
	return kept
}

// clean is the news of a report as an event of that report's agent.
func clean(news fleet.Event, r *fleet.Report) fleet.Event {
	news.Tenant, news.Agent, news.Message = r.Tenant, r.Agent, cleanText(news.Message)
	if news.At.IsZero() {
		news.At = r.At
	}
	attributes := make(map[string]string, len(news.Attributes))
	for key, value := range news.Attributes {
		attributes[cleanText(key)] = cleanText(value)
	}
	news.Attributes = attributes
	return news
}

// cleanJSON is the value without escaped NULs, which PostgreSQL's jsonb refuses; null if there is none. Other escapes
// it would refuse, halves of surrogate pairs, our encoder does not write.
func cleanJSON(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return json.RawMessage("null")
	}
	value = bytes.ToValidUTF8(value, []byte(replacement))
	if !bytes.Contains(value, []byte(`\u0000`)) {
		return value
	}
	cleaned := make(json.RawMessage, 0, len(value))
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] != '\\' || i+1 == len(value):
			cleaned = append(cleaned, value[i])
		case bytes.HasPrefix(value[i:], []byte(`\u0000`)):
			cleaned = append(cleaned, `\ufffd`...)
			i += len(`\u0000`) - 1
		default: // another escape, of a backslash perhaps: the two belong together
			cleaned = append(cleaned, value[i], value[i+1])
			i++
		}
	}
	return cleaned
}
