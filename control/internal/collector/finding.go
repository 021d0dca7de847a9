// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Severity says what a finding means for publishing.
type Severity string

// The severities. An error is what the Collector itself refuses, when it reads the configuration or when it starts;
// the others are advice.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Bounds on findings and on the texts in them.
const (
	// MaxFindings is how many findings there are at most, the last of which then says how many are left out.
	MaxFindings = 200
	// longestPart bounds each key in a path and each name in a message, in bytes.
	longestPart = 120
)

// Finding is something to be said about a configuration.
type Finding struct {
	// Rule is an id from [Rules], or of a tenant's own rule.
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// Path leads to the place by keys and indices, with "::" between them as in the Collector's own messages.
	Path string `json:"path,omitempty"`
	// Line and Column are counted from 1; 0 where there is no place.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	// Fix is a hint.
	Fix string `json:"fix,omitempty"`
}

// Check reads a body and returns what is to be said about it, in the order of the text: its syntax, or if that is good,
// its meaning and style. The configuration is nil if it cannot be read.
func Check(body []byte) (*Config, []Finding) {
	c, err := Parse(body)
	if err != nil {
		return nil, []Finding{syntaxFinding(fault.From(err))}
	}
	return c, c.Findings()
}

// syntaxFinding tells of a fault of CheckMapping as the finding of the rule that is named like its reason.
func syntaxFinding(f *fault.Error) Finding {
	r := ruleOf(strings.ToLower(strings.ReplaceAll(f.Reason, "_", "-")))
	about := f.Metadata()
	line, _ := strconv.Atoi(about["line"])
	column, _ := strconv.Atoi(about["column"])
	message := f.Message
	if line > 0 {
		message = strings.TrimPrefix(message, fmt.Sprintf("line %d, column %d: ", line, column))
	}
	return Finding{Rule: r.ID, Severity: r.Severity, Line: line, Column: column, Message: clip(message, 4*longestPart), Fix: r.Fix}
}

// Findings is what the rules have to say of the configuration, in the order of the text.
func (c *Config) Findings() []Finding {
	var found findings
	v := viewOf(c)
	for _, r := range table {
		if r.config != nil {
			r.config(v, found.of(r))
		}
	}
	var looks []func(setting)
	for _, r := range table {
		if r.setting != nil {
			say := found.of(r)
			looks = append(looks, func(s setting) { r.setting(s, say) })
		}
	}
	v.eachSetting(func(s setting) {
		for _, look := range looks {
			look(s)
		}
	})
	return found.ordered()
}

// spot is a place that a finding is about.
type spot struct {
	path         string
	line, column int
}

// report notes a finding of one rule.
type report func(at spot, format string, args ...any)

// findings are gathered in any order. Of more than a few times as many as are shown, the later are only counted.
type findings struct {
	list  []Finding
	total int
}

const mostGathered = 10 * MaxFindings

func (f *findings) of(r Rule) report {
	return func(at spot, format string, args ...any) {
		f.total++
		if len(f.list) < mostGathered {
			f.list = append(f.list, Finding{
				Rule: r.ID, Severity: r.Severity, Path: at.path, Line: at.line, Column: at.column,
				Message: fmt.Sprintf(format, args...), Fix: r.Fix,
			})
		}
	}
}

func (f *findings) ordered() []Finding {
	slices.SortStableFunc(f.list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), severityOrder(a)-severityOrder(b),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Path, b.Path))
	})
	f.list = slices.Compact(f.list)
	if f.total <= mostGathered {
		f.total = len(f.list)
	}
	if f.total <= MaxFindings {
		return f.list
	}
	shown := f.list[:MaxFindings-1]
	worst := Info
	for _, left := range f.list[MaxFindings-1:] {
		if severityOrder(left) < severityOrder(Finding{Severity: worst}) {
			worst = left.Severity
		}
	}
	r := ruleOf("more-findings")
	return append(shown, Finding{
		Rule: r.ID, Severity: worst, Fix: r.Fix,
		Message: fmt.Sprintf("%d more findings are not shown", f.total-len(shown)),
	})
}

func severityOrder(f Finding) int { return slices.Index([]Severity{Error, Warning, Info}, f.Severity) }

// clip shortens a text to so many bytes, at the end of a character.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// quoted is a name in a message.
func quoted(name string) string { return strconv.Quote(clip(name, longestPart)) }

// pathOf joins keys to a path that can be shown.
func pathOf(keys ...string) string {
	parts := make([]string, len(keys))
	for i, key := range keys {
		parts[i] = clip(key, longestPart)
	}
	return strings.Join(parts, delimiter)
}
