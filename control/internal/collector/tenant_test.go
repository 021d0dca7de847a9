// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/shared/fault"
)

const judged = `
receivers: {otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317", max: 5}}}}
processors: {batch: , attributes/team: {actions: [{key: team, value: a, action: insert}]}}
exporters: {otlp/backend: {endpoint: "backend.example.com:4317", headers: {x: "${env:X}"}}, debug: }
extensions: {health_check: , zpages: }
service:
  extensions: [health_check]
  telemetry: {logs: {level: info}, since: 2026-01-02, big: 18446744073709551615, ratio: 0.5}
  pipelines:
    traces/a: {receivers: [otlp], processors: [batch], exporters: [otlp/backend]}
    logs: {receivers: [otlp], exporters: [debug]}
`

func compiled(t *testing.T, text string) CompiledRule {
	t.Helper()
	r, err := TenantRule{ID: "own", Severity: Warning, Expression: text, Message: "not so", Fix: "so"}.Compile()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestTenantRules(t *testing.T) {
	c := parsed(t, []byte(judged))
	for text, violated := range map[string]bool{
		`config.pipelines.exists(p, p.signal == "traces" && p.name == "a" && p.id == "traces/a")`:                                       true,
		`config.pipelines.exists(p, !("batch" in p.processors))`:                                                                        true,
		`config.pipelines.all(p, p.exporters.exists(e, e.startsWith("otlp")))`:                                                          false,
		`"debug" in config.exporters`:                                                                                                   true,
		`config.exporters["otlp/backend"].settings.endpoint.endsWith(".example.com:4317")`:                                              true,
		`config.exporters["otlp/backend"].type == "otlp" && config.exporters["otlp/backend"].name == "backend"`:                         true,
		`config.components.exists(c, c.kind == "exporter" && has(c.settings.endpoint) && !c.settings.endpoint.contains("example.com"))`: false,
		`config.components.exists(c, c.type == "zpages" && c.used)`:                                                                     false,
		`config.enabled == ["health_check"]`:                                                                                            true,
		`config.receivers.otlp.settings.protocols.grpc.max > 4`:                                                                         true,
		`config.processors["attributes/team"].settings.actions[0].key == "team"`:                                                        true,
		`has(config.telemetry.logs) && config.telemetry.logs.level == "debug"`:                                                          false,
		`config.telemetry.ratio < 1.0 && config.telemetry.big > 1e18 && config.telemetry.since.startsWith("2026")`:                      true,
		`config.pipelines.exists(p, p.receivers.exists(r, r in config.receivers && config.receivers[r].type == "otlp"))`:                true,
		`config.pipelines.exists(p, config.pipelines.exists(q, p.id != q.id && p.signal == q.signal))`:                                  false,
		`size(config.connectors) > 0`:                                                                                                   false,
		`config.exporters["otlp/backend"].settings.headers.x.matches("^\\$\\{env:")`:                                                    true,
		`has(config.exporters.debug.settings.verbosity)`:                                                                                false,
	} {
		found, err := c.Judge(t.Context(), []CompiledRule{compiled(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case violated != (len(found) == 1):
			t.Errorf("%s: %+v", text, found)
		case violated && found[0] != Finding{Rule: "own", Severity: Warning, Message: "not so", Fix: "so"}:
			t.Errorf("%s: %+v", text, found[0])
		}
	}
}

// TestUndecidedIsViolated is about rules that fail: they are not passed over.
func TestUndecidedIsViolated(t *testing.T) {
	var many strings.Builder
	many.WriteString("service: {pipelines: {")
	for i := range 3000 {
		fmt.Fprintf(&many, "traces/%d: {receivers: [a, b, c], exporters: [d, e]}, ", i)
	}
	many.WriteString("}}")
	for text, c := range map[string]struct{ body, says, or string }{
		`config.exporters["kafka"].settings.x == 1`:                                        {judged, "the expression asks for what is not there", "-"},
		`config.receivers.otlp.settings.protocols.grpc.max == "5" || 1 / 0 == 1`:           {judged, "the expression failed", "-"},
		`config.pipelines.exists(p, config.pipelines.all(q, q.id != p.id || q.id == "x"))`: {many.String(), "the expression was stopped: it cost more than it may", "it took too long"}, // on a slow machine
	} {
		found, err := parsed(t, []byte(c.body)).Judge(t.Context(), []CompiledRule{compiled(t, text)})
		if err != nil || len(found) != 1 ||
			!strings.HasPrefix(found[0].Message, "not so (undecided: "+c.says) && !strings.HasPrefix(found[0].Message, "not so (undecided: "+c.or) {
			t.Errorf("%s: %+v, %v", text, found, err)
		}
	}
}

// TestHostileRules are refused in words when they are compiled, or stopped when they are asked.
func TestHostileRules(t *testing.T) {
	for text, reason := range map[string]string{
		``:                           expression.ReasonInvalid,
		`config`:                     expression.ReasonInvalid,
		`config.secrets == 1`:        expression.ReasonInvalid,
		`1 + 1`:                      expression.ReasonInvalid,
		`config.pipelines.map(p, p)`: expression.ReasonInvalid,
		`[[1]].exists(x, [x, x].exists(y, y == x))`:                                                                  expression.ReasonInvalid,
		`"a".matches("` + strings.Repeat("(a*)*", 500) + `")`:                                                        expression.ReasonInvalid,
		strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500):                                                 expression.ReasonInvalid,
		"true || " + strings.Repeat("true || ", 1000) + "true":                                                       expression.ReasonTooCostly,
		`config.components.all(a, config.components.all(b, config.components.all(c, a.id != b.id || b.id != c.id)))`: expression.ReasonTooCostly,
		`config.pipelines.all(a, config.pipelines.all(b, a.receivers.all(c, b.receivers.all(d, c != d || c == d))))`: expression.ReasonTooCostly,
	} {
		_, err := TenantRule{Expression: text}.Compile()
		if !fault.Is(err, reason) || fault.From(err).Kind != fault.Invalid {
			t.Errorf("%.60s: %v, want %s", text, err, reason)
		}
	}
}

func TestJudgingEndsWithItsContext(t *testing.T) {
	c := parsed(t, []byte(judged))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Judge(ctx, []CompiledRule{compiled(t, "true")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// FuzzTenantRule asks whatever compiles of a configuration. It answers soon and never panics.
func FuzzTenantRule(f *testing.F) {
	for _, seed := range []string{
		`config.pipelines.exists(p, p.signal == "traces" && !("batch" in p.processors))`,
		`config.components.all(c, c.kind != "exporter" || has(c.settings.endpoint))`,
		`config.exporters["otlp"].settings.tls.insecure == true`, `config.telemetry.logs.level.matches("^a+$")`, `size(config.enabled) / 0 > 1`,
	} {
		f.Add(seed)
	}
	c := parsed(f, []byte(judged))
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := TenantRule{ID: "own", Severity: Error, Expression: text}.Compile()
		if err != nil {
			if fault.From(err).Kind != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		begun := time.Now()
		found, err := c.Judge(t.Context(), []CompiledRule{rule})
		if err != nil || len(found) > 1 || time.Since(begun) > 5*time.Second {
			t.Fatalf("%+v, %v after %s", found, err, time.Since(begun))
		}
	})
}
