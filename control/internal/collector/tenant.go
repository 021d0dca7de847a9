// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Bounds on a tenant's own rules. The cost comes to some tenths of a second at most; the patience is for a machine that
// stands still.
const (
	tenantItems     = 100
	tenantText      = 100
	tenantCost      = 1_000_000
	tenantPatience  = 5 * time.Second
	longestSentence = 1000
)

// tenantView is what expressions may read of a configuration.
var tenantView = expression.Must(expression.Declared{
	Variables: map[string]expression.Type{
		"config.receivers":  expression.Map(expression.Any),
		"config.processors": expression.Map(expression.Any),
		"config.exporters":  expression.Map(expression.Any),
		"config.connectors": expression.Map(expression.Any),
		"config.extensions": expression.Map(expression.Any),
		"config.components": expression.List(expression.Any),
		"config.pipelines":  expression.List(expression.Any),
		"config.enabled":    expression.List(expression.Text),
		"config.telemetry":  expression.Map(expression.Any),
	},
	MaxItems: tenantItems, MaxText: tenantText, CostLimit: tenantCost,
})

// TenantRule is a rule of a tenant's own: a CEL expression that is true when it is violated. It reads
//
//   - config.receivers, config.processors, config.exporters, config.connectors, config.extensions: mappings from ids to
//     {id, kind, type, name, used, settings}, and config.components, the list of them all;
//   - config.pipelines: a list of {id, signal, name, receivers, processors, exporters}, the last three lists of ids;
//   - config.enabled: the ids in service::extensions, and config.telemetry: what is below service::telemetry.
//
// Settings are what is written: a reference is its text, and a component without settings has an empty mapping.
type TenantRule struct {
	ID         string
	Severity   Severity
	Expression string
	// Message is what a finding says, Fix a hint.
	Message, Fix string
}

// CompiledRule is a tenant's rule that can be asked. It may be kept and used by many at once.
type CompiledRule struct {
	rule     TenantRule
	violated *expression.Program
}

// Compile returns the rule ready to be asked. Errors are those of [expression.Environment.Compile].
func (r TenantRule) Compile() (CompiledRule, error) {
	program, err := tenantView.Compile(r.Expression)
	return CompiledRule{r, program}, err
}

// Judge returns a finding for each rule that is violated. One that cannot be decided, because it asks for what
// is not there, fails or costs too much, counts as violated, and the finding says so. An error is that of the context.
func (c *Config) Judge(ctx context.Context, rules []CompiledRule) ([]Finding, error) {
	values := (&tenantValues{view: viewOf(c), plain: map[*Node]any{}, made: map[string]any{}}).value
	var found findings
	for _, compiled := range rules {
		violated, err := compiled.ask(ctx, values)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r := compiled.rule
		say := found.of(Rule{ID: r.ID, Severity: r.Severity, Fix: r.Fix})
		switch {
		case err != nil:
			say(spot{}, "%s (undecided: %s)", clip(r.Message, longestSentence), undecided(err))
		case violated:
			say(spot{}, "%s", clip(r.Message, longestSentence))
		}
	}
	return found.ordered(), nil
}

func (r CompiledRule) ask(ctx context.Context, values expression.Values) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, tenantPatience)
	defer cancel()
	return r.violated.Evaluate(ctx, values)
}

func undecided(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	return clip(fault.From(err).Message, longestSentence)
}

// tenantValues makes what expressions read, when they read it.
type tenantValues struct {
	view
	plain map[*Node]any  // of lists and mappings, which anchors may share
	made  map[string]any // by name: an inner loop asks each time
}

func (t *tenantValues) value(name string) any {
	value, ok := t.made[name]
	if !ok {
		value = t.make(name)
		t.made[name] = value
	}
	return value
}

func (t *tenantValues) make(name string) any {
	for _, s := range t.sections() {
		if name == "config."+s.Kind.section() {
			return t.section(s)
		}
	}
	switch name {
	case "config.components":
		list := []any{}
		t.eachComponent(func(c Component) { list = append(list, t.component(c)) })
		return list
	case "config.pipelines":
		return t.pipelines()
	case "config.enabled":
		return names(t.Service.Extensions)
	case "config.telemetry":
		return t.mapping(t.Service.Telemetry)
	default:
		return nil
	}
}

func (t *tenantValues) section(s *Section) map[string]any {
	m := make(map[string]any, len(s.Components))
	for _, c := range s.Components {
		m[c.ID.String()] = t.component(c)
	}
	return m
}

func (t *tenantValues) component(c Component) any {
	return map[string]any{
		"id": c.ID.String(), "kind": string(c.Kind), "type": c.ID.Type, "name": c.ID.Name, "used": t.uses(c),
		"settings": t.mapping(c.Settings),
	}
}

func (t *tenantValues) pipelines() []any {
	list := make([]any, 0, len(t.Service.Pipelines))
	for _, p := range t.Service.Pipelines {
		list = append(list, map[string]any{
			"id": p.ID.String(), "signal": p.ID.Type, "name": p.ID.Name,
			"receivers": names(p.Receivers), "processors": names(p.Processors), "exporters": names(p.Exporters),
		})
	}
	return list
}

func names(m Members) []string {
	list := make([]string, 0, len(m.Refs))
	for _, r := range m.Refs {
		list = append(list, r.ID.String())
	}
	return list
}

// mapping is a node as a mapping; what is none is an empty one.
func (t *tenantValues) mapping(n *Node) map[string]any {
	if m, ok := t.of(n).(map[string]any); ok {
		return m
	}
	return map[string]any{}
}

// of is a node as a plain value.
func (t *tenantValues) of(n *Node) any {
	if n == nil || n.Kind == Null {
		return nil
	}
	if n.scalar() {
		return n.value()
	}
	if known, ok := t.plain[n]; ok {
		return known
	}
	var made any
	if n.Kind == List {
		list := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			list = append(list, t.of(item))
		}
		made = list
	} else {
		m := make(map[string]any, len(n.Fields))
		for _, f := range n.Fields {
			m[f.Key] = t.of(f.Value)
		}
		made = m
	}
	t.plain[n] = made
	return made
}

// value is a scalar as CEL has it. Times are texts, and what is too large for an integer is a number.
func (n *Node) value() any {
	switch n.Kind {
	case Bool:
		return n.Text == "true"
	case Int:
		if i, err := strconv.ParseInt(n.Text, 10, 64); err == nil {
			return i
		}
		f, _ := strconv.ParseFloat(n.Text, 64)
		return f
	case Float:
		f, _ := strconv.ParseFloat(n.Text, 64)
		return f
	default:
		return n.Text
	}
}
