// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestAnswers(t *testing.T) {
	const private = "pq: password=hunter2"
	for name, c := range map[string]struct {
		err    error
		code   connect.Code
		reason string
	}{
		"not found":         {fmt.Errorf("group x: %w", store.ErrNotFound), connect.CodeNotFound, ReasonNotFound},
		"exists":            {store.ErrExists, connect.CodeAlreadyExists, ReasonAlreadyExists},
		"contended":         {store.ErrContended, connect.CodeUnavailable, ReasonUnavailable},
		"conflict":          {store.ErrConflict, connect.CodeAborted, ReasonChangedMeanwhile},
		"state":             {store.ErrState, connect.CodeFailedPrecondition, ReasonWrongState},
		"kind of a group":   {fmt.Errorf("add: %w", store.ErrDynamic), connect.CodeFailedPrecondition, ReasonGroupKind},
		"database away":     {fmt.Errorf("%w: %s", store.ErrUnavailable, private), connect.CodeUnavailable, ReasonUnavailable},
		"lease":             {store.ErrLeaseLost, connect.CodeFailedPrecondition, ReasonLeaseLost},
		"unforeseen":        {errors.New(private), connect.CodeInternal, fault.ReasonInternal},
		"hung up":           {fmt.Errorf("read: %w", context.Canceled), connect.CodeCanceled, fault.ReasonCanceled},
		"too slow":          {context.DeadlineExceeded, connect.CodeDeadlineExceeded, fault.ReasonDeadlineExceeded},
		"a fault":           {fault.New(fault.ResourceExhausted, "FULL", "full").WithCause(errors.New(private)), connect.CodeResourceExhausted, "FULL"},
		"a fault over all":  {fault.New(fault.Internal, "LOST", "lost").WithCause(store.ErrNotFound), connect.CodeInternal, "LOST"},
		"requires postgres": {fault.New(fault.FailedPrecondition, "REQUIRES_POSTGRES", "x"), connect.CodeFailedPrecondition, "REQUIRES_POSTGRES"},
		"undecodable":       {connect.NewError(connect.CodeInvalidArgument, "unmarshal message"), connect.CodeInvalidArgument, ReasonMalformed},
		"another's verdict": {connect.NewError(connect.CodeNotFound, private).WithRemote(), connect.CodeInternal, fault.ReasonInternal},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			g := &gate{Config: Config{Log: slog.New(slog.NewJSONHandler(&log, nil))}}
			by := fleet.By{Principal: fleet.Principal{ID: "token-1"}}
			err := g.answer(t.Context(), connect.Spec{Procedure: "/ampora.v1.X/Y"}, by, c.err)
			if connect.CodeOf(err) != c.code {
				t.Errorf("code %v, want %v", connect.CodeOf(err), c.code)
			}
			if info := infoOf(t, err); info.GetReason() != c.reason {
				t.Errorf("reason %q, want %q", info.GetReason(), c.reason)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the caller reads %q", err)
			}
			for _, part := range []string{"/ampora.v1.X/Y", c.reason, "token-1", c.code.String()} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("the log lacks %q: %s", part, &log)
				}
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d lines of log", lines)
			}
		})
	}
	if err := (&gate{}).answer(t.Context(), connect.Spec{}, fleet.By{}, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

func TestEveryKindHasACode(t *testing.T) {
	for kind := fault.Internal; kind <= fault.DeadlineExceeded; kind++ {
		if _, known := codes[kind]; !known {
			t.Errorf("%v has no code", kind)
		}
	}
}

func infoOf(t *testing.T, err error) *amporav1.ErrorInfo {
	t.Helper()
	var sent *connect.Error
	if !errors.As(err, &sent) || len(sent.Details()) != 1 {
		t.Fatalf("%v has not one detail", err)
	}
	message, err := connectproto.UnmarshalErrorDetail(sent.Details()[0])
	if err != nil {
		t.Fatal(err)
	}
	return message.(*amporav1.ErrorInfo)
}
