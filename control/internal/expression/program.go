// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"context"
	"errors"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Program is an expression that was compiled.
type Program struct {
	text  string
	reads []string
	cel   cel.Program
}

// String is the expression as it was written.
func (p *Program) String() string { return p.text }

// Reads says whether the expression reads the variable or one below it: `agent.claimed` is read by
// `agent.claimed.labels["os"] == "linux"`.
func (p *Program) Reads(name string) bool {
	return slices.ContainsFunc(p.reads, func(r string) bool {
		rest, ok := strings.CutPrefix(r, name)
		return ok && (rest == "" || rest[0] == '.')
	})
}

// Values returns the value of a declared variable, of its declared type. It is asked only for what is read.
type Values func(name string) any

// ResolveName implements [cel.Activation].
func (v Values) ResolveName(name string) (any, bool) {
	value := v(name)
	return value, value != nil
}

// Parent implements [cel.Activation].
func (Values) Parent() cel.Activation { return nil }

// Evaluate says what the expression says of the values. Its errors are faults with ReasonTooCostly, ReasonKeyMissing or
// ReasonFailed, or those of the context; with any of them the answer is no.
func (p *Program) Evaluate(ctx context.Context, values Values) (bool, error) {
	if err := ctx.Err(); err != nil { // an expression without a loop never asks
		return false, err
	}
	out, _, err := p.cel.ContextEval(ctx, values)
	if err != nil {
		return false, fromEvaluation(ctx, err)
	}
	yes, ok := out.(types.Bool)
	if !ok {
		return false, fault.New(fault.Invalid, ReasonFailed, "the expression did not say yes or no")
	}
	return bool(yes), nil
}

// missing begin the library's words for what is not there. It has no type for them; a test holds it to these.
var missing = []string{"no such key", "index out of bounds", "no such attribute"}

func fromEvaluation(ctx context.Context, err error) error {
	var stopped interpreter.EvalCancelledError
	text := err.Error()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &stopped) && stopped.Cause == interpreter.CostLimitExceeded:
		return fault.New(fault.Invalid, ReasonTooCostly, "the expression was stopped: it cost more than it may").WithCause(err)
	case slices.ContainsFunc(missing, func(m string) bool { return strings.HasPrefix(text, m) }):
		return fault.New(fault.Invalid, ReasonKeyMissing, "the expression asks for what is not there: %s", short(text))
	default:
		return fault.New(fault.Invalid, ReasonFailed, "the expression failed: %s", short(text))
	}
}
