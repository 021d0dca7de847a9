// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
)

// story is how a change becomes a settled grant: each span under the one before, with the
// program that made it. Whichever control process has the partition or the turn goes on.
var story = []string{
	"ampora-control ampora.v1.AssignmentService/Assign",
	"ampora-control engine step",
	"ampora-control outbox send",
	"ampora-gateway gateway downlink",
	"ampora-gateway gateway deliver config",
	"ampora-gateway gateway report",
	"ampora-control inbox record",
	"ampora-control engine step",
}

// TestOneTraceOverProcesses: from a call of the API over the database, the bus, a gateway and
// the agent, and back to the engine, it is one trace, on each bus; what gateways fetch for it
// from the control plane is in it.
func TestOneTraceOverProcesses(t *testing.T) {
	t.Parallel()
	for _, flavour := range []rig.Flavour{rig.SplitRedis, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			receiver := otlptest.Start(t)
			s := rig.NewServer(t, flavour)
			for _, part := range s.Parts {
				part.Env["AMPORA_OTLP_ENDPOINT"], part.Env["AMPORA_TRACE_RATIO"] = receiver.URL, "0"
			}
			s.Start()
			_, id := run(t, s, "teller", agent.Apply)
			applies(t, s, id, "traced")
			rig.Await(t, "the trace of the settled grant", func() string { return untold(receiver.Spans()) })
			checkInstances(t, s, receiver)
		})
	}
}

// untold says what is missing of the story.
func untold(spans []otlptest.Span) string {
	told := "no grant was settled"
	for _, span := range spans {
		if span.GetName() != "engine step" || otlptest.Attribute(span.GetAttributes(), "ampora.grant.state").GetStringValue() != "met" {
			continue
		}
		var names []string
		for _, s := range otlptest.Lineage(spans, span) {
			names = append(names, s.Service+" "+s.GetName())
		}
		if slices.Equal(names, story) {
			return unfetched(spans, span)
		}
		told = strings.Join(names, "\n")
	}
	return told
}

// unfetched says whether the configuration was fetched in the trace, as both sides see it.
func unfetched(spans []otlptest.Span, in otlptest.Span) string {
	sides := map[string]bool{"ampora-gateway": true, "ampora-control": true}
	for _, s := range spans {
		if bytes.Equal(s.GetTraceId(), in.GetTraceId()) && s.GetName() == "ampora.internal.v1.GatewayService/FetchBody" {
			delete(sides, s.Service)
		}
	}
	return unless(len(sides) == 0, "the configuration was fetched in another trace")
}

// checkInstances checks that each process tells of itself under a name of its own, gateways
// under theirs.
func checkInstances(t *testing.T, s *rig.Server, receiver *otlptest.Receiver) {
	t.Helper()
	rig.Await(t, "all processes to tell of themselves", func() string {
		told := map[string]bool{}
		for _, about := range receiver.Resources() {
			told[otlptest.Attribute(about.GetAttributes(), "service.instance.id").GetStringValue()] = true
		}
		for _, part := range s.Gateways() {
			if !told[part.Name] {
				return "nothing of " + part.Name
			}
		}
		return unless(len(told) == len(s.Parts), "not as many names as processes")
	})
}
