// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
)

//go:generate go run ./rules ../../../docs/reference/config-rules.md

const pageHead = `# Rules for configurations

Generated from the tables in ` + "`control/internal/collector`" + ` by ` + "`make generate`" + `; do not edit.

A configuration of the kind ` + "`collector`" + ` is looked at in three layers: its syntax; its meaning, as the Collector reads it;
and its style. Later layers are looked at only if the syntax is good. A fourth layer needs to know a build of the
Collector: which types of component it has.

- **error**: the Collector refuses it, when it reads the configuration or when it starts. It is not published.
- **warning**, **info**: the Collector takes it; we advise against it.

A finding has the id of its rule, a severity, a path with ` + "`::`" + ` between its keys as in the Collector's own messages, line and
column, a message, and a hint. Findings come in the order of the text; of more than 200 the last says how many there are.
Where the administrator runs [ampora-validator](../operator/validator.md), the Collector itself is asked: what it says are
findings of the rule ` + "`collector-validate`" + `.
What a reference (` + "`${env:NAME}`" + `, ` + "`${file:/path}`" + `) stands for is not known here: where it could be right, nothing is said.

`

const pageTail = `## Rules of a tenant's own

A tenant's own rule is an expression in [CEL](https://cel.dev) that is true when the rule is violated. It can read:

| variable | what |
|---|---|
| ` + "`config.receivers`, `config.processors`, `config.exporters`, `config.connectors`, `config.extensions`" + ` | mappings from ids to components |
| ` + "`config.components`" + ` | the list of all of these; each has ` + "`id`, `kind`, `type`, `name`, `used`, `settings`" + ` |
| ` + "`config.pipelines`" + ` | a list; each has ` + "`id`, `signal`, `name`, `receivers`, `processors`, `exporters`" + ` |
| ` + "`config.enabled`" + ` | the ids in service::extensions |
| ` + "`config.telemetry`" + ` | what is below service::telemetry |

Settings are as they are written: a reference is its text, and a component without settings has an empty mapping. Every
pipeline of traces must batch, and no exporter may send elsewhere:

` + "```text" + `
config.pipelines.exists(p, p.signal == "traces" && !p.processors.exists(id, id.startsWith("batch")))
config.components.exists(c, c.kind == "exporter" && has(c.settings.endpoint) && !c.settings.endpoint.contains(".example.com"))
` + "```" + `

An expression that could cost too much is refused when it is written; a loop in a loop is possible, a third is not. One
that cannot be decided counts as violated, and the finding says why: ask with ` + "`has(…)` or `in`" + ` for what may be missing.
`

// longestExample is how many lines of an example the page shows.
const longestExample = 24

// Reference is the page of the reference that has every rule with its examples.
func Reference() string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("| rule | layer | severity | what |\n|---|---|---|---|\n")
	for _, r := range table {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", r.ID, r.ID, r.Layer, r.Severity, r.Summary)
	}
	b.WriteString("\n")
	for _, r := range table {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n%s\n\nBad:\n\n%s\nGood:\n\n%s\n", r.ID, r.Summary, r.Fix, shownExample(r.Bad()), shownExample(r.Good()))
	}
	b.WriteString(pageTail)
	return b.String()
}

func shownExample(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) > longestExample {
		lines = append(lines[:longestExample], "# and so on\n")
	}
	return "```yaml\n" + strings.Join(lines, "") + "```\n"
}
