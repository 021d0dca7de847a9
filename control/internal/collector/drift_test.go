// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"os"
	"strings"
	"testing"
)

func file(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// drifted returns the kinds and paths of what drifted.
func drifted(t *testing.T, assigned, effective string) string {
	t.Helper()
	var all []string
	for _, c := range Drift(parsed(t, []byte(assigned)), parsed(t, []byte(effective))) {
		all = append(all, string(c.Kind)+" "+c.Path)
	}
	return strings.Join(all, ", ")
}

// TestHonestAgentsHaveNoDrift compares with what a real Collector made of the configuration.
func TestHonestAgentsHaveNoDrift(t *testing.T) {
	if got := drifted(t, file(t, "testdata/drift/assigned.yaml"), file(t, "testdata/drift/effective.yaml")); got != "" {
		t.Error(got)
	}
}

// TestDrift changes what a real Collector said it runs.
func TestDrift(t *testing.T) {
	assigned, effective := file(t, "testdata/drift/assigned.yaml"), file(t, "testdata/drift/effective.yaml")
	for name, c := range map[string]struct{ from, to, want string }{
		"an endpoint":                  {"endpoint: backend.example.com:4317", "endpoint: other:4317", "setting_changed exporters::otlp/backend::endpoint"},
		"what a reference stands for":  {"endpoint: 127.0.0.1:4317", "endpoint: 0.0.0.0:4317", ""},
		"a duration":                   {"timeout: 1m30s\n    memory_limiter", "timeout: 1s\n    memory_limiter", "setting_changed processors::batch::timeout"},
		"an exporter":                  {"    otlphttp:\n", "    otlphttp/other:\n", "component_removed exporters::otlphttp"},
		"a default":                    {"send_batch_size: 8192", "send_batch_size: 1", ""},
		"a member more":                {"- memory_limiter\n                - batch", "- memory_limiter\n                - attributes\n                - batch", "member_added service::pipelines::metrics::processors::attributes"},
		"another order":                {"- memory_limiter\n                - batch", "- batch\n                - memory_limiter", "members_reordered service::pipelines::metrics::processors"},
		"another exporter":             {"- otlp/backend\n                - debug", "- otlphttp\n                - debug", "member_removed service::pipelines::metrics::exporters::otlp/backend, member_added service::pipelines::metrics::exporters::otlphttp"},
		"an extension":                 {"        - health_check\n", "", "extension_disabled service::extensions::health_check"},
		"an extension more":            {"        - health_check\n", "        - health_check\n        - zpages\n", ""},
		"a pipeline":                   {"        traces:\n", "        traces/b:\n", "pipeline_removed service::pipelines::traces"},
		"a header":                     {"            - name: x-scope\n", "            - name: y-scope\n", "setting_removed exporters::otlp/backend::headers::x-scope"},
		"what is switched on":          {"sending_queue: null\n        timeout", "sending_queue: {enabled: true}\n        timeout", "setting_changed exporters::otlp/backend::sending_queue::enabled"},
		"what is switched off":         {"enabled: false\n            initial", "enabled: true\n            initial", "setting_changed exporters::otlp/backend::retry_on_failure::enabled"},
		"the level of the log":         {"level: warn", "level: debug", "setting_changed service::telemetry::logs::level"},
		"an action":                    {"value: test", "value: prod", "setting_changed processors::attributes::actions::0::value"},
		"a queue":                      {"queue_size: 2000", "queue_size: 1", "setting_changed exporters::otlphttp::sending_queue::queue_size"},
		"what the component hides":     {"        verbosity: basic\n", "", ""},
		"where it sends its own":       {"host: localhost", "host: example.com", ""},
		"a pipeline of a local file":   {"    pipelines:\n", "    pipelines:\n        logs: {receivers: [otlp], exporters: [debug]}\n", ""},
		"a component of a local file":  {"exporters:\n", "exporters:\n    nop: {}\n", ""},
		"what the component calls so":  {"resource:\n", "resource:\n            cloud: x\n", ""},
		"an attribute of the resource": {"team: a", "team: b", "setting_changed service::telemetry::resource::team"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(effective, c.from, c.to, 1)
			if changed == effective && c.want != "" {
				t.Fatal("nothing was replaced")
			}
			if got := drifted(t, assigned, changed); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestDriftOfMergedTexts is about supervisors that report what they merged: there what is missing is missing.
func TestDriftOfMergedTexts(t *testing.T) {
	assigned := "receivers: {otlp: {a: 1, b: '${env:B}', c: [1, 2], d: }}\nexporters: {nop: {x: {y: 1}}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n"
	for effective, want := range map[string]string{
		assigned: "",
		strings.Replace(assigned, "a: 1, ", "", 1):               "setting_removed receivers::otlp::a",
		strings.Replace(assigned, "c: [1, 2]", "c: [1]", 1):      "setting_changed receivers::otlp::c",
		strings.Replace(assigned, "c: [1, 2]", "c: {d: 1}", 1):   "setting_changed receivers::otlp::c",
		strings.Replace(assigned, "'${env:B}'", "[1]", 1):        "",
		strings.Replace(assigned, ", d: ", "", 1):                "",
		strings.Replace(assigned, "x: {y: 1}", "x: ", 1):         "setting_changed exporters::nop::x",
		strings.Replace(assigned, "{nop: {x: {y: 1}}}", "5", 1):  "setting_changed exporters",
		strings.Replace(assigned, "exporters: [nop]", "z: 1", 1): "member_removed service::pipelines::traces::exporters::nop",
		"{}": "component_removed exporters::nop, component_removed receivers::otlp, pipeline_removed service::pipelines::traces",
	} {
		if got := drifted(t, assigned, effective); got != want {
			t.Errorf("got %q, want %q, with\n%.300s", got, want, effective)
		}
	}
	members := "service: {pipelines: {traces: {receivers: ['${env:R}'], exporters: '${env:E}'}}}\n"
	if got := drifted(t, members, "service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n"); got != "" {
		t.Errorf("references among members: %q", got)
	}
}

func TestSameValue(t *testing.T) {
	for _, c := range []struct {
		assigned, effective string
		same                bool
	}{
		{"basic", "Basic", true},
		{"60s", "1m0s", true},
		{"60s", "61s", false},
		{"5", "5.0", true},
		{"4MiB", "4194304", true},
		{"4MB", "4000000", true},
		{"4 kib", "4096", true},
		{"4b", "4", true},
		{"4MiB", "4000000", false},
		{"a$$b", "a$b", true},
		{"a", "b", false},
		{"", "0", false},
		{"1m", "1000000", true}, // a million is what a million is, whatever the m was for
	} {
		if got := sameValue(c.assigned, c.effective); got != c.same {
			t.Errorf("%q and %q: %v", c.assigned, c.effective, got)
		}
	}
}
