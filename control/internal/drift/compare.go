// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Compare says how an effective configuration differs from what was assigned, both of the Collector. One that cannot be
// read cannot be compared.
func Compare(assigned, effective []byte) fleet.Drift {
	shall, err := collector.Parse(assigned)
	if err != nil {
		return fleet.Drift{State: fleet.DriftUnknown}
	}
	does, err := collector.Parse(effective)
	if err != nil {
		return fleet.Drift{State: fleet.DriftUnknown}
	}
	changes := collector.Drift(shall, does)
	if len(changes) == 0 {
		return fleet.Drift{State: fleet.DriftInSync}
	}
	d := fleet.Drift{State: fleet.DriftDrifted, Changes: len(changes)}
	for _, c := range changes[:min(len(changes), fleet.DriftSentences)] {
		d.Summary = append(d.Summary, c.Sentence)
	}
	return d
}

// Known is the verdict where no bytes have to be read for it.
func Known(l fleet.DriftLook) (d fleet.Drift, known bool) {
	file, reported := Effective(l.Effective)
	switch {
	case l.Assigned.IsZero():
		return fleet.Drift{State: fleet.DriftNone}, true
	case !reported:
		return fleet.Drift{State: fleet.DriftUnknown}, true
	case file.Hash == l.Assigned:
		return fleet.Drift{State: fleet.DriftInSync}, true
	case l.Kind != fleet.KindCollector:
		return fleet.Drift{State: fleet.DriftUnknown}, true
	}
	return fleet.Drift{}, false
}

// Effective is the file of an effective configuration that says all of it: the one without a name, or the only one.
// Supervisors that start report an empty one, which says nothing.
func Effective(e *fleet.EffectiveConfig) (file fleet.ConfigFile, reported bool) {
	if e == nil {
		return file, false
	}
	for _, f := range e.Files {
		if f.Name == "" || len(e.Files) == 1 {
			return f, f.Size > 0
		}
	}
	return file, false
}
