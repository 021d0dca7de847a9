// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package instrument makes the instruments of a program from declarations.
//
// Its guarantees: an instrument has a name that follows the rule of [Declaration], says in a sentence what it measures
// and under which labels, and cannot be made otherwise; so what a program measures can be listed ([Catalogue]) without
// running it. The values of a label are a closed set: whatever else is measured under it counts as [Other], so no peer
// can make a time series.
package instrument

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.opentelemetry.io/otel/metric"
)

// Kind is how an instrument measures.
type Kind string

// The kinds, as Prometheus calls them.
const (
	KindCounter   Kind = "counter"
	KindGauge     Kind = "gauge"
	KindHistogram Kind = "histogram"
)

// Declaration is what there is to know of an instrument.
type Declaration struct {
	Kind Kind
	// Name is ampora_, the part of the program, and what is measured: ampora_gateway_sessions. It has no suffix for
	// unit or kind: both follow from the other fields and are added where metrics are shown (see Shown).
	Name string
	// Unit is "s", "By", or what is counted in braces: "{session}".
	Unit string
	// Help is a sentence.
	Help   string
	Labels []Label
	// Buckets of a histogram are upper bounds, ascending.
	Buckets []float64
}

// Label is a dimension of an instrument and the values it can take.
type Label struct {
	Key    string
	Values []string
}

// By declares a label.
func By(key string, values ...string) Label { return Label{Key: key, Values: values} }

// suffixes are what units are called at the end of a name.
var suffixes = map[string]string{"s": "_seconds", "By": "_bytes"}

// Shown is the name in Prometheus' form, as /metrics has it.
func (d Declaration) Shown() string {
	name := d.Name + suffixes[d.Unit]
	if d.Kind == KindCounter {
		name += "_total"
	}
	return name
}

// maxLabels keeps the number of series of an instrument small.
const maxLabels = 3

var (
	names     = regexp.MustCompile(`^ampora_(bus|control|gateway|otlp)(_[a-z]+)+$`)
	keys      = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	units     = regexp.MustCompile(`^(s|By|\{[a-z]+\})$`)
	sentences = regexp.MustCompile(`^[A-Z].*\.$`)
)

// check says what breaks the rule.
func (d Declaration) check() error {
	refuse := func(what string) error { return fmt.Errorf("instrument %q: %s", d.Name, what) }
	switch {
	case !names.MatchString(d.Name):
		return refuse("its name must be ampora_, a part of the program and what it measures, in small letters")
	case endsLikeSuffix(d.Name):
		return refuse("its name must not end like a unit or a total: those are added to it")
	case !units.MatchString(d.Unit):
		return refuse("its unit must be s, By, or what it counts in braces")
	case !sentences.MatchString(d.Help):
		return refuse("its description must be a sentence")
	case len(d.Labels) > maxLabels:
		return refuse("it has too many labels")
	}
	for _, l := range d.Labels {
		if !keys.MatchString(l.Key) || len(l.Values) == 0 {
			return refuse("its labels need keys in small letters, and the values they can take")
		}
	}
	return nil
}

func endsLikeSuffix(name string) bool {
	for _, suffix := range []string{"_total", "_count", "_sum", "_bucket", "_seconds", "_bytes", "_ratio"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// Set makes instruments on one meter, and keeps what went wrong for its end.
type Set struct {
	meter  metric.Meter
	failed []error
}

// On begins a set on the meter.
func On(meter metric.Meter) *Set { return &Set{meter: meter} }

// Err is why an instrument of the set could not be made; nil if all could.
func (s *Set) Err() error { return errors.Join(s.failed...) }

// declare checks a declaration, and tells a [Catalogue] of it.
func (s *Set) declare(d Declaration) {
	s.note(d.check())
	if c, ok := s.meter.(*Catalogue); ok {
		c.declare(d)
	}
}

func (s *Set) note(err error) {
	if err != nil {
		s.failed = append(s.failed, err)
	}
}
