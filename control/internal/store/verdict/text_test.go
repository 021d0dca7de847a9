// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCleanJSON: a JSON value stays one, keeps its shape, and decodes to no NUL.
func FuzzCleanJSON(f *testing.F) {
	for _, seed := range []string{``, `"a\u0000b"`, `"\\u0000"`, `"\\\u0000"`, `{"\u0000":["\u0000\u0000", 1, null]}`, `"ü\ud83d\ude00"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		cleaned := cleanJSON(slices.Clone(value))
		if !utf8.Valid(cleaned) {
			t.Fatalf("%q became %q, which is not UTF-8", value, cleaned)
		}
		if !json.Valid(value) || !utf8.Valid(value) {
			return
		}
		var before, after any
		if err := json.Unmarshal(value, &before); err != nil {
			return // a number that fits no float
		}
		if err := json.Unmarshal(cleaned, &after); err != nil {
			t.Fatalf("%q became %q: %v", value, cleaned, err)
		}
		again, err := json.Marshal(after)
		if err != nil || bytes.Contains(bytes.ReplaceAll(again, []byte(`\\`), nil), []byte(`\u0000`)) {
			t.Fatalf("%q became %q, which has a NUL (%v)", value, cleaned, err)
		}
		if !bytes.Contains(value, []byte(`\u0000`)) && !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q", value, cleaned)
		}
	})
}

func TestCleanJSON(t *testing.T) {
	for value, want := range map[string]string{
		``: `null`, `"a\u0000b"`: `"a\ufffdb"`, `"\\u0000"`: `"\\u0000"`, `"\\\u0000"`: `"\\\ufffd"`, `{"a":1}`: `{"a":1}`, `"\u0001"`: `"\u0001"`,
	} {
		if got := cleanJSON(json.RawMessage(value)); string(got) != want {
			t.Errorf("%s became %s, want %s", value, got, want)
		}
	}
}

func TestCleanName(t *testing.T) {
	long := strings.Repeat("ü", MaxName)
	for name, want := range map[string]string{"a": "a", "a\x00b\xff": "a\ufffdb\ufffd", long: long[:MaxName], "a" + long: "a" + long[:MaxName-2]} {
		if got := cleanName(&name); *got != want {
			t.Errorf("%.20q became %.20q of %d bytes", name, *got, len(*got))
		}
	}
	if cleanName(nil) != nil {
		t.Error("nothing became something")
	}
}

func TestCleanLabels(t *testing.T) {
	many := map[string]string{}
	for i := range MaxLabels + 10 {
		many[strings.Repeat("k", i+1)] = strings.Repeat("v", MaxLabelValue+1)
	}
	got := cleanLabels(many)
	if len(got) != MaxLabelKey { // longer keys are left out
		t.Errorf("%d labels were kept", len(got))
	}
	for key, value := range got {
		if len(key) > MaxLabelKey || len(value) != MaxLabelValue {
			t.Errorf("a label of %d and %d bytes was kept", len(key), len(value))
		}
	}
	if got := cleanLabels(map[string]string{}); got == nil || len(got) != 0 {
		t.Errorf("no labels became %v", got)
	}
	if got := cleanLabels(map[string]string{"a\x00": "\x00"}); !maps.Equal(got, map[string]string{"a\ufffd": "\ufffd"}) {
		t.Errorf("got %q", got)
	}
}
