// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"gitlab.com/ampora/ampora/shared/instrument"
)

const head = `# Metrics

Generated from the declarations in the code by ` + "`make generate`" + `; do not edit.

The names are those of ` + "`/metrics`" + `. By OTLP an instrument has the same name without ` + "`_total`" + `, ` + "`_seconds`" + ` and ` + "`_bytes`" + `: its
unit says it. Labels have the values listed (of long lists the first ones) and no others; what fits none counts as ` + "`other`" + `. No label names a tenant, an
agent or a gateway. ` + "`ampora`" + ` has all of them. Beside these, every program has the metrics of the Go runtime (` + "`go_`" + `), of
its process (` + "`process_`" + `) and ` + "`ampora_build_info`" + `. What to watch is in [observability.md](../operator/observability.md).
`

// sections are the parts of programs that metrics are of.
var sections = []struct{ prefix, title string }{
	{"ampora_gateway_", "Gateways"},
	{"ampora_control_", "Control plane"},
	{"ampora_bus_", "The bus, as gateways and control plane see it"},
	{"ampora_otlp_", "Sending telemetry"},
}

func page(declared []instrument.Declaration) string {
	var out strings.Builder
	out.WriteString(head)
	for _, section := range sections {
		fmt.Fprintf(&out, "\n## %s\n\n| metric | kind | unit | labels | what it says |\n|---|---|---|---|---|\n", section.title)
		for _, d := range declared {
			if strings.HasPrefix(d.Name, section.prefix) {
				fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", d.Shown(), d.Kind, unit(d.Unit), labels(d.Labels), d.Help)
			}
		}
	}
	return out.String()
}

// unit is a unit in words.
func unit(text string) string {
	switch text {
	case "s":
		return "seconds"
	case "By":
		return "bytes"
	default:
		return strings.Trim(text, "{}") + "s"
	}
}

// longest is how many characters of values are all shown.
const longest = 160

func labels(list []instrument.Label) string {
	shown := make([]string, len(list))
	for i, l := range list {
		values := strings.Join(l.Values, ", ")
		if len(values) > longest {
			values = fmt.Sprintf("%s, %s and %d more", l.Values[0], l.Values[1], len(l.Values)-2)
		}
		shown[i] = fmt.Sprintf("`%s`: %s", l.Key, values)
	}
	return strings.Join(shown, "; ")
}
