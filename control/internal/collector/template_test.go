// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/shared/fault"
)

// knows answers with the values, by "source:key".
func knows(values map[string]string) Known {
	return func(source, key string) (string, bool) {
		value, ok := values[source+":"+key]
		return value, ok
	}
}

func TestTemplatesAreRendered(t *testing.T) {
	known := knows(map[string]string{
		"tag:region": "eu-1", "label:host.name": "db-7", "agent:id": "0198", "tag:port": "4317", "tag:quote": `it's "so"`, "tag:empty": "", "tag:yes": "yes",
		"tag:hash": "a # b", "tag:colon": "a: b", "tag:comma": "a, b", "tag:brace": "a}", "tag:long": strings.Repeat("x", 2000),
		"tag:line": "a\nb", "tag:dollar": "${env:HOME}", "tag:back": `a\tb`, "tag:null": "null", "tag:dash": "- a", "tag:umlaut": "Süd",
	})
	for name, c := range map[string]struct{ template, want string }{ // no want: refused
		"plain":                      {"a: ${ampora:tag:region}\n", "a: eu-1\n"},
		"quoted":                     {`a: "${ampora:tag:region}-x"`, `a: "eu-1-x"`},
		"single quotes":              {`a: '${ampora:tag:region}'`, `a: 'eu-1'`},
		"several":                    {"a: ${ampora:label:host.name}.${ampora:tag:region}:${ampora:tag:port}", "a: db-7.eu-1:4317"},
		"in a block":                 {"a: |\n  set(x, \"${ampora:tag:region}\")\n", "a: |\n  set(x, \"eu-1\")\n"},
		"in a flow":                  {"a: [x, \"${ampora:tag:comma}\"]", `a: [x, "a, b"]`},
		"a number":                   {"a: ${ampora:tag:port}", "a: 4317"},
		"an agent":                   {"a: ${ampora:agent:id}", "a: 0198"},
		"a default":                  {"a: ${ampora:tag:none:-eu 2}", "a: eu 2"},
		"an empty default":           {`a: "${ampora:tag:none:-}"`, `a: ""`},
		"a default not needed":       {"a: ${ampora:tag:region:-us}", "a: eu-1"},
		"escaped":                    {"a: $${ampora:tag:region}", "a: $${ampora:tag:region}"},
		"others stay":                {"a: ${env:X}${ampora:tag:region}${file:/x}", "a: ${env:X}eu-1${file:/x}"},
		"in another":                 {"a: ${env:${ampora:tag:region}}", "a: ${env:eu-1}"},
		"in a comment":               {"a: 1 # ${ampora:tag:region}", "a: 1 # eu-1"},
		"an anchor":                  {"a: &x ${ampora:tag:region}\nb: *x", "a: &x eu-1\nb: *x"},
		"umlauts":                    {"a: ${ampora:tag:umlaut}", "a: Süd"},
		"a quote in single quotes":   {`a: '${ampora:tag:quote}'`, ""},
		"a quote in double quotes":   {`a: "${ampora:tag:quote}"`, ""},
		"a quote in plain":           {`a: x ${ampora:tag:quote}`, `a: x it's "so"`},
		"a quote in a block":         {"a: |\n  ${ampora:tag:quote}\n", "a: |\n  it's \"so\"\n"},
		"a comment in plain":         {"a: ${ampora:tag:hash}", ""},
		"a comment in quotes":        {`a: "${ampora:tag:hash}"`, `a: "a # b"`},
		"a key in plain":             {"a: ${ampora:tag:colon}", ""},
		"a key in quotes":            {`a: "${ampora:tag:colon}"`, `a: "a: b"`},
		"a comma in a flow":          {`a: ["${ampora:tag:comma}"]`, `a: ["a, b"]`},
		"a brace in a flow":          {`a: {b: '${ampora:tag:brace}'}`, `a: {b: 'a}'}`},
		"a list":                     {"a: ${ampora:tag:dash}", ""},
		"a backslash":                {`a: "${ampora:tag:back}"`, ""},
		"a backslash in single":      {`a: '${ampora:tag:back}'`, `a: 'a\tb'`},
		"nothing":                    {"a: ${ampora:tag:empty}", ""},
		"nothing in quotes":          {`a: "${ampora:tag:empty}"`, `a: ""`},
		"null":                       {"a: ${ampora:tag:null}", ""},
		"null in quotes":             {`a: "${ampora:tag:null}"`, `a: "null"`},
		"too long":                   {"a: ${ampora:tag:long}", ""},
		"two lines":                  {"a: ${ampora:tag:line}", ""},
		"two lines in a comment":     {"a: 1 # ${ampora:tag:line}", ""},
		"a reference of its own":     {"a: ${ampora:tag:dollar}", ""},
		"not known":                  {"a: ${ampora:tag:none}", ""},
		"through an escape sequence": {`a: "\x24{ampora:tag:region} ${ampora:tag:region}"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			template, err := ParseTemplate([]byte(c.template))
			if err != nil {
				t.Fatal(err)
			}
			got, err := template.Render(known)
			if c.want == "" {
				if !fault.Is(err, ReasonTemplateValue) {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err != nil || string(got) != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestNotEveryReferenceIsOne(t *testing.T) {
	for _, text := range []string{
		"${ampora:region}", "${ampora:env:X}", "${ampora:tag:}", "${ampora:tag:a b}", "${ampora:agent:serial}", "${ampora:tag:a:-${env:X}}",
		"${ampora:tag:a", "${ampora:tag:-a}", "${ampora:}",
	} {
		if _, err := ParseTemplate([]byte("a: 1\nb: x" + text + "\n")); !fault.Is(err, ReasonTemplateInvalid) {
			t.Errorf("%s: %v", text, err)
		}
		if _, findings := Check([]byte("receivers: {nop: {a: 'x" + text + "'}}")); !hasFinding(findings, "template-reference") {
			t.Errorf("%s is not found: %v", text, findings)
		}
	}
	for body, want := range map[string]bool{"a: ${ampora:tag:x}": true, "a: $${ampora:tag:x}": false, "a: $$${ampora:tag:x}": true, "a: ${env:X}": false, "": false} {
		if IsTemplate([]byte(body)) != want {
			t.Errorf("%s is a template: %v", body, !want)
		}
	}
	if _, findings := Check([]byte("receivers: {'nop/${ampora:tag:x}': {}}")); !hasFinding(findings, "template-reference") {
		t.Errorf("a reference in a key is not found: %v", findings)
	}
}

func hasFinding(findings []Finding, rule string) bool {
	for _, f := range findings {
		if f.Rule == rule {
			return true
		}
	}
	return false
}

// TestValuesStayInTheirPlace: whatever a value is, what comes out is refused, or the same configuration with that value.
func TestValuesStayInTheirPlace(t *testing.T) {
	templates := []string{
		"a: ${ampora:tag:x}\nb: 1\n", "a: \"${ampora:tag:x}\"\nb: 1\n", "a: '${ampora:tag:x}'\nb: 1\n", "a: |\n  ${ampora:tag:x}\nb: 1\n",
		"a: >\n  y ${ampora:tag:x}\nb: 1\n", "{a: \"${ampora:tag:x}\", b: 1}", "a: y # ${ampora:tag:x}\nb: 1\n", "a: ['${ampora:tag:x}']\nb: 1\n",
	}
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SampledFrom(templates).Draw(t, "template")
		value := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune(" \"'#:,[]{}&*!|>%@`\\-?~\n\tab0")))).Draw(t, "value")
		template, err := ParseTemplate([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		out, err := template.Render(knows(map[string]string{"tag:x": value}))
		if err != nil {
			return
		}
		c, err := Parse(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", value, out, err)
		}
		if len(c.root.Fields) != 2 || c.root.Get("b").Text != "1" {
			t.Fatalf("%q became %q", value, out)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add([]byte("a: ${ampora:tag:x:-y}\n"), "v")
	f.Add([]byte("a: \"${ampora:label:x}\" # ${ampora:agent:id}\n"), `"`)
	f.Add([]byte("? ${ampora:tag:x}\n: &a [*a]"), "a: b")
	f.Fuzz(func(t *testing.T, body []byte, value string) {
		template, err := ParseTemplate(body)
		if err != nil {
			return
		}
		out, err := template.Render(func(string, string) (string, bool) { return value, true })
		if err == nil && CheckMapping(out) != nil {
			t.Errorf("%q became %q, which nobody can read", body, out)
		}
	})
}
