// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"regexp/syntax"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
)

// plain refuses what could grow: lists of anything but constants, mappings, messages, and patterns that are made while
// evaluating or are large. What a loop goes over is then no larger than what the caller gave or the expression says.
func plain(a *ast.AST) error {
	var refused error
	ast.PreOrderVisit(a.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if refused != nil {
			return
		}
		if what := notPlain(x); what != "" {
			where := a.SourceInfo().GetStartLocation(x.ID())
			refused = invalid(where.Line(), where.Column()+1, what)
		}
	}))
	return refused
}

// notPlain says what is wrong with the node itself; empty is nothing.
func notPlain(x ast.Expr) string {
	switch x.Kind() {
	case ast.ListKind:
		if slices.ContainsFunc(x.AsList().Elements(), notConstant) {
			return "a list may hold constants only"
		}
	case ast.MapKind, ast.StructKind:
		return "mappings and messages cannot be written"
	case ast.CallKind:
		if call := x.AsCall(); call.FunctionName() == overloads.Matches {
			return badPattern(call.Args())
		}
	default:
	}
	return ""
}

func notConstant(x ast.Expr) bool { return x.Kind() != ast.LiteralKind }

// badPattern says what is wrong with the last of the arguments of matches.
func badPattern(arguments []ast.Expr) string {
	if len(arguments) == 0 || notConstant(arguments[len(arguments)-1]) {
		return "the pattern of matches must be a constant"
	}
	pattern, ok := arguments[len(arguments)-1].AsLiteral().Value().(string)
	if !ok {
		return "the pattern of matches must be a text"
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "the pattern of matches is none: " + err.Error()
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return "the pattern of matches is none: " + err.Error()
	}
	if len(program.Inst) > MaxPattern {
		return fmt.Sprintf("the pattern of matches comes to %d instructions, more than the %d allowed", len(program.Inst), MaxPattern)
	}
	return ""
}
