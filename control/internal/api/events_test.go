// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

type eventStream = amporav1connect.EventServiceWatchEventsClientStream

// watch opens a stream. It returns when the stream is open, which its first answer says by naming where it begins.
func (w *world) watch(c clients, r *amporav1.WatchEventsRequest) eventStream {
	w.t.Helper()
	stream := must(c.events.WatchEvents(w.t.Context(), r))(w.t)
	w.t.Cleanup(func() { _ = stream.Close() })
	if first := must(stream.Receive())(w.t); first.GetEvent() != nil || first.GetCursor() == "" {
		w.t.Fatalf("the first answer is %v", first)
	}
	return stream
}

// happens makes an event: a configuration is published.
func (w *world) happens(c clients, name string) {
	w.t.Helper()
	w.publish(c, name)
	w.wake()
}

// next returns the next event, past keep-alives.
func next(t *testing.T, s eventStream) *amporav1.Event {
	t.Helper()
	for {
		answer, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if answer.GetEvent() != nil {
			return answer.GetEvent()
		}
	}
}

func TestWatchGoesOnFromACursor(t *testing.T) {
	w := newWorld(t)
	operator, viewer := w.as(fleet.RoleOperator), w.as(fleet.RoleViewer)
	w.happens(operator, "before")
	first := w.watch(viewer, &amporav1.WatchEventsRequest{})
	w.happens(operator, "a")
	seen := next(t, first)
	if seen.GetKind() != "config.published" || seen.GetCursor() == "" {
		t.Fatalf("saw %v", seen)
	}
	if err := first.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Log(err)
	}
	for i := range 5 {
		w.happens(operator, fmt.Sprintf("while-away-%d", i))
	}
	second := w.watch(viewer, &amporav1.WatchEventsRequest{Cursor: seen.GetCursor()})
	var got []string
	for range 5 {
		got = append(got, next(t, second).GetMessage())
	}
	history := must(viewer.events.ListEvents(t.Context(), &amporav1.ListEventsRequest{PageSize: 5}))(t).GetEvents()
	for i, message := range got {
		if history[len(history)-1-i].GetMessage() != message {
			t.Fatalf("the stream has %v, history %v", got, history)
		}
	}
	w.happens(operator, "live-again")
	next(t, second)
}

func TestWatchNarrowsToAnAgent(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	begin := must(operator.events.ListEvents(t.Context(), &amporav1.ListEventsRequest{}))(t).GetEvents()
	if len(begin) != 0 {
		t.Fatalf("a fresh installation has %v", begin)
	}
	stream := w.watch(operator, &amporav1.WatchEventsRequest{AgentId: string(newID[fleet.AgentID]())})
	w.happens(operator, "a")
	w.pass(20 * time.Second)
	answer, err := stream.Receive()
	if err != nil || answer.GetEvent() != nil {
		t.Fatalf("got %v, %v instead of a keep-alive", answer, err)
	}
	// Its cursor is behind what the filter left out.
	again := w.watch(operator, &amporav1.WatchEventsRequest{Cursor: answer.GetCursor()})
	w.happens(operator, "b")
	if seen := next(t, again); seen.GetAttributes()["version"] != "1" || !strings.Contains(seen.GetMessage(), "published") {
		t.Errorf("after the keep-alive comes %v", seen)
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	w := newWorld(t)
	viewer := w.as(fleet.RoleViewer)
	for _, cursor := range []string{"1", "AAAA", "no cursor"} {
		stream, err := viewer.events.WatchEvents(t.Context(), &amporav1.WatchEventsRequest{Cursor: cursor})
		if err == nil {
			_, err = stream.Receive()
		}
		refused(t, err, connect.CodeInvalidArgument, api.ReasonCursor)
	}
}

func TestWatchEndsWithItsToken(t *testing.T) {
	w := newWorld(t)
	secret, id := w.token(fleet.APIToken{Role: fleet.RoleViewer})
	stream := w.watch(w.with(secret), &amporav1.WatchEventsRequest{})
	if _, err := w.store.RevokeAPIToken(t.Context(), w.by(), id); err != nil {
		t.Fatal(err)
	}
	w.pass(20 * time.Second)
	_, err := stream.Receive()
	if errors.Is(err, io.EOF) {
		t.Fatal("the stream ended without saying why")
	}
	refused(t, err, connect.CodeUnauthenticated, auth.ReasonTokenInvalid)
}
