// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func standIn(t *testing.T, body string) *StandIn {
	t.Helper()
	c, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return c.StandIn()
}

func bodyOf(t *testing.T, s *StandIn) string {
	t.Helper()
	body, err := s.Body()
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestAStandInTellsNothing(t *testing.T) {
	s := standIn(t, `
receivers: ${file:/etc/receivers.yaml}
processors:
  batch: ${file:/etc/batch.yaml}
exporters:
  otlp:
    endpoint: ${env:HOST}
    proxy: https://user:hunter2@proxy.example.com/${env:PATH}
    tls: {insecure: "${env:INSECURE}", key_pem: "-----BEGIN PRIVATE KEY-----hunter2"}
    headers: {x: "hunter2", authorization: "Bearer ${env:TOKEN}"}
    api_key: hunter2
    plain: $${env:NOT}
    other: [1, 1.5, .inf, true, null, 2026-01-02, "true", "x${http://h/}y", "${yaml:hunter${env:A}}"]
service:
  extensions: ${env:EXTENSIONS}
  pipelines:
    traces: {receivers: [otlp], exporters: ["${env:ONE}"]}
    logs: {receivers: "${env:MANY}"}
`)
	got := bodyOf(t, s)
	//nolint:gosec // no secret is in it: that is the point
	want := `"exporters":
    "otlp":
        "api_key": "1"
        "endpoint": "${yaml:1}"
        "headers":
            "authorization": "Bearer 1"
            "x": "1"
        "other":
            - 1
            - 1.5
            - .inf
            - true
            - null
            - 2026-01-02T00:00:00Z
            - "true"
            - "x1y"
            - "${yaml:1}"
        "plain": "$${env:NOT}"
        "proxy": "https://user:1@proxy.example.com/1"
        "tls":
            "insecure": "${yaml:1}"
            "key_pem": "1"
"processors":
    "batch": {}
"receivers": {}
"service":
    "extensions": []
    "pipelines":
        "logs":
            "receivers": []
        "traces":
            "exporters":
                - "${yaml:1}"
            "receivers":
                - "otlp"
`
	if got != want {
		t.Errorf("the stand-in is\n%s", got)
	}
}

// TestStandInsMeanTheSame: where nothing is hidden, a stand-in is the configuration in another spelling.
func TestStandInsMeanTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/configs/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatal(files, err)
	}
	same := 0
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(body)
		if err != nil {
			continue
		}
		s := c.StandIn()
		shown := bodyOf(t, s)
		for _, r := range []string{"${env:", "${file:", "${http", "${HO"} {
			if strings.Contains(strings.ReplaceAll(shown, "$$", ""), r) {
				t.Errorf("%s: a reference is left:\n%s", f, shown)
			}
		}
		again, err := Parse([]byte(shown))
		if err != nil {
			t.Errorf("%s: the stand-in cannot be read: %v", f, err)
		} else if len(s.holes) == 0 {
			same++
			if again.SemanticHash() != c.SemanticHash() {
				t.Errorf("%s: the stand-in means something else:\n%s", f, shown)
			}
		}
	}
	if same < 10 {
		t.Errorf("only %d have no placeholder", same)
	}
}

func TestWordsOfACollector(t *testing.T) {
	const config = `receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:H}", max_concurrent_streams: x}
processors:
  batch: {foo: 1}
  filter: {rules: [{a: b}]}
exporters:
  otlp: {tls: {insecure: "${env:I}"}, timeout: x}
  otlp/2: {sending_queue: {queue_size: -1}}
  nosuch: {x: "${env:X}"}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [otlp], processors: [nope]}
`
	for name, c := range map[string]struct{ says, want string }{
		"decoding": {`Error: failed to get config: cannot unmarshal the configuration: decoding failed due to the following error(s):

'receivers' error reading configuration for "otlp": decoding failed due to the following error(s):

'protocols.grpc' decoding failed due to the following error(s):

'endpoint' expected type 'string', got unconvertible type 'int'
'max_concurrent_streams' expected type 'uint32', got unconvertible type 'string'
'processors' error reading configuration for "batch": decoding failed due to the following error(s):

'batchprocessor.Config' has invalid keys: foo, bar
'processors' error reading configuration for "filter": decoding failed due to the following error(s):

'rules[0].a' has a bad value
'exporters' error reading configuration for "otlp": decoding failed due to the following error(s):

'tls.insecure' expected type 'bool', got unconvertible type 'int'
'timeout' time: invalid duration "x"
'exporters' unknown type: "nosuch" for id: "nosuch" (valid values: [debug nop])
`, `info receivers::otlp::protocols::grpc::endpoint 4
error receivers::otlp::protocols::grpc::max_concurrent_streams 4
error processors::batch::foo 6
error processors::filter::rules::0::a 7
info exporters::otlp::tls::insecure 9
error exporters::otlp::timeout 9
error exporters::nosuch 11
`},
		"validating": {`Error: service::pipelines::traces: references processor "nope" which is not configured
exporters::otlp/2::sending_queue: ` + "`queue_size` must be positive" + `
exporters::otlp: requires a non-empty "endpoint"
`, `error service::pipelines::traces 14
error exporters::otlp/2::sending_queue 10
info exporters::otlp 9
`},
		"of older ones": {`Error: failed to get config: cannot unmarshal the configuration: 1 error(s) decoding:

* error decoding 'exporters': unknown type: "nosuch"
`, `info  0
`},
		"where it is": {`Error: exporters::otlp/2: failed to load TLS config: open /etc/ca.pem: no such file or directory
'exporters' error reading configuration for "otlp/2": dial udp 192.0.2.1:53: operation not permitted
`, "info exporters::otlp/2 10\ninfo exporters::otlp/2 10\n"},
		"nothing":  {"", "info  0\n"},
		"controls": {"Error: \x1b[31mred\x1b[0m \u202eback\xff\n", "info  0\n"},
	} {
		s := standIn(t, config)
		_ = bodyOf(t, s)
		var got strings.Builder
		for _, f := range s.Findings(c.says) {
			fmt.Fprintln(&got, f.Severity, f.Path, f.Line)
			if f.Rule != RuleValidate || f.Message == "" || strings.ContainsAny(f.Message, "\x1b\u202e\n") || !utf8.ValidString(f.Message) {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if got.String() != c.want {
			t.Errorf("%s:\n%s", name, got.String())
		}
	}
}

// TestWhereComponentsAreIsNotKnown: if a section lies elsewhere, what is not configured may be there.
func TestWhereComponentsAreIsNotKnown(t *testing.T) {
	s := standIn(t, "receivers: ${file:x}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\nexporters: {nop: }\n")
	_ = bodyOf(t, s)
	for says, want := range map[string]Severity{
		`service::pipelines::traces: references receiver "otlp" which is not configured`: Info,
		`exporters::nop: cannot be`:               Error,
		`'service.telemetry' has invalid keys: x`: Error,
	} {
		if found := s.Findings("Error: " + says); len(found) != 1 || found[0].Severity != want {
			t.Errorf("%s: %+v", says, found)
		}
	}
}

func TestPlaceholdersVary(t *testing.T) {
	s := standIn(t, "exporters: {otlp: {timeout: '${env:T}', tls: {insecure: '${env:I}'}}}\n")
	_ = bodyOf(t, s)
	complain := func(field string) string {
		return "Error: failed to get config: x error(s):\n\n'exporters' error reading configuration for \"otlp\": decoding failed due to the following error(s):\n\n'" + field + "' expected type 'bool', got unconvertible type 'int'\n"
	}
	if s.Vary(complain("headers")) {
		t.Error("varied where there is no placeholder")
	}
	if !s.Vary(complain("tls.insecure")) || !strings.Contains(bodyOf(t, s), `"insecure": true`) || !strings.Contains(bodyOf(t, s), `"timeout": "${yaml:1}"`) {
		t.Errorf("after a complaint: %s", bodyOf(t, s))
	}
	times := 0
	for s.Vary(complain("tls.insecure")) {
		if times++; times > len(placeholders) {
			t.Fatal("it varies for ever")
		}
	}
	if s := standIn(t, "exporters: {otlp: {timeout: '${env:T}'}}\n"); bodyOf(t, s) == "" || !s.Vary(`scheme "yaml" is not supported for uri "yaml:1"`) || !strings.Contains(bodyOf(t, s), `"timeout": "1"`) {
		t.Errorf("without the provider: %s", bodyOf(t, s))
	}
}

func TestAStandInIsBounded(t *testing.T) {
	for values, fits := range map[int]bool{mostShown - 100: true, mostShown + 100: false} {
		s := standIn(t, "a: ["+strings.Repeat("x, ", values)+"]\n")
		if _, err := s.Body(); (err == nil) != fits {
			t.Errorf("with %d values: %v", values, err)
		}
	}
}

// FuzzWords: whatever a program prints, it is bounded, and no panic.
func FuzzWords(f *testing.F) {
	f.Add("'exporters' error reading configuration for \"otlp\": x error(s):\n'a[0].b' has invalid keys: c", "exporters: {otlp: {a: [{b: '${env:X}'}]}}")
	f.Add("service::pipelines::traces: no", "service: ${file:x}")
	f.Fuzz(func(t *testing.T, output, body string) {
		c, err := Parse([]byte(body))
		if err != nil {
			return
		}
		s := c.StandIn()
		if _, err := s.Body(); err != nil {
			return
		}
		for s.Vary(output) {
			if _, err := s.Body(); err != nil {
				t.Fatal(err)
			}
		}
		found := s.Findings(output)
		if len(found) == 0 || len(found) > mostWords {
			t.Errorf("%d findings", len(found))
		}
		for _, finding := range found {
			if len(finding.Message) > longestWords+200 {
				t.Errorf("a message of %d bytes", len(finding.Message))
			}
		}
	})
}
