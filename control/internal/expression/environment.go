// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	celenv "cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
)

// Bounds on every expression.
const (
	// MaxText is the longest expression: 4 KiB.
	MaxText = 4 << 10
	// MaxDepth is how deep calls, lists and parentheses may nest.
	MaxDepth = 48
	// MaxNodes is how many nodes an expression may have with its macros written out.
	MaxNodes = 2000
	// MaxPattern is how many instructions a regular expression may come to: each is tried at each character.
	MaxPattern = 256
	// checkEvery is after how many turns of a loop the context is asked.
	checkEvery = 64
)

// Type is what a variable holds.
type Type struct{ is *cel.Type }

// The types there are. Any is for documents whose shape is not known: what is asked of them is checked when evaluating.
var (
	Bool = Type{cel.BoolType}
	Int  = Type{cel.IntType}
	Text = Type{cel.StringType}
	Time = Type{cel.TimestampType}
	Any  = Type{cel.DynType}
)

// List is a list of one type: a []string, []any and so on.
func List(of Type) Type { return Type{cel.ListType(of.is)} }

// Map is a mapping from texts to one type: a map[string]string, map[string]any and so on.
func Map(to Type) Type { return Type{cel.MapType(cel.StringType, to.is)} }

// Declared is what an expression may read, and what it may cost.
type Declared struct {
	// Variables by their names, which may have dots: `agent.claimed.labels`.
	Variables map[string]Type
	// MaxItems and MaxText are the most entries of a list or mapping, and characters of a text, that the caller gives:
	// an expression's cost is estimated with them.
	MaxItems, MaxText uint64
	// CostLimit bounds one evaluation, in units of the library: about one for each step and each ten characters.
	CostLimit uint64
}

// Environment compiles expressions over what was declared.
type Environment struct {
	declared Declared
	cel      *cel.Env
}

// New returns the environment of a declaration. An error is a mistake of the caller's.
func New(d Declared) (*Environment, error) {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(&celenv.LibrarySubset{IncludeMacros: []string{"has", "all", "exists", "exists_one"}})),
		cel.ParserExpressionSizeLimit(MaxText),
		cel.ParserRecursionLimit(MaxDepth),
		cel.ParserErrorRecoveryLimit(1),
		cel.ExpressionNodeLimit(MaxNodes),
		cel.ASTValidators(cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.DefaultUTCTimeZone(true),
		cel.EagerlyValidateDeclarations(true),
	}
	for name, t := range d.Variables {
		options = append(options, cel.Variable(name, t.is))
	}
	env, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return &Environment{declared: d, cel: env}, nil
}

// Must is New for declarations that are written in the program.
func Must(d Declared) *Environment {
	e, err := New(d)
	if err != nil {
		panic(err)
	}
	return e
}

// sizes tells the library how long things can be that are not in the expression itself.
type sizes struct{ items, text uint64 }

// EstimateSize implements [checker.CostEstimator].
func (s sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	switch node.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &checker.SizeEstimate{Max: s.items}
	case types.StringKind, types.BytesKind:
		return &checker.SizeEstimate{Max: s.text}
	case types.DynKind, types.AnyKind:
		return &checker.SizeEstimate{Max: max(s.items, s.text)}
	default:
		return nil
	}
}

// EstimateCallCost implements [checker.CostEstimator]: there are no functions of ours.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
