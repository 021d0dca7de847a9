// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package instrument

import (
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Other is the value of a label for whatever is not among its values.
const Other = "other"

// series keeps the labels of an instrument ready for use: agents' messages are counted one by one.
type series struct {
	labels []Label

	mu    sync.RWMutex
	ready map[[maxLabels]string]options
}

// options are the labels of one series, as each kind of measurement wants them.
type options struct {
	add     []metric.AddOption
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

func newSeries(labels []Label) *series {
	return &series{labels: labels[:min(len(labels), maxLabels)], ready: make(map[[maxLabels]string]options)}
}

// of returns the series of the values.
func (s *series) of(values []string) options {
	key := s.key(values)
	s.mu.RLock()
	found, ok := s.ready[key]
	s.mu.RUnlock()
	if ok {
		return found
	}
	return s.make(key)
}

// key puts [Other] in the place of values that were not declared, or are missing.
func (s *series) key(values []string) (key [maxLabels]string) {
	for i, l := range s.labels {
		key[i] = Other
		if i < len(values) && slices.Contains(l.Values, values[i]) {
			key[i] = values[i]
		}
	}
	return key
}

func (s *series) make(key [maxLabels]string) options {
	attributes := make([]attribute.KeyValue, len(s.labels))
	for i, l := range s.labels {
		attributes[i] = attribute.String(l.Key, key[i])
	}
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	made := options{add: []metric.AddOption{set}, record: []metric.RecordOption{set}, observe: []metric.ObserveOption{set}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready[key] = made
	return made
}
