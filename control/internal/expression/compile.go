// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons of faults, all of kind [fault.Invalid].
const (
	// ReasonInvalid: it is no expression of this environment, or does not say yes or no. Metadata "line" and "column",
	// counted from 1, columns in characters.
	ReasonInvalid = "EXPRESSION_INVALID"
	// ReasonTooCostly: it is too long, could cost more than it may, or did.
	ReasonTooCostly = "EXPRESSION_TOO_COSTLY"
	// ReasonKeyMissing: evaluated, it asked for a key, an index or an attribute that is not there.
	ReasonKeyMissing = "EXPRESSION_KEY_MISSING"
	// ReasonFailed: evaluated, it failed in another way, such as a division by zero.
	ReasonFailed = "EXPRESSION_FAILED"
)

// Compile checks the expression and returns what evaluates it.
func (e *Environment) Compile(text string) (program *Program, err error) {
	defer func() { // a library that is led to panic says no, not the end
		if recovered := recover(); recovered != nil {
			program, err = nil, invalid(1, 1, "it cannot be read").WithCause(fmt.Errorf("cel: panic: %v", recovered))
		}
	}()
	switch {
	case len(text) > MaxText:
		return nil, fault.New(fault.Invalid, ReasonTooCostly, "the expression has %d bytes, more than the %d allowed", len(text), MaxText)
	case !utf8.ValidString(text):
		return nil, invalid(1, 1, "it is not UTF-8")
	case strings.TrimSpace(text) == "":
		return nil, invalid(1, 1, "there is nothing but white space")
	}
	parsed, issues := e.cel.Parse(text)
	if err := fromIssues(issues); err != nil {
		return nil, err
	}
	if err := plain(parsed.NativeRep()); err != nil { // before types are inferred: they can grow as values can
		return nil, err
	}
	checked, issues := e.cel.Check(parsed)
	if err := fromIssues(issues); err != nil {
		return nil, err
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) {
		return nil, invalid(1, 1, "it is of type "+cel.FormatCELType(out)+", and must be bool: it says yes or no")
	}
	if err := e.affordable(checked); err != nil {
		return nil, err
	}
	return e.program(text, checked)
}

// affordable refuses what could cost more than the limit on values as large as they may be.
func (e *Environment) affordable(checked *cel.Ast) error {
	estimate, err := e.cel.EstimateCost(checked, sizes{items: e.declared.MaxItems, text: e.declared.MaxText})
	if err != nil {
		return invalid(1, 1, "its cost cannot be estimated").WithCause(err)
	}
	if estimate.Max > e.declared.CostLimit {
		return fault.New(fault.Invalid, ReasonTooCostly,
			"the expression could cost %d steps for one evaluation, more than the %d allowed; avoid loops inside of loops", estimate.Max, e.declared.CostLimit)
	}
	return nil
}

func (e *Environment) program(text string, checked *cel.Ast) (*Program, error) {
	planned, err := e.cel.Program(checked,
		cel.EvalOptions(cel.OptOptimize), cel.CostLimit(e.declared.CostLimit), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, invalid(1, 1, "it cannot be planned").WithCause(err)
	}
	return &Program{text: text, reads: reads(checked), cel: planned}, nil
}

// reads names the variables that a checked expression reads, in order.
func reads(checked *cel.Ast) []string {
	var names []string
	for _, r := range checked.NativeRep().ReferenceMap() {
		if r.Name != "" && len(r.OverloadIDs) == 0 && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// fromIssues turns the first of what the library found into a fault.
func fromIssues(issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	found := issues.Errors()
	if len(found) == 0 {
		return invalid(1, 1, "it cannot be read").WithCause(issues.Err())
	}
	first := found[0]
	line, column := 1, 1
	if l := first.Location; l != nil && l != common.NoLocation {
		line, column = max(l.Line(), 1), max(l.Column()+1, 1)
	}
	return invalid(line, column, short(first.Message))
}

// short is the first line of what the library says: the rest repeats the expression.
func short(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	const most = 300
	if len(line) <= most {
		return line
	}
	return strings.ToValidUTF8(line[:most], "") + "…"
}

func invalid(line, column int, what string) *fault.Error {
	return fault.New(fault.Invalid, ReasonInvalid, "the expression is not valid: line %d, column %d: %s", line, column, what).
		With("line", strconv.Itoa(line)).With("column", strconv.Itoa(column))
}
