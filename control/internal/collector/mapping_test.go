// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

const pipeline = `receivers:
  otlp:
    protocols: {grpc: {endpoint: "${env:HOST}:4317"}}
exporters:
  debug: &common
    verbosity: basic
  debug/2:
    <<: *common
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [debug, debug/2]}
`

func TestMappingsAreAccepted(t *testing.T) {
	for name, body := range map[string]string{
		"a pipeline":              pipeline,
		"windows line ends":       strings.ReplaceAll(pipeline, "\n", "\r\n"),
		"byte order mark":         "\xef\xbb\xbf" + pipeline,
		"trailing blanks":         "a: b   \n\n\n   ",
		"no line end":             "a: b",
		"empty mapping":           "{}",
		"json":                    `{"receivers": {"otlp": null}}`,
		"one explicit document":   "%YAML 1.1\n---\na: b\n...\n",
		"comments around":         "# one\na: b # two\n# three\n",
		"keys of numbers, deeper": "a: {1: x, true: y}",
		"quoted number as key":    `"1": x`,
		"merge at the root":       "a: &a {b: c}\n<<: *a\n",
		"unknown local tag":       "a: !local {b: c}",
	} {
		if err := CheckMapping([]byte(body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEverythingElseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		body, reason, place string
	}{
		"nothing":                {"", ReasonNotMapping, "1:1"},
		"white space":            {" \n \n", ReasonNotMapping, "1:1"},
		"comments alone":         {"# one\n", ReasonNotMapping, "1:1"},
		"empty document":         {"---\n", ReasonNotMapping, "2:1"},
		"null":                   {"~", ReasonNotMapping, "1:1"},
		"a word":                 {"\n  hello\n", ReasonNotMapping, "2:3"},
		"a number":               {"12", ReasonNotMapping, "1:1"},
		"a list":                 {"- a: b\n", ReasonNotMapping, "1:1"},
		"two documents":          {"a: b\n---\nc: d\n", ReasonNotMapping, "2:1"},
		"two documents, 2 empty": {"a: b\n---\n", ReasonNotMapping, "2:1"},
		"number as key":          {"a: b\n1: c\n", ReasonNotMapping, "2:1"},
		"null as key":            {"~: c\n", ReasonNotMapping, "1:1"},
		"latin-1":                {"a: b\nc: caf\xe9\n", ReasonNotYAML, "2:7"},
		"utf-16":                 {"\xff\xfea\x00:\x00", ReasonNotYAML, "1:1"},
		"nul":                    {"a: \x00", ReasonNotYAML, ""},
		"tab":                    {"a:\n\tb: c\n", ReasonNotYAML, "2:1"},
		"indentation":            {"a:\n  b: c\n d: e\n", ReasonNotYAML, ""},
		"open bracket":           {"a: [b, c\n", ReasonNotYAML, ""},
		"wrong bracket":          {"a:\n  b: c\n  d: {]\n", ReasonNotYAML, "3:3"},
		"list beside a mapping":  {"a:\n  b:\n  - c\n  d: e\n  - f\n", ReasonNotYAML, "2:3"},
		"value without a key":    {"a: b\nc: d: e\n", ReasonNotYAML, "2:1"},
		"open quote":             {"a: \"b\n", ReasonNotYAML, ""},
		"same key twice":         {"a:\n  b: 1\n  b: 2\n", ReasonNotYAML, "3:3"},
		"same key at the root":   {"a: 1\nb: 2\na: 3\n", ReasonNotYAML, "3:1"},
		"mapping as key":         {"a: {? {b: c} : d}\n", ReasonNotYAML, ""},
		"unknown anchor":         {"a: *nowhere\n", ReasonNotYAML, ""},
		"merge of a word":        {"a: &a word\nb:\n  <<: *a\n", ReasonNotYAML, ""},
		"alias in its anchor":    {"a: &a [*a]\n", ReasonTooLarge, ""},
		"alias bomb":             {bomb(9, 10), ReasonTooLarge, ""},
		"one byte too many":      {"a: " + strings.Repeat("b", MaxBytes-2), ReasonTooLarge, ""},
		"too many values":        {"a: [" + strings.Repeat("b,", maxMarks) + "]", ReasonTooLarge, ""},
		"too many keys":          {manyKeys(20_000), ReasonTooLarge, ""},
		"too many keys, aliased": {"a: &a {" + strings.ReplaceAll(manyKeys(3000), "\n", ",") + "}\nb: [" + strings.Repeat("*a,", 50) + "]\n", ReasonTooLarge, ""},
		"text after the end":     {"a: b\n...\n}\n", ReasonNotYAML, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckMapping([]byte(c.body))
			if !fault.Is(err, c.reason) || fault.From(err).Kind != fault.Invalid {
				t.Fatalf("got %v, want %s", err, c.reason)
			}
			about := fault.From(err).Metadata()
			place := about["line"] + ":" + about["column"]
			if c.place != "" && place != c.place {
				t.Errorf("at %s, want %s: %v", place, c.place, err)
			}
			if c.reason != ReasonTooLarge && !strings.Contains(err.Error(), fmt.Sprintf("line %s, column %s: ", about["line"], about["column"])) {
				t.Errorf("the place is not in the message: %v", err)
			}
		})
	}
}

// bomb is a mapping that comes to width to the power of depth values.
func bomb(depth, width int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 x\n")
	for i := 1; i <= depth; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), width), ","))
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: v\n", i)
	}
	return b.String()
}

func TestLargeMappingsAreAccepted(t *testing.T) {
	long := "a:\n" + strings.Repeat("  - name: "+strings.Repeat("x", 20)+"\n", 260_000)
	for name, body := range map[string]string{"long": long, "wide": manyKeys(5000)} {
		if err := CheckMapping([]byte(body)); err != nil {
			t.Errorf("%s, %d bytes: %v", name, len(body), err)
		}
	}
}

func TestBodyIsLeftAlone(t *testing.T) {
	body := []byte("\xef\xbb\xbfa: b \r\n")
	before := bytes.Clone(body)
	if err := CheckMapping(body); err != nil || !bytes.Equal(body, before) {
		t.Fatalf("%v, %q", err, body)
	}
}

func FuzzCheckMapping(f *testing.F) {
	for _, seed := range []string{pipeline, "", "- a", "a: b\n---\n", "a: &a {b: *a}", bomb(3, 3), "\xff\xfe", "a:\n\tb", "? {a: b}\n: c", "<<: [{a: b}, {c: d}]", "!!map {a: !!int x}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := CheckMapping(body)
		if err != nil {
			if fault.From(err).Kind != fault.Invalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		// What was accepted is a mapping to the Collector, and to its supervisor.
		var collector any
		if err := yaml.Unmarshal(body, &collector); err != nil {
			t.Fatalf("the collector refuses it: %v", err)
		}
		if _, ok := collector.(map[string]any); !ok {
			t.Fatalf("the collector reads a %T", collector)
		}
		var supervisor map[string]any
		if err := yaml.Unmarshal(body, &supervisor); err != nil || supervisor == nil {
			t.Fatalf("the supervisor refuses it: %v", err)
		}
	})
}
