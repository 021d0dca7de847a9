// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/shared/fault"
)

const before = `receivers: {otlp: {protocols: {grpc: {endpoint: "localhost:4317"}}}, nop: }
processors: {memory_limiter: {limit_mib: 100}, batch: , attributes: {actions: [{key: a, value: 1, action: insert}]}}
exporters: {debug: , otlp: {endpoint: "a:4317"}}
extensions: {health_check: , zpages: }
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [memory_limiter, attributes, batch], exporters: [otlp]}
    metrics: {receivers: [otlp, nop], processors: [memory_limiter, batch], exporters: [otlp]}
`

func TestDiff(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		want     []Change
	}{
		"a component": {"debug: ,", "debug: , nop: {a: 1},", []Change{
			{ComponentAdded, "exporters::nop", "", `{"a":1}`, `the exporter "nop" is added`},
		}},
		"no component": {"debug: ,", "", []Change{
			{ComponentRemoved, "exporters::debug", "{}", "", `the exporter "debug" is removed`},
		}},
		"a body that is none": {"batch: ,", "batch: 5,", []Change{
			{ComponentModified, "processors::batch", "{}", "5", `the processor "batch" changes from {} to 5`},
		}},
		"a setting": {"a:4317", "b:4317", []Change{
			{SettingChanged, "exporters::otlp::endpoint", `"a:4317"`, `"b:4317"`, `the exporter "otlp": endpoint changes from "a:4317" to "b:4317"`},
		}},
		"a setting in a list": {"value: 1", "value: two", []Change{
			{SettingChanged, "processors::attributes::actions::0::value", "1", `"two"`, `the processor "attributes": actions::0::value changes from 1 to "two"`},
		}},
		"a setting more": {"limit_mib: 100", "limit_mib: 100, check_interval: 1s", []Change{
			{SettingAdded, "processors::memory_limiter::check_interval", "", `"1s"`, `the processor "memory_limiter": check_interval is set to "1s"`},
		}},
		"a setting less": {`{endpoint: "localhost:4317"}`, "", []Change{
			{SettingChanged, "receivers::otlp::protocols::grpc", `{"endpoint":"localhost:4317"}`, "null", `the receiver "otlp": protocols::grpc changes from {"endpoint":"localhost:4317"} to null`},
		}},
		"a pipeline": {"  pipelines:", "  pipelines:\n    logs: {receivers: [otlp], exporters: [debug]}", []Change{
			{PipelineAdded, "service::pipelines::logs", "", `{"exporters":["debug"],"receivers":["otlp"]}`, `the pipeline "logs" is added`},
		}},
		"a member": {"receivers: [otlp, nop]", "receivers: [nop]", []Change{
			{MemberRemoved, "service::pipelines::metrics::receivers::otlp", "", "", `the pipeline "metrics" loses the receiver "otlp"`},
		}},
		"a member more": {"processors: [memory_limiter, batch]", "processors: [memory_limiter, filter, batch]", []Change{
			{MemberAdded, "service::pipelines::metrics::processors::filter", "", "", `the pipeline "metrics" gets the processor "filter" in place 2`},
		}},
		"another order": {"[memory_limiter, attributes, batch]", "[batch, memory_limiter, attributes]", []Change{
			{
				MembersReordered, "service::pipelines::traces::processors", `["memory_limiter","attributes","batch"]`, `["batch","memory_limiter","attributes"]`,
				`the pipeline "traces" has its processors in another order: ["batch","memory_limiter","attributes"], formerly ["memory_limiter","attributes","batch"]`,
			},
		}},
		"another order of receivers": {"receivers: [otlp, nop]", "receivers: [nop, otlp]", nil},
		"null is an empty mapping":   {"batch: ,", "batch: {},", nil},
		"other spellings":            {"limit_mib: 100", "limit_mib: 0x64", nil},
		"another type": {"limit_mib: 100", "limit_mib: '100'", []Change{
			{SettingChanged, "processors::memory_limiter::limit_mib", "100", `"100"`, `the processor "memory_limiter": limit_mib changes from 100 to "100"`},
		}},
		"extensions": {"[health_check]", "[zpages]", []Change{
			{ExtensionDisabled, "service::extensions::health_check", "", "", `the extension "health_check" is disabled`},
			{ExtensionEnabled, "service::extensions::zpages", "", "", `the extension "zpages" is enabled`},
		}},
		"telemetry": {"  pipelines:", "  telemetry: {logs: {level: debug}}\n  pipelines:", []Change{
			{SettingAdded, "service::telemetry", "", `{"logs":{"level":"debug"}}`, `the service: telemetry is set to {"logs":{"level":"debug"}}`},
		}},
		"a section by reference": {"extensions: {health_check: , zpages: }", "extensions: ${file:x}", []Change{
			{SettingChanged, "extensions", `{"health_check":{},"zpages":{}}`, `"${file:x}"`, `the configuration: extensions changes from {"health_check":{},"zpages":{}} to "${file:x}"`},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			after := strings.Replace(before, c.from, c.to, 1)
			if after == before {
				t.Fatal("nothing was replaced")
			}
			got := Diff(parsed(t, []byte(before)), parsed(t, []byte(after)))
			if len(got) != len(c.want) || len(got) > 0 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%#v\nwant\n%#v", got, c.want)
			}
		})
	}
}

func TestMovingIsOneChange(t *testing.T) {
	after := strings.Replace(before, "[memory_limiter, attributes, batch]", "[memory_limiter, batch]", 1)
	after = strings.Replace(after, "processors: [memory_limiter, batch], exporters: [otlp]}\n", "processors: [memory_limiter, batch], exporters: [otlp]}\n", 1)
	i := strings.Index(after, "    metrics:")
	after = after[:i] + strings.Replace(after[i:], "[memory_limiter, batch]", "[memory_limiter, batch, attributes]", 1)
	got := Diff(parsed(t, []byte(before)), parsed(t, []byte(after)))
	if len(got) != 1 || got[0].Kind != MemberMoved || got[0].Path != "service::pipelines::metrics::processors::attributes" ||
		got[0].Sentence != `the processor "attributes" moves from the pipeline "traces" to the pipeline "metrics" in place 3` {
		t.Errorf("got %+v", got)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	body := func(secret string) []byte {
		return []byte(fmt.Sprintf(`
exporters:
  a: {headers: {x-scope: %[1]s}}
  b: {auth: {password: %[1]s}}
  c: {config: {api_key: [%[1]s]}}
  d: {headers: [{name: authorization, value: %[1]s}]}
  e: {dsn: "postgres://user:%[1]s@db/x"}
  f: {tls: {key_pem: "-----BEGIN EC PRIVATE KEY-----\n%[1]s"}}
  g: {sasl: {token: 1%[1]s}}
  h: {settings: {nested: {client_secret: {x: %[1]s}}}}
service: {telemetry: {headers: {a: %[1]s}}}
own: {password: %[1]s}
password: %[1]s
`, secret))
	}
	a, b := parsed(t, body("hush1")), parsed(t, body("hush2"))
	changes := append(Diff(a, b), Diff(parsed(t, []byte("{}")), b)...)
	if len(changes) < 22 {
		t.Errorf("only %d changes", len(changes))
	}
	for _, c := range changes {
		if text := fmt.Sprintf("%+v", c); strings.Contains(text, "hush") || !strings.Contains(text, Redacted) {
			t.Errorf("not hidden: %s", text)
		}
	}
	shown := Diff(parsed(t, []byte("exporters: {a: {headers: {authorization: 'Bearer ${env:A}'}}}")), parsed(t, []byte("exporters: {a: {headers: {authorization: 'Bearer ${env:B}'}}}")))
	if len(shown) != 1 || shown[0].Before != `"Bearer ${env:A}"` || shown[0].After != `"Bearer ${env:B}"` {
		t.Errorf("references are not shown: %+v", shown)
	}
}

func TestChangesAreBounded(t *testing.T) {
	many := func(n int, value string) []byte {
		var b strings.Builder
		b.WriteString("receivers:\n")
		for i := range n {
			fmt.Fprintf(&b, "  nop/%d: {a: %s}\n", i, value)
		}
		b.WriteString("exporters:\n  otlp:\n")
		for i := range mostSettings + 1 {
			fmt.Fprintf(&b, "    k%d: %s\n", i, value)
		}
		return []byte(b.String())
	}
	got := Diff(parsed(t, many(3, "1")), parsed(t, many(3, "2")))
	if len(got) != 4 || got[0].Kind != ComponentModified || got[0].Sentence != `the exporter "otlp" changes in 51 settings` {
		t.Errorf("got %+v", got)
	}
	got = Diff(parsed(t, many(3000, "1")), parsed(t, many(3000, "2")))
	if last := got[len(got)-1]; len(got) != MaxChanges || last.Kind != MoreChanges || last.Sentence != "2502 more changes are not shown" {
		t.Errorf("%d changes, the last %+v", len(got), got[len(got)-1])
	}
	long := strings.Repeat("x", 100_000)
	got = Diff(parsed(t, []byte("exporters: {a: {b: y"+long+"}}")), parsed(t, []byte("exporters:\n  ? a"+long+"\n  : {b: z}")))
	for _, c := range got {
		if len(c.Path)+len(c.Before)+len(c.After)+len(c.Sentence) > 4*longestShown {
			t.Errorf("a change of %d bytes", len(c.Sentence))
		}
	}
}

func TestTextDiff(t *testing.T) {
	got, err := TextDiff(Text{"edge@1", []byte("a: 1\nb: 2\n")}, Text{"edge@2", []byte("a: 1\nb: 3\n")})
	if want := "--- edge@1\n+++ edge@2\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := TextDiff(Text{"a", []byte("x")}, Text{"b", []byte("x")}); err != nil || got != "" {
		t.Errorf("equal bodies differ: %q, %v", got, err)
	}
	var one, other strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&one, "key-%d: 1\n", i)
		fmt.Fprintf(&other, "key-%d: 2\n", i)
	}
	got, err = TextDiff(Text{"a", []byte(one.String())}, Text{"b", []byte(other.String())})
	if err != nil || len(got) > longestDiff+100 || !strings.HasSuffix(got, "\\ The rest of the difference is not shown\n") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := TextDiff(Text{"a", make([]byte, MaxBytes+1)}, Text{"b", nil}); !fault.Is(err, ReasonTooLarge) {
		t.Errorf("a huge body: %v", err)
	}
	if got, err := TextDiff(Text{"a", []byte("\xff\n")}, Text{"b", []byte("\xfe\n")}); err != nil || strings.ToValidUTF8(got, "") != got {
		t.Errorf("bytes that are no text: %q, %v", got, err)
	}
}
