// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drift_test

import (
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/drift"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

const assigned = `
receivers: {otlp: {protocols: {grpc: {endpoint: "${env:HOST}:4317"}}}}
processors: {batch: {timeout: 5s}}
exporters: {otlp: {endpoint: "backend:4317", headers: {authorization: "${env:TOKEN}"}}}
service: {pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [otlp]}}}
`

const effective = `
exporters: {otlp: {endpoint: "backend:4317", headers: {authorization: "[REDACTED]"}, sending_queue: {enabled: true}}}
processors: {batch: {timeout: 5s, send_batch_size: 8192}}
receivers: {otlp: {protocols: {grpc: {endpoint: "10.0.0.7:4317", transport: tcp}}}}
extensions: {opamp: {}}
service: {extensions: [opamp], pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [otlp]}}}
`

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		effective string
		want      fleet.DriftState
		changes   int
	}{
		"what a Collector reports":  {effective, fleet.DriftInSync, 0},
		"the same text":             {assigned, fleet.DriftInSync, 0},
		"another setting":           {strings.Replace(effective, "timeout: 5s", "timeout: 1s", 1), fleet.DriftDrifted, 1},
		"a processor less":          {strings.Replace(effective, "processors: [batch]", "processors: []", 1), fleet.DriftDrifted, 1},
		"nothing that can be read":  {"- a", fleet.DriftUnknown, 0},
		"nothing of what it should": {"receivers: {nop: {}}", fleet.DriftDrifted, 4},
	} {
		got := drift.Compare([]byte(assigned), []byte(c.effective))
		if got.State != c.want || got.Changes != c.changes || len(got.Summary) != min(c.changes, fleet.DriftSentences) {
			t.Errorf("%s: %+v, want %s with %d changes", name, got, c.want, c.changes)
		}
	}
	if got := drift.Compare([]byte("- a"), []byte(effective)); got.State != fleet.DriftUnknown {
		t.Errorf("assigned cannot be read: %+v", got)
	}
}

func TestKnown(t *testing.T) {
	shall, does := fleet.HashOf([]byte("shall")), fleet.HashOf([]byte("does"))
	says := func(files ...fleet.ConfigFile) *fleet.EffectiveConfig { return &fleet.EffectiveConfig{Files: files} }
	for name, c := range map[string]struct {
		look fleet.DriftLook
		want fleet.DriftState // empty: bytes must be read
	}{
		"nothing assigned":       {fleet.DriftLook{Kind: fleet.KindCollector, Effective: says(fleet.ConfigFile{Hash: does, Size: 4})}, fleet.DriftNone},
		"nothing reported":       {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall}, fleet.DriftUnknown},
		"an empty one reported":  {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall, Effective: says(fleet.ConfigFile{Hash: fleet.HashOf(nil)})}, fleet.DriftUnknown},
		"no file reported":       {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall, Effective: says()}, fleet.DriftUnknown},
		"the very bytes":         {fleet.DriftLook{Kind: fleet.KindOpaque, Assigned: shall, Effective: says(fleet.ConfigFile{Hash: shall, Size: 5})}, fleet.DriftInSync},
		"other bytes, opaque":    {fleet.DriftLook{Kind: fleet.KindOpaque, Assigned: shall, Effective: says(fleet.ConfigFile{Hash: does, Size: 4})}, fleet.DriftUnknown},
		"other bytes, Collector": {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall, Effective: says(fleet.ConfigFile{Hash: does, Size: 4})}, ""},
		"several files":          {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall, Effective: says(fleet.ConfigFile{Name: "a", Hash: does, Size: 4}, fleet.ConfigFile{Name: "b", Hash: does, Size: 4})}, fleet.DriftUnknown},
		"several, one nameless":  {fleet.DriftLook{Kind: fleet.KindCollector, Assigned: shall, Effective: says(fleet.ConfigFile{Hash: shall, Size: 5}, fleet.ConfigFile{Name: "raw", Hash: does, Size: 4})}, fleet.DriftInSync},
	} {
		got, known := drift.Known(c.look)
		if got.State != c.want || known != (c.want != "") {
			t.Errorf("%s: %+v, %v, want %q", name, got, known, c.want)
		}
	}
}
