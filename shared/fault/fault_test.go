// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/shared/fault"
)

func TestFrom(t *testing.T) {
	known := fault.New(fault.Conflict, "VERSION_CHANGED", "somebody else changed it")
	var none *fault.Error
	for name, c := range map[string]struct {
		err    error
		kind   fault.Kind
		reason string
	}{
		"known":               {known, fault.Conflict, "VERSION_CHANGED"},
		"wrapped":             {fmt.Errorf("save: %w", known), fault.Conflict, "VERSION_CHANGED"},
		"joined":              {errors.Join(io.EOF, known), fault.Conflict, "VERSION_CHANGED"},
		"known over canceled": {known.WithCause(context.Canceled), fault.Conflict, "VERSION_CHANGED"},
		"outermost":           {fault.New(fault.NotFound, "GONE", "gone").WithCause(known), fault.NotFound, "GONE"},
		"canceled":            {fmt.Errorf("query: %w", context.Canceled), fault.Canceled, "CANCELED"},
		"deadline":            {fmt.Errorf("query: %w", context.DeadlineExceeded), fault.DeadlineExceeded, "DEADLINE_EXCEEDED"},
		"unknown":             {io.ErrUnexpectedEOF, fault.Internal, "INTERNAL"},
		"typed nil":           {none, fault.Internal, "INTERNAL"},
	} {
		got := fault.From(c.err)
		if got.Kind != c.kind || got.Reason != c.reason {
			t.Errorf("%s: From = %v %s, want %v %s", name, got.Kind, got.Reason, c.kind, c.reason)
		}
		if !fault.Is(c.err, c.reason) || fault.Is(c.err, "ANOTHER") {
			t.Errorf("%s: Is does not agree with From", name)
		}
	}
	if fault.From(nil) != nil || fault.Is(nil, "INTERNAL") {
		t.Error("no error became one")
	}
}

func TestTheCauseStaysPrivate(t *testing.T) {
	cause := errors.New("password=hunter2")
	for _, err := range []error{cause, fault.New(fault.Unavailable, "DOWN", "the store is away").WithCause(cause)} {
		answer := fault.From(err)
		if strings.Contains(answer.Message, "hunter2") || len(answer.Metadata()) != 0 {
			t.Errorf("the public half tells the cause: %q", answer.Message)
		}
		if !errors.Is(answer, cause) || !strings.Contains(answer.Error(), "hunter2") {
			t.Errorf("the cause is lost to logs: %v", answer)
		}
	}
	if message := fault.From(cause).Message; message != "internal error" {
		t.Errorf("an unknown error says %q", message)
	}
}

func TestErrorsAreImmutable(t *testing.T) {
	sentinel := fault.New(fault.NotFound, "AGENT_UNKNOWN", "there is no agent %q", "x")
	one := sentinel.With("agent", "1").WithCause(io.EOF)
	two := one.With("agent", "2").With("tenant", "acme")
	one.Metadata()["agent"] = "3"
	if len(sentinel.Metadata()) != 0 || sentinel.Unwrap() != nil {
		t.Error("refining a sentinel changed it")
	}
	if got := one.Metadata(); !maps.Equal(got, map[string]string{"agent": "1"}) {
		t.Errorf("metadata = %v", got)
	}
	if got := two.Metadata(); !maps.Equal(got, map[string]string{"agent": "2", "tenant": "acme"}) || !errors.Is(two, io.EOF) {
		t.Errorf("metadata = %v, cause = %v", got, two.Unwrap())
	}
	if !errors.Is(two, sentinel) || errors.Is(two, fault.New(fault.NotFound, "OTHER", "")) || errors.Is(two, fault.New(fault.Invalid, "AGENT_UNKNOWN", "")) {
		t.Error("errors.Is does not go by kind and reason")
	}
	if got, want := two.Error(), `AGENT_UNKNOWN: there is no agent "x": EOF`; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestKindString(t *testing.T) {
	seen := map[string]bool{}
	for kind := fault.Internal; kind <= fault.DeadlineExceeded; kind++ {
		if name := kind.String(); name == "" || seen[name] {
			t.Errorf("kind %d is called %q", kind, name)
		}
		seen[kind.String()] = true
	}
	if fault.Kind(200).String() != "internal" || *new(fault.Kind) != fault.Internal {
		t.Error("no kind is not internal")
	}
}
