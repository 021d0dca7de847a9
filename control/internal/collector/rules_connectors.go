// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"maps"
	"slices"
	"strings"
)

// connectorRules repeat what the Collector refuses when it joins pipelines (service/internal/graph/graph.go).
var connectorRules = []Rule{
	{
		ID: "ambiguous-connector", Layer: Semantics, Severity: Error,
		Summary: "A connector has the id of a receiver or an exporter.",
		Fix:     "Give the connector a name of its own: datadog/connector.",
		config: func(v view, say report) {
			for _, c := range v.Connectors.Components {
				for _, kind := range []ComponentKind{Receiver, Exporter} {
					if v.defined[kind][c.ID] {
						say(c.spot(), "%s is a connector and %s", quoted(c.ID.String()), article(kind))
					}
				}
			}
		},
	},
	{
		ID: "connector-one-sided", Layer: Semantics, Severity: Error,
		Summary: "A connector is only an exporter, or only a receiver: nothing takes what it gives, or gives what it takes.",
		Fix:     "Name it among the exporters of one pipeline and among the receivers of another.",
		config: func(v view, say report) {
			for _, c := range v.Connectors.Components {
				in, out := v.as[Exporter][c.ID], v.as[Receiver][c.ID]
				switch {
				case in && !out && !v.unknown[Receiver]:
					say(c.spot(), "the connector %s is an exporter of a pipeline, but no pipeline receives from it", quoted(c.ID.String()))
				case out && !in && !v.unknown[Exporter]:
					say(c.spot(), "the connector %s is a receiver of a pipeline, but no pipeline exports to it", quoted(c.ID.String()))
				}
			}
		},
	},
	{
		ID: "connector-signals", Layer: Semantics, Severity: Error,
		Summary: "A connector stands between pipelines whose signals it cannot connect. Known of the connectors of the contrib distribution.",
		Fix:     "Use it between signals it connects; spanmetrics, for example, makes metrics of traces.",
		config:  connectorSignals,
	},
	{
		ID: "connector-cycle", Layer: Semantics, Severity: Error,
		Summary: "Connectors lead from a pipeline back to itself.",
		Fix:     "Remove one of the connectors from the circle.",
		config:  connectorCycles,
	},
}

// What connectors of the contrib distribution make of what. Profiles are left out: they come and go with versions.
var (
	sameSignal    = map[string][]string{"traces": {"traces"}, "metrics": {"metrics"}, "logs": {"logs"}}
	toMetrics     = map[string][]string{"traces": {"metrics"}, "metrics": {"metrics"}, "logs": {"metrics"}}
	tracesMetrics = map[string][]string{"traces": {"metrics"}}

	connects = map[string]map[string][]string{
		"count":           toMetrics,
		"datadog":         {"traces": {"metrics", "traces"}},
		"exceptions":      {"traces": {"metrics", "logs"}},
		"failover":        sameSignal,
		"forward":         sameSignal,
		"grafanacloud":    tracesMetrics,
		"otlpjson":        {"logs": {"logs", "metrics", "traces"}},
		"roundrobin":      sameSignal,
		"routing":         sameSignal,
		"servicegraph":    tracesMetrics,
		"signaltometrics": toMetrics,
		"spanmetrics":     tracesMetrics,
		"sum":             toMetrics,
	}
)

// canConnect reports whether a type of connector can make one signal of another, as far as is known.
func canConnect(kind, from, to string) bool {
	known, ok := connects[kind]
	return !ok || from == "profiles" || to == "profiles" || slices.Contains(known[from], to)
}

// sides are the signals of the pipelines that export to each connector and receive from it.
type sides struct{ in, out map[string]bool }

func (v view) sides() map[ID]sides {
	all := map[ID]sides{}
	for _, c := range v.Connectors.Components {
		all[c.ID] = sides{map[string]bool{}, map[string]bool{}}
	}
	v.eachRef(func(p Pipeline, as ComponentKind, r Ref, _ spot) {
		s, ok := all[r.ID]
		switch {
		case ok && as == Exporter:
			s.in[p.ID.Type] = true
		case ok && as == Receiver:
			s.out[p.ID.Type] = true
		}
	})
	return all
}

func connectorSignals(v view, say report) {
	all := v.sides()
	for _, c := range v.Connectors.Components {
		s := all[c.ID]
		if len(s.in) == 0 || len(s.out) == 0 {
			continue // connector-one-sided
		}
		for _, from := range slices.Sorted(maps.Keys(s.in)) {
			if !v.unknown[Receiver] && !anyOf(s.out, func(to string) bool { return canConnect(c.ID.kind(), from, to) }) {
				say(c.spot(), "the connector %s is an exporter of a pipeline of %s, and cannot make %s of them", quoted(c.ID.String()), from, words(s.out))
			}
		}
		for _, to := range slices.Sorted(maps.Keys(s.out)) {
			if !v.unknown[Exporter] && !anyOf(s.in, func(from string) bool { return canConnect(c.ID.kind(), from, to) }) {
				say(c.spot(), "the connector %s is a receiver of a pipeline of %s, and cannot make them of %s", quoted(c.ID.String()), to, words(s.in))
			}
		}
	}
}

func anyOf(set map[string]bool, fits func(string) bool) bool {
	for s := range set {
		if fits(s) {
			return true
		}
	}
	return false
}

func words(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), " or ")
}

// A junction is a node of the graph in which a cycle is looked for: a pipeline, or what a connector makes of one signal
// for another. The Collector has the same nodes, which keeps the number of edges small.
type junction struct {
	pipeline  int // its place among the pipelines, from 1; 0 for a connector
	connector ID
	from, to  string
}

// connectorCycles reports each step by which a search comes back to where it is going through.
func connectorCycles(v view, say report) {
	g := v.graph()
	depth := map[junction]int{} // of those underway, from 1; done is below
	const done = -1
	var way []junction
	var visit func(j junction)
	visit = func(j junction) {
		way = append(way, j)
		depth[j] = len(way)
		for _, next := range g[j] {
			switch d := depth[next]; {
			case d > 0:
				v.tellCycle(way[d-1:], say)
			case d == 0:
				visit(next)
			}
		}
		way = way[:len(way)-1]
		depth[j] = done
	}
	for i := range v.Service.Pipelines {
		if j := (junction{pipeline: i + 1}); depth[j] == 0 {
			visit(j)
		}
	}
}

func (v view) graph() map[junction][]junction {
	g := map[junction][]junction{}
	for i, p := range v.Service.Pipelines {
		here := junction{pipeline: i + 1}
		for _, r := range v.connectors(p.Exporters) {
			for _, to := range Signals {
				if canConnect(r.kind(), p.ID.Type, to) {
					g[here] = append(g[here], junction{connector: r, from: p.ID.Type, to: to})
				}
			}
		}
		for _, r := range v.connectors(p.Receivers) {
			for _, from := range Signals {
				if j := (junction{connector: r, from: from, to: p.ID.Type}); canConnect(r.kind(), from, p.ID.Type) {
					g[j] = append(g[j], here)
				}
			}
		}
	}
	return g
}

// connectors are those among the members.
func (v view) connectors(m Members) (list []ID) {
	for _, r := range m.Refs {
		if v.defined[Connector][r.ID] {
			list = append(list, r.ID)
		}
	}
	return list
}

// longestCycle bounds how much of a cycle is named.
const longestCycle = 12

// tellCycle reports a way whose end leads to its beginning, at the first pipeline on it.
func (v view) tellCycle(way []junction, say report) {
	names := make([]string, 0, longestCycle+1)
	var at spot
	for _, j := range way[:min(len(way), longestCycle)] {
		name := j.connector
		if j.pipeline > 0 {
			p := v.Service.Pipelines[j.pipeline-1]
			if name = p.ID; at.line == 0 {
				at = p.spot()
			}
		}
		names = append(names, clip(name.String(), longestPart))
	}
	end := names[0]
	if len(way) > longestCycle {
		end = "…"
	}
	say(at, "data would go round: %s → %s", strings.Join(names, " → "), end)
}
