// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package expression_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/shared/fault"
)

// declared is what the tests write expressions over.
func declared() expression.Declared {
	return expression.Declared{
		Variables: map[string]expression.Type{
			"agent.id":     expression.Text,
			"agent.at":     expression.Time,
			"agent.labels": expression.Map(expression.Text),
			"agent.names":  expression.List(expression.Text),
			"agent.count":  expression.Int,
			"agent.polls":  expression.Bool,
			"config":       expression.Any,
		},
		MaxItems: 64, MaxText: 256, CostLimit: 20_000,
	}
}

func values(name string) any {
	return map[string]any{
		"agent.id":     "a1",
		"agent.at":     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"agent.labels": map[string]string{"region": "eu-west", "os": "linux"},
		"agent.names":  []string{"otlp", "batch"},
		"agent.count":  int64(3),
		"agent.polls":  false,
		"config":       map[string]any{"receivers": map[string]any{"otlp": nil}, "list": []any{1, "two"}},
	}[name]
}

func TestAnExpressionSaysYesOrNo(t *testing.T) {
	environment := expression.Must(declared())
	for text, want := range map[string]bool{
		`true`:                                                            true,
		`agent.labels["region"] == "eu"`:                                  false,
		`agent.labels.region == "eu-west"`:                                true,
		`agent.labels["os"] in ["linux"]`:                                 true,
		`"os" in agent.labels`:                                            true,
		`has(agent.labels.rack)`:                                          false,
		`!has(agent.labels.rack)`:                                         true,
		`agent.names.exists(n, n == "otlp")`:                              true,
		`agent.names.all(n, n.size() > 4)`:                                false,
		`agent.names.exists_one(n, n.startsWith("b"))`:                    true,
		`agent.labels.exists(k, k == "os" && agent.labels[k] == "linux")`: true,
		`agent.id.matches("^a[0-9]+$") && !agent.polls`:                   true,
		`agent.at < timestamp("2026-06-01T00:00:00Z")`:                    true,
		`agent.count > 2 && agent.count < 4`:                              true,
		`has(config.receivers.otlp)`:                                      true,
		`config.receivers.exists(r, r.startsWith("kafka"))`:               false,
		`agent.labels["rack"] == "1" || agent.polls == false`:             true, // an error does not matter where the other side decides
	} {
		program, err := environment.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := program.Evaluate(t.Context(), values); err != nil || got != want {
			t.Errorf("%s says %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestWhatIsNoExpressionIsRefusedWithItsPlace(t *testing.T) {
	environment := expression.Must(declared())
	for text, want := range map[string]struct{ line, column, says string }{
		``:                             {"1", "1", "nothing but white space"},
		"true &&":                      {"1", "8", "Syntax error"},
		"true &&\n  agent.nobody":      {"2", "3", "undeclared reference"},
		`agent.count == "3"`:           {"1", "13", "no matching overload"},
		`agent.count`:                  {"1", "1", "must be bool"},
		`config`:                       {"1", "1", "must be bool"},
		`agent.labels.map(k, k) == []`: {"1", "", ""},
		`[agent.id] == ["x"]`:          {"1", "1", "constants only"},
		`{"a": agent.id} == {}`:        {"1", "1", "mappings"},
		`agent.id.matches(agent.id)`:   {"1", "17", "must be a constant"},
		`agent.id.matches("(")`:        {"1", "17", "missing closing )"},
		`agent.at < timestamp("x")`:    {"1", "22", "invalid timestamp argument"},
		"\xff":                         {"1", "1", "UTF-8"},
	} {
		_, err := environment.Compile(text)
		got := fault.From(err)
		if got == nil || got.Kind != fault.Invalid || got.Reason != expression.ReasonInvalid {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if at := got.Metadata(); at["line"] != want.line || want.column != "" && at["column"] != want.column || !strings.Contains(got.Message, want.says) {
			t.Errorf("%q: at %v: %s", text, at, got.Message)
		}
	}
}

func TestWhatFailsSaysWhy(t *testing.T) {
	environment := expression.Must(declared())
	for text, reason := range map[string]string{
		`agent.labels["rack"] == "1"`:                          expression.ReasonKeyMissing,
		`!(agent.labels["rack"] == "1")`:                       expression.ReasonKeyMissing,
		`agent.labels.rack == "1"`:                             expression.ReasonKeyMissing,
		`agent.names[7] == "x"`:                                expression.ReasonKeyMissing,
		`config.service.telemetry == 1`:                        expression.ReasonKeyMissing,
		`config["service"] == 1`:                               expression.ReasonKeyMissing,
		`agent.labels.exists(k, agent.labels[k + "x"] == "1")`: expression.ReasonKeyMissing,
		`1 / (agent.count - 3) == 1`:                           expression.ReasonFailed,
		`config.list > 1`:                                      expression.ReasonFailed,
		`int(agent.id) == 1`:                                   expression.ReasonFailed,
	} {
		program, err := environment.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if yes, err := program.Evaluate(t.Context(), values); yes || !fault.Is(err, reason) {
			t.Errorf("%s: %v, %v; want %s", text, yes, err, reason)
		}
	}
}

// TestHostileExpressions are refused or stopped, in little time: each is tried against its deadline.
func TestHostileExpressions(t *testing.T) {
	nested := `true`
	for range 8 {
		nested = `agent.labels.all(k, ` + nested + `)`
	}
	doubling := `s.size() > 0`
	for range 30 {
		doubling = `[s + s].exists(s, ` + doubling + `)`
	}
	for name, c := range map[string]struct{ text, reason string }{
		"nested loops":            {nested, expression.ReasonTooCostly},
		"two loops":               {`agent.labels.all(a, agent.labels.all(b, agent.labels[a] != agent.labels[b]))`, expression.ReasonTooCostly},
		"loops over text":         {`agent.names.all(a, agent.names.all(b, a.contains(b)))`, expression.ReasonTooCostly},
		"a huge text":             {`"` + strings.Repeat("x", 5000) + `" == agent.id`, expression.ReasonTooCostly},
		"deep parentheses":        {strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), expression.ReasonInvalid},
		"deep lists":              {strings.Repeat("[", 1500) + strings.Repeat("]", 1500) + " == []", expression.ReasonInvalid},
		"deep negation":           {strings.Repeat("!", 4000) + "true", ""},
		"deep conditionals":       {strings.Repeat("true ? false : ", 250) + "true", expression.ReasonInvalid},
		"many nodes":              {strings.Repeat("1+", 2000) + "1 == 1", expression.ReasonInvalid},
		"doubling texts":          {strings.ReplaceAll(`[agent.id].exists(s, `+doubling+`)`, "\n", ""), expression.ReasonInvalid},
		"lists of lists":          {`[[[1,1],[1,1]],[[1,1],[1,1]]].exists(l, l == l)`, expression.ReasonInvalid},
		"mappings":                {`{"a": {"b": {"c": 1}}}.exists(k, k == "a")`, expression.ReasonInvalid},
		"a pattern that repeats":  {`agent.id.matches("((((a{10}){10}){10}){10}){10}")`, expression.ReasonInvalid},
		"a pattern of many":       {`agent.id.matches("a{900}b{900}")`, expression.ReasonInvalid},
		"a pattern of alternates": {`agent.id.matches("` + strings.Repeat("ab|cd|", 400) + `b")`, expression.ReasonInvalid},
		"macros that build":       {`agent.names.map(n, n + n).map(n, n + n).size() > 0`, expression.ReasonInvalid},
		"filter":                  {`agent.names.filter(n, true).size() > 0`, expression.ReasonInvalid},
		"a NUL":                   {"true\x00", expression.ReasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			program, err := expression.Must(declared()).Compile(c.text)
			switch {
			case c.reason == "" && err == nil:
				_, _ = program.Evaluate(t.Context(), values)
			case c.reason != "" && !fault.Is(err, c.reason):
				t.Errorf("%.80s: %v, want %s", c.text, err, c.reason)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestTheLimitHoldsWhenEvaluating although the values are larger than was declared.
func TestTheLimitHoldsWhenEvaluating(t *testing.T) {
	program, err := expression.Must(declared()).Compile(`agent.names.all(n, n.contains("x"))`)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 1_000_000)
	for i := range many {
		many[i] = "xxxxxxxxxxxxxxxx"
	}
	began := time.Now()
	_, err = program.Evaluate(t.Context(), func(string) any { return many })
	if !fault.Is(err, expression.ReasonTooCostly) || time.Since(began) > time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestAContextStopsALoop(t *testing.T) {
	d := declared()
	d.CostLimit = 1 << 62
	program, err := expression.Must(d).Compile(`agent.names.all(a, agent.names.all(b, agent.names.all(c, a != "y" && b != "y")))`)
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, 100_000)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	if yes, err := program.Evaluate(ctx, func(string) any { return many }); yes || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", yes, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it went on for %v", took)
	}
	if _, err := program.Evaluate(ctx, values); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what is over began all the same: %v", err)
	}
}

func TestReadsNamesWhatIsRead(t *testing.T) {
	environment := expression.Must(declared())
	for text, want := range map[string]bool{
		`agent.labels["region"] == "eu"`:             true,
		`.agent.labels["region"] == "eu"`:            true,
		`agent.polls || "x" in agent.labels`:         true,
		`agent.names.exists(n, n in agent.labels)`:   true,
		`has(agent.labels.region)`:                   true,
		`agent.names.exists(labels, labels == "os")`: false,
		`agent.id == "agent.labels"`:                 false,
	} {
		program, err := environment.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := program.Reads("agent.labels"); got != want {
			t.Errorf("%s reads agent.labels: %v", text, got)
		}
		if !program.Reads("agent") || program.Reads("age") {
			t.Errorf("%s: a variable is read by its beginnings at a dot", text)
		}
	}
}

func TestProgramsServeManyAtOnce(t *testing.T) {
	program, err := expression.Must(declared()).Compile(`agent.id.matches("^b") || agent.labels.exists(k, agent.labels[k] == agent.id)`)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			mine := func(name string) any {
				if name == "agent.id" {
					return []string{"a", "b"}[i%2]
				}
				return values(name)
			}
			for range 200 {
				if yes, err := program.Evaluate(t.Context(), mine); err != nil || yes != (i%2 == 1) {
					t.Errorf("%d: %v, %v", i, yes, err)
				}
			}
		})
	}
	all.Wait()
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`agent.labels["region"] == "eu" && agent.id.matches("^a.*")`, `agent.names.exists(n, n in ["a", "b"])`,
		`has(config.a.b.c) ? 1 / agent.count > 0 : false`, `"\u00e9" + b"x" == r'y'`, `(((`, "`a`", `[1][0] == 1u`, `.x.y{z: 1}`,
	} {
		f.Add(seed)
	}
	environment := expression.Must(declared())
	f.Fuzz(func(t *testing.T, text string) {
		program, err := environment.Compile(text)
		if err == nil {
			_, err = program.Evaluate(t.Context(), values)
		}
		if got := fault.From(err); got != nil && got.Kind != fault.Invalid {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	program, err := expression.Must(declared()).Compile(`agent.labels["region"].startsWith("eu-") && agent.labels["os"] in ["linux", "darwin"]`)
	if err != nil {
		b.Fatal(err)
	}
	labels := any(map[string]string{"region": "eu-west", "os": "linux"})
	b.ReportAllocs()
	for b.Loop() {
		if yes, err := program.Evaluate(b.Context(), func(string) any { return labels }); !yes || err != nil {
			b.Fatal(yes, err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	environment := expression.Must(declared())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := environment.Compile(`agent.labels["region"].startsWith("eu-") && agent.labels["os"] in ["linux", "darwin"]`); err != nil {
			b.Fatal(err)
		}
	}
}
