// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "slices"

// pipelineRules are about what pipelines lose, and in which order they work.
var pipelineRules = []Rule{
	{
		ID: "debug-only", Layer: Lint, Severity: Warning,
		Summary: "debug is the only exporter of a pipeline: what comes in ends in the Collector's log.",
		Fix:     "Add an exporter that sends to a backend, or remove the pipeline.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				refs := p.Exporters.Refs
				if len(refs) > 0 && !p.Exporters.Elsewhere && !slices.ContainsFunc(refs, func(r Ref) bool { return r.ID.Type != "debug" && r.ID.Type != "logging" }) {
					say(p.spot(), "the pipeline %s exports to %s alone", quoted(p.ID.String()), quoted(refs[0].ID.String()))
				}
			}
		},
	},
	{
		ID: "memory-limiter-missing", Layer: Lint, Severity: Info,
		Summary: "A pipeline has no memory_limiter: a flood of telemetry ends the Collector.",
		Fix:     "Put memory_limiter first among the processors.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				if !p.Elsewhere && !p.Processors.Elsewhere && p.first(isType("memorylimiter")) < 0 && v.takesFromOutside(p) {
					say(p.spot(), "the pipeline %s has no memory_limiter", quoted(p.ID.String()))
				}
			}
		},
	},
	{
		ID: "memory-limiter-first", Layer: Lint, Severity: Warning,
		Summary: "A processor stands before memory_limiter: what it holds is not limited, and receivers are not told to wait.",
		Fix:     "Put memory_limiter first among the processors.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				if i := p.first(isType("memorylimiter")); i > 0 && !p.Processors.Elsewhere {
					r := p.Processors.Refs[i]
					say(p.member(Processor, r), "in the pipeline %s the processor %s stands before %s", quoted(p.ID.String()), quoted(p.Processors.Refs[0].ID.String()), quoted(r.ID.String()))
				}
			}
		},
	},
	{
		ID: "batch-placement", Layer: Lint, Severity: Warning,
		Summary: "batch stands before a processor that drops or samples, or needs to know where telemetry came from: batches go out small, and the sender is forgotten.",
		Fix:     "Put batch after sampling, filtering and enrichment, late among the processors.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				batch := p.first(isType("batch"))
				if batch < 0 {
					continue
				}
				for _, r := range p.Processors.Refs[batch+1:] {
					if slices.Contains(beforeBatch, r.ID.kind()) {
						say(p.member(Processor, p.Processors.Refs[batch]), "in the pipeline %s the processor %s stands before %s", quoted(p.ID.String()), quoted(p.Processors.Refs[batch].ID.String()), quoted(r.ID.String()))
						break
					}
				}
			}
		},
	},
	{
		ID: "same-endpoint", Layer: Lint, Severity: Warning,
		Summary: "Two receivers or extensions that run listen at the same endpoint: one of them does not start.",
		Fix:     "Give one of them another port.",
		config:  sameEndpoint,
	},
}

// beforeBatch are the processors that work better on what is not batched yet.
var beforeBatch = []string{"filter", "groupbytrace", "k8sattributes", "probabilisticsampler", "tailsampling"}

func isType(kind string) func(Ref) bool { return func(r Ref) bool { return r.ID.kind() == kind } }

// first is the index of the first processor that fits, or -1.
func (p Pipeline) first(fits func(Ref) bool) int { return slices.IndexFunc(p.Processors.Refs, fits) }

// takesFromOutside reports whether a receiver of the pipeline is no connector: what comes by one was limited before.
func (v view) takesFromOutside(p Pipeline) bool {
	return slices.ContainsFunc(p.Receivers.Refs, func(r Ref) bool { return v.defined[Receiver][r.ID] })
}

func sameEndpoint(v view, say report) {
	first := map[string]setting{}
	v.eachSetting(func(s setting) {
		listens := s.component.Kind == Extension || s.component.Kind == Receiver && slices.Contains(listeners, s.component.ID.kind())
		endpoint := s.field.Value.text()
		if !listens || !s.used || s.field.Key != "endpoint" || endpoint == "" || onSocket(s.component.ID.kind()) {
			return
		}
		if _, seen := first[endpoint]; !seen {
			s.path = slices.Clone(s.path)
			first[endpoint] = s
			return
		}
		say(s.spot(), "%s listens at %s, where %s does", s.who(), quoted(endpoint), first[endpoint].who())
	})
}

// onSocket reports whether a type of receiver does not listen at a TCP port, which another may have as well.
func onSocket(kind string) bool { return kind == "statsd" || kind == "udplog" || kind == "collectd" }
