// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// longConfiguration has about the number of lines: receivers, processors and exporters of some twenty settings each,
// and a pipeline for each ten of them.
func longConfiguration(lines int, backend string) []byte {
	const perUnit = 35
	var receivers, processors, exporters, pipelines strings.Builder
	for i := range lines / perUnit {
		fmt.Fprintf(&receivers, "  filelog/%d:\n    include: [/var/log/%d/*.log]\n    start_at: end\n    operators:\n      - type: regex_parser\n        regex: '^(?P<time>\\S+) (?P<sev>\\w+) (?P<msg>.*)$'\n        timestamp:\n          parse_from: attributes.time\n          layout: '%%Y-%%m-%%d'\n      - {type: move, from: attributes.msg, to: body}\n", i, i)
		fmt.Fprintf(&processors, "  transform/%d:\n    error_mode: ignore\n    log_statements:\n      - context: log\n        statements:\n          - set(attributes[\"n\"], %d)\n          - delete_key(attributes, \"time\")\n", i, i)
		fmt.Fprintf(&exporters, "  otlp/%d:\n    endpoint: %s-%d.example.com:4317\n    headers:\n      authorization: Bearer ${env:TOKEN_%d}\n      x-scope: team-%d\n    sending_queue:\n      queue_size: 5000\n      num_consumers: 4\n    retry_on_failure:\n      max_elapsed_time: 10m\n    tls:\n      ca_file: /etc/ssl/%d.pem\n", i, backend, i, i, i, i)
		fmt.Fprintf(&pipelines, "    logs/%d:\n      receivers: [filelog/%d]\n      processors:\n        - memory_limiter\n        - transform/%d\n        - batch\n      exporters: [otlp/%d]\n", i, i, i, i)
	}
	return []byte("receivers:\n" + receivers.String() + "processors:\n  memory_limiter: {check_interval: 1s, limit_mib: 500}\n  batch:\n" + processors.String() +
		"exporters:\n" + exporters.String() + "service:\n  pipelines:\n" + pipelines.String())
}

// BenchmarkCheck parses and checks a configuration of 2 000 lines, and compares its meaning with that of another.
// The aim is 20 ms for all three.
func BenchmarkCheck(b *testing.B) {
	body, other := longConfiguration(2000, "backend"), longConfiguration(2000, "other")
	lines := bytes.Count(body, []byte{'\n'})
	against, found := Check(other)
	if lines < 1900 || len(found) > 0 {
		b.Fatalf("%d lines, %+v", lines, found)
	}
	for b.Loop() {
		c, found := Check(body)
		if len(found) > 0 {
			b.Fatal(found)
		}
		_ = c.SemanticHash()
		if d := Diff(c, against); len(d) < 50 {
			b.Fatalf("%d changes", len(d))
		}
	}
	b.ReportMetric(float64(lines), "lines")
}

func BenchmarkDrift(b *testing.B) {
	assigned, effective := parsed(b, longConfiguration(2000, "backend")), parsed(b, longConfiguration(2000, "backend"))
	for b.Loop() {
		if d := Drift(assigned, effective); len(d) > 0 {
			b.Fatal(d)
		}
	}
}
