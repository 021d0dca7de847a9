// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
)

// ExitCode is what the program hands to its caller when it ends.
type ExitCode int

// The exit codes. They are part of the interface: scripts branch on them.
const (
	ExitOK          ExitCode = 0
	ExitError       ExitCode = 1
	ExitUsage       ExitCode = 2
	ExitNotFound    ExitCode = 3
	ExitAgents      ExitCode = 4
	ExitDenied      ExitCode = 5
	ExitUnavailable ExitCode = 6
	ExitConflict    ExitCode = 7
	ExitPaused      ExitCode = 8
	ExitAborted     ExitCode = 9
	ExitRolledBack  ExitCode = 10
	ExitInterrupted ExitCode = 130
)

// ExitMeaning tells one exit code in words.
type ExitMeaning struct {
	Code    ExitCode
	Meaning string
}

// ExitCodes lists every exit code, in rising order.
func ExitCodes() []ExitMeaning {
	return []ExitMeaning{
		{ExitOK, "It is done."},
		{ExitError, "It failed for a reason that none of the other codes names."},
		{ExitUsage, "The command line, or a file or name given to it, is wrong; the same command will fail again."},
		{ExitNotFound, "The thing named does not exist, or not for this caller."},
		{ExitAgents, "The request was accepted, and the thing failed on at least one agent."},
		{ExitDenied, "The token is missing, not accepted, or not allowed to do this."},
		{ExitUnavailable, "The server cannot be reached, is overloaded, or the time ran out; the same command may work later."},
		{ExitConflict, "It exists already, was changed by somebody else meanwhile, or is in a state that forbids the change."},
		{ExitPaused, "The rollout that was followed is paused, by a gate or an operator."},
		{ExitAborted, "The rollout that was followed was aborted."},
		{ExitRolledBack, "The rollout that was followed was rolled back."},
		{ExitInterrupted, "The command was interrupted."},
	}
}

func exitCodesText() string {
	var text strings.Builder
	for _, exit := range ExitCodes() {
		_, _ = fmt.Fprintf(&text, "%4d  %s\n", exit.Code, exit.Meaning)
	}
	return text.String()
}
