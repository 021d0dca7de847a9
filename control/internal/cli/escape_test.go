// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	cases := []struct{ in, want string }{
		{"plain text, ümläute, 漢字 and 🙂", "plain text, ümläute, 漢字 and 🙂"},
		{"line\nbreak\ttab\r", `line\nbreak\ttab\r`},
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"\u009b31m", `\u009b31m`},
		{"abc\u202edcba", `abc\u202edcba`},
		{"zero\u200bwidth", `zero\u200bwidth`},
		{"\xff\x80", `\xff\x80`},
		{"\x7f", `\x7f`},
		{"it's", "it's"},
		{"no\u00a0break", `no\u00a0break`},
	}
	for _, c := range cases {
		if got := escape(c.in); got != c.want {
			t.Errorf("escape(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	if got := escapeLines("a\n\tb\x1b"); got != "a\n\tb\\x1b" {
		t.Errorf("escapeLines keeps %q", got)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add(evil)
	f.Add("'\"\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		safe := escape(text)
		if !utf8.ValidString(safe) || strings.ContainsFunc(safe, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("escape(%q) = %q", text, safe)
		}
	})
}

// JSON keeps its meaning, and is as safe to show as the rest.
func FuzzEscapeJSON(f *testing.F) {
	f.Add(evil)
	f.Add("\U000e0001\u2028\u0080")
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "?")
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		safe := escapeJSON(raw)
		if strings.ContainsFunc(string(safe), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("escapeJSON leaves something in %q", safe)
		}
		var back string
		if err := json.Unmarshal(safe, &back); err != nil || back != text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	})
}
