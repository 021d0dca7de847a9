// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "slices"

// structureRules repeat what the Collector refuses while it reads a configuration (otelcol/unmarshaler.go,
// otelcol/config.go, service/pipelines/config.go), and what surprises there.
var structureRules = []Rule{
	{
		ID: "unknown-section", Layer: Semantics, Severity: Error,
		Summary: "A key at the root that the Collector does not know.",
		Fix:     "Use receivers, processors, exporters, connectors, extensions and service. Keep anchors for YAML inside of these.",
		config: func(v view, say report) {
			for _, f := range v.Rest {
				say(spot{pathOf(f.Key), f.Line, f.Column}, "the Collector knows no section %s", quoted(f.Key))
			}
		},
	},
	{
		ID: "unknown-service-key", Layer: Semantics, Severity: Error,
		Summary: "A key below service that the Collector does not know.",
		Fix:     "Use extensions, pipelines and telemetry.",
		config: func(v view, say report) {
			for _, f := range v.Service.Rest {
				say(spot{pathOf("service", f.Key), f.Line, f.Column}, "the Collector knows no key %s below service", quoted(f.Key))
			}
		},
	},
	{
		ID: "unknown-pipeline-key", Layer: Semantics, Severity: Error,
		Summary: "A key in a pipeline that the Collector does not know.",
		Fix:     "Use receivers, processors and exporters; connectors stand among the exporters of one pipeline and the receivers of another.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				for _, f := range p.Rest {
					at := p.spot(f.Key)
					at.line, at.column = f.Line, f.Column
					say(at, "the Collector knows no key %s in a pipeline", quoted(f.Key))
				}
			}
		},
	},
	{
		ID: "wrong-shape", Layer: Semantics, Severity: Error,
		Summary: "A list where the Collector demands a mapping, a single value where it demands a list, and the like.",
		Fix:     "Give it the shape it must have, for example receivers: [otlp] in a pipeline.",
		config: func(v view, say report) {
			for _, m := range v.shapes {
				say(spot{pathOf(m.path...), m.node.Line, m.node.Column}, "here must be %s, and there is %s", m.want, m.node.kindText())
			}
		},
	},
	{
		ID: "invalid-id", Layer: Semantics, Severity: Error,
		Summary: "The id of a component is not type or type/name as the Collector accepts it.",
		Fix:     "Types are letters, digits and underscores; names are anything without white space and symbols.",
		config: func(v view, say report) {
			v.eachComponent(func(c Component) {
				if c.Fault != "" {
					say(c.spot(), "%s is no id: %s", quoted(c.key), c.Fault)
				}
			})
			v.eachRef(func(_ Pipeline, _ ComponentKind, r Ref, at spot) {
				if r.Fault != "" {
					say(at, "%s is no id: %s", quoted(r.text), r.Fault)
				}
			})
			for _, r := range v.Service.Extensions.Refs {
				if r.Fault != "" {
					say(r.spot("service", "extensions"), "%s is no id: %s", quoted(r.text), r.Fault)
				}
			}
		},
	},
	{
		ID: "repeated-id", Layer: Semantics, Severity: Error,
		Summary: "Two keys are the same id once white space around their halves is gone.",
		Fix:     "Give one of them another name.",
		config:  repeatedIDs,
	},
	{
		ID: "unknown-signal", Layer: Semantics, Severity: Error,
		Summary: "A pipeline is of no signal that the Collector knows.",
		Fix:     "Begin its name with traces, metrics, logs or profiles: traces/backend.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				switch {
				case p.Fault != "":
					say(p.spot(), "%s is no id of a pipeline: %s", quoted(p.key), p.Fault)
				case !slices.Contains(Signals, p.ID.Type):
					say(p.spot(), "%s is no signal", quoted(p.ID.Type))
				}
			}
		},
	},
	{
		ID: "no-components", Layer: Semantics, Severity: Error,
		Summary: "Nothing is defined at all.",
		Fix:     "Define at least one receiver and one exporter, and a pipeline from one to the other.",
		config: func(v view, say report) {
			if v.nothing() {
				say(v.spot(), "no component is defined")
			}
		},
	},
	{
		ID: "no-receivers", Layer: Semantics, Severity: Error,
		Summary: "No receiver is defined.",
		Fix:     "Define a receiver, for example otlp.",
		config: func(v view, say report) {
			if !v.nothing() && len(v.Receivers.Components) == 0 && !v.Receivers.Elsewhere {
				say(v.spot(), "no receiver is defined")
			}
		},
	},
	{
		ID: "no-exporters", Layer: Semantics, Severity: Error,
		Summary: "No exporter is defined.",
		Fix:     "Define an exporter, for example otlp.",
		config: func(v view, say report) {
			if !v.nothing() && len(v.Exporters.Components) == 0 && !v.Exporters.Elsewhere {
				say(v.spot(), "no exporter is defined")
			}
		},
	},
	{
		ID: "no-pipelines", Layer: Semantics, Severity: Error,
		Summary: "There is no pipeline: nothing that is defined would run.",
		Fix:     "Add a pipeline below service::pipelines.",
		config: func(v view, say report) {
			if len(v.Service.Pipelines) > 0 || v.Service.Elsewhere {
				return
			}
			at := v.spot()
			if n := v.Service.node; n != nil {
				at = spot{"service", n.Line, n.Column}
			}
			say(at, "there is no pipeline")
		},
	},
	{
		ID: "pipeline-without-receivers", Layer: Semantics, Severity: Error,
		Summary: "A pipeline has no receivers.",
		Fix:     "Name a receiver, or a connector that another pipeline exports to.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				if p.without(p.Receivers) {
					say(p.spot(), "the pipeline %s has no receivers", quoted(p.ID.String()))
				}
			}
		},
	},
	{
		ID: "pipeline-without-exporters", Layer: Semantics, Severity: Error,
		Summary: "A pipeline has no exporters.",
		Fix:     "Name an exporter, or a connector that another pipeline receives from.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				if p.without(p.Exporters) {
					say(p.spot(), "the pipeline %s has no exporters", quoted(p.ID.String()))
				}
			}
		},
	},
	{
		ID: "split-clash", Layer: Semantics, Severity: Error,
		Summary: "A key at the root with :: in it begins with a section that is written out as well. The Collector loses one of the two, now this one, now that.",
		Fix:     "Write it as mappings in mappings, inside the section.",
		config: func(v view, say report) {
			for _, f := range v.split {
				if f.clashes {
					say(spot{pathOf(f.Key), f.Line, f.Column}, "%s and its first part are both keys at the root", quoted(f.Key))
				}
			}
		},
	},
	{
		ID: "split-key", Layer: Semantics, Severity: Warning,
		Summary: "A key at the root has :: in it. The Collector takes it for a path of keys.",
		Fix:     "Write it as mappings in mappings.",
		config: func(v view, say report) {
			for _, f := range v.split {
				if !f.clashes {
					say(spot{pathOf(f.Key), f.Line, f.Column}, "%s is read as a path of keys", quoted(f.Key))
				}
			}
		},
	},
	{
		ID: "profiles-gate", Layer: Semantics, Severity: Warning,
		Summary: "A pipeline of profiles. Collectors refuse it unless they were started with the feature gate service.profilesSupport.",
		Fix:     "Start these collectors with --feature-gates=service.profilesSupport.",
		config: func(v view, say report) {
			for _, p := range v.Service.Pipelines {
				if p.ID.Type == "profiles" {
					say(p.spot(), "the pipeline %s needs the feature gate service.profilesSupport", quoted(p.ID.String()))
				}
			}
		},
	},
	{
		ID: "telemetry-key", Layer: Semantics, Severity: Warning,
		Summary: "A key below service::telemetry that stock Collectors refuse: an unknown one, or metrics::address, which is gone.",
		Fix:     "Use logs, metrics, traces and resource; in place of address give metrics::readers a pull reader with a Prometheus exporter.",
		config: func(v view, say report) {
			t := v.Service.Telemetry
			for _, f := range others(t, []string{"logs", "metrics", "resource", "traces"}) {
				say(spot{pathOf("service", "telemetry", f.Key), f.Line, f.Column}, "stock Collectors know no key %s below service::telemetry", quoted(f.Key))
			}
			if f := t.Get("metrics").field("address"); f != nil {
				say(spot{pathOf("service", "telemetry", "metrics", f.Key), f.Line, f.Column}, "service::telemetry::metrics::address is gone")
			}
		},
	},
}

func (v view) nothing() bool {
	for _, s := range v.sections() {
		if len(s.Components) > 0 || s.Elsewhere {
			return false
		}
	}
	return true
}

func (v view) spot() spot { return spot{"", v.root.Line, v.root.Column} }

func (p Pipeline) without(m Members) bool { return !p.Elsewhere && !m.Elsewhere && len(m.Refs) == 0 }

func repeatedIDs(v view, say report) {
	type named struct {
		of ComponentKind // none for pipelines
		id ID
	}
	seen := map[named]bool{}
	again := func(n named, wrong string) bool {
		before := seen[n]
		seen[n] = before || wrong == ""
		return before && wrong == ""
	}
	v.eachComponent(func(c Component) {
		if again(named{c.Kind, c.ID}, c.Fault) {
			say(c.spot(), "the %s %s is defined twice", c.Kind, quoted(c.ID.String()))
		}
	})
	for _, p := range v.Service.Pipelines {
		if again(named{"", p.ID}, p.Fault) {
			say(p.spot(), "the pipeline %s is defined twice", quoted(p.ID.String()))
		}
	}
}
