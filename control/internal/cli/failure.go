// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// failure is an error as a person reads it: what happened, why, and what to do next.
type failure struct {
	code     ExitCode
	sentence string
	reason   string            // machine-readable, UPPER_SNAKE; empty for what the program found by itself
	metadata map[string]string // facts that came with the reason
	next     string            // what to do; may be empty
}

func (f *failure) Error() string { return f.sentence }

// fail makes a failure that the program found by itself.
func fail(code ExitCode, next, format string, args ...any) *failure {
	return &failure{code: code, sentence: fmt.Sprintf(format, args...), next: next}
}

func usage(format string, args ...any) *failure { return fail(ExitUsage, "", format, args...) }

// verdict is what one code of the API means to the caller of a command.
type verdict struct {
	exit ExitCode
	next string
}

const (
	nextToken   = "set AMPORA_TOKEN_FILE (or --token-file) to a file with a live API token; an administrator makes one with: amporactl api-tokens create" //nolint:gosec // advice, no secret
	nextRole    = "amporactl system get shows your role; ask an administrator for a token with a higher one"
	nextList    = "the list command of the same noun shows what there is"
	nextServer  = "check --server (AMPORA_SERVER), and that ampora-control or ampora runs there"
	nextLater   = "try again later"
	nextPreview = "look again with --dry-run, and then do it with --expect and the mark it shows"
	nextRead    = "read it again, and repeat the command if it is still wanted"
	nextReport  = "look into the log of the control plane"
	nextTimeout = "try again, or allow more with --timeout"
)

func verdictOf(code connect.Code) verdict {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return verdict{ExitUsage, ""}
	case connect.CodeNotFound:
		return verdict{ExitNotFound, nextList}
	case connect.CodeUnauthenticated:
		return verdict{ExitDenied, nextToken}
	case connect.CodePermissionDenied:
		return verdict{ExitDenied, nextRole}
	case connect.CodeUnavailable:
		return verdict{ExitUnavailable, nextServer}
	case connect.CodeResourceExhausted:
		return verdict{ExitUnavailable, nextLater}
	case connect.CodeDeadlineExceeded:
		return verdict{ExitUnavailable, nextTimeout}
	case connect.CodeAborted:
		return verdict{ExitConflict, nextRead}
	case connect.CodeAlreadyExists, connect.CodeFailedPrecondition:
		return verdict{ExitConflict, ""}
	case connect.CodeCanceled:
		return verdict{ExitInterrupted, ""}
	case connect.CodeUnimplemented:
		return verdict{ExitError, "check --server: is it the public API of an Ampora as new as this program?"}
	default:
		return verdict{ExitError, nextReport}
	}
}

// adviceFor knows better than the code what to do about some reasons.
func adviceFor(reason string) (string, bool) {
	const replaceIdentity = "an Admin adds --replace: what is good of the agent's certificates is revoked when the token is redeemed"
	const correctFile = "correct the file; what is no collector configuration goes into one made with --kind opaque"
	advice, known := map[string]string{
		"AGENT_HAS_CERTIFICATE": replaceIdentity,
		"AGENT_KEEPS_ITS_KEY":   "on its machine: amporactl renew",
		"AGENT_WAS_REVOKED":     replaceIdentity,
		"GATE_BREACHED":         "amporactl rollouts members --problems lists the agents; go on all the same with: amporactl rollouts resume --accept-problems",
		"ROLLOUT_ACTIVE":        "follow it with: amporactl rollouts watch, abort it, or start with --supersede",
		"REQUIRES_POSTGRES":     "run the control plane on PostgreSQL (AMPORA_DATABASE_URL)",
		"CONFIG_NOT_YAML":       correctFile,
		"CONFIG_NOT_A_MAPPING":  correctFile,
		"CONFIG_REFUSED":        "amporactl configs check lists all that was found; a rule that is wrong here is left out with: amporactl configs publish --waive RULE",
		"CURSOR_INVALID":        "leave --cursor out to begin now",
		"EXCEEDS_OWN_RIGHTS":    nextRole,
		"GATEWAY_SHARED":        "choose another name, or ask the installation's operator: ampora-control join-token, ampora-control revoke-gateway",
		"POOL_DISABLED":         "whoever keeps the pool opens it again with: amporactl token-pools update --enable",
		"POOL_EXHAUSTED":        "try again when some of its tokens are redeemed or expired; whoever keeps the pool raises the limit with: amporactl token-pools update --live-limit",
		"POOL_RATE_LIMITED":     "try again when it says; whoever keeps the pool raises the rate with: amporactl token-pools update --per-hour",
		"PREVIEW_REQUIRED":      nextPreview,
		"SELECTION_CHANGED":     nextPreview,
		"TOO_MANY_AGENTS":       "narrow the filter, or do it in several steps",
		"PROCEDURE_NOT_ALLOWED": "the token is limited to other procedures; use another token",
	}[reason]
	return advice, known
}

// failureOf reads an error of any origin. interrupted says that the person or the system asked the program to stop.
func failureOf(err error, interrupted bool) *failure {
	var own *failure
	var remote *connect.Error
	switch {
	case errors.As(err, &own):
		return own
	case interrupted:
		return fail(ExitInterrupted, "", "interrupted")
	case errors.As(err, &remote):
		return failureOfAPI(remote)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(ExitUnavailable, nextTimeout, "the time ran out")
	default:
		return fail(ExitError, "", "%v", err)
	}
}

func failureOfAPI(err *connect.Error) *failure {
	verdict := verdictOf(err.Code())
	info := errorInfo(err)
	found := &failure{
		code: verdict.exit, next: verdict.next, sentence: err.Message(),
		reason: info.GetReason(), metadata: info.GetMetadata(),
	}
	if found.sentence == "" {
		found.sentence = strings.ReplaceAll(err.Code().String(), "_", " ")
	}
	if advice, known := adviceFor(found.reason); known {
		found.next = advice
	}
	return found
}

// errorInfo returns the machine-readable part of an error of the API, nil when it carries none.
func errorInfo(err *connect.Error) *amporav1.ErrorInfo {
	for _, detail := range err.Details() {
		if message, unpackErr := connectproto.UnmarshalErrorDetail(detail); unpackErr == nil {
			if info, ok := message.(*amporav1.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}

// print writes the failure for a person. The server's words are escaped like everybody else's.
func (f *failure) print(out io.Writer) {
	_, _ = fmt.Fprintf(out, "amporactl: %s\n", escapeLines(f.sentence))
	if f.reason != "" {
		_, _ = fmt.Fprintf(out, "  reason: %s%s\n", escape(f.reason), facts(f.metadata))
	}
	if f.next != "" {
		_, _ = fmt.Fprintf(out, "  next: %s\n", f.next)
	}
}

func facts(metadata map[string]string) string {
	if len(metadata) == 0 {
		return ""
	}
	var list []string
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		list = append(list, escape(key)+"="+escape(metadata[key]))
	}
	return " (" + strings.Join(list, ", ") + ")"
}
