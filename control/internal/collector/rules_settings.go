// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

// settingRules are about single settings.
var settingRules = []Rule{
	{
		ID: "deprecated-component", Layer: Lint, Severity: Warning,
		Summary: "A type of component that was deprecated or removed upstream.",
		Fix:     "Use what took its place.",
		config: func(v view, say report) {
			v.eachComponent(func(c Component) {
				if instead, ok := deprecated[c.Kind][c.ID.kind()]; ok {
					say(c.spot(), "the %s %s is deprecated: use %s", c.Kind, quoted(c.ID.Type), instead)
				}
			})
		},
	},
	{
		ID: "debug-detailed", Layer: Lint, Severity: Info,
		Summary: "debug writes all telemetry out in full, with whatever is in it, at the cost of much CPU.",
		Fix:     "Use verbosity: basic, or remove it when you have seen enough.",
		setting: func(s setting, say report) {
			if s.component.Kind == Exporter && s.component.ID.Type == "debug" && s.used && s.field.Key == "verbosity" && s.field.Value.text() == "detailed" {
				say(s.spot(), "%s writes everything out", s.who())
			}
		},
	},
	{
		ID: "queue-off", Layer: Lint, Severity: Warning,
		Summary: "An exporter has no sending queue: when its backend is slow or away, telemetry is lost or receivers are held up.",
		Fix:     "Remove sending_queue::enabled: false.",
		setting: func(s setting, say report) {
			if s.switchesOff("sending_queue") {
				say(s.spot(), "%s has no sending queue", s.who())
			}
		},
	},
	{
		ID: "retry-off", Layer: Lint, Severity: Warning,
		Summary: "An exporter does not try again: what its backend refuses for a moment is lost.",
		Fix:     "Remove retry_on_failure::enabled: false.",
		setting: func(s setting, say report) {
			if s.switchesOff("retry_on_failure") {
				say(s.spot(), "%s does not try again", s.who())
			}
		},
	},
}

// deprecated says what to use instead of a component.
var deprecated = map[ComponentKind]map[string]string{
	Exporter: {
		"logging":    "the debug exporter",
		"jaeger":     "the otlp exporter: Jaeger takes OTLP",
		"loki":       "the otlphttp exporter: Loki takes OTLP",
		"opencensus": "the otlp exporter",
	},
	Receiver:  {"opencensus": "the otlp receiver"},
	Processor: {"spanmetrics": "the spanmetrics connector", "servicegraph": "the servicegraph connector", "queuedretry": "sending_queue of the exporter"},
	Extension: {"memoryballast": "the environment variable GOMEMLIMIT"},
}

// switchesOff reports whether the setting is `enabled: false` of the exporter's setting of that name.
func (s setting) switchesOff(name string) bool {
	return s.component.Kind == Exporter && s.field.Key == "enabled" && s.field.Value.isFalse() && len(s.path) == 2 && s.path[0] == name
}
