// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func TestWatchGoesOnBehindTheLastEvent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.state.watches = []watchScript{
			{events: []*amporav1.Event{nil, happened(4, "agent.connected", agentOne)}, err: refuse(connect.CodeUnavailable, "UNAVAILABLE", "restarting", nil)},
			{err: refuse(connect.CodeUnavailable, "UNAVAILABLE", "restarting", nil)},
			{events: []*amporav1.Event{happened(4, "agent.connected", agentOne), happened(5, "config.published", ""), happened(6, "agent.\x1b[2J", agentTwo)}},
			{events: []*amporav1.Event{nil}, hang: true},
		}
		got := w.run("agents", "watch", "--timeout", "10m")
		check(t, "agents-watch", strings.Join(strings.Fields(got.out), " ")+"\n")
		if got.code != int(ExitOK) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		// It begins now and then goes on from the place that the server named last: nothing is missed while connecting.
		if want := []string{"", "c4", "c4", "c6"}; !slices.Equal(w.state.watched[:4], want) {
			t.Errorf("connections began at %q, want %q", w.state.watched, want)
		}
		if n := strings.Count(got.errOut, "connection lost"); n < 3 {
			t.Errorf("%d connections were told as lost: %s", n, got.errOut)
		}
	})
}

func TestEventsWatchAsJSONLines(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		events := []*amporav1.Event{happened(4, "agent.connected", agentOne), happened(5, "config.published", "")}
		w.state.watches = []watchScript{{events: events, hang: true}}
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, interrupt)
		got := w.runIn(ctx, "events", "watch", "--cursor", "c9", "-o", "json")
		check(t, "events-watch-json", got.golden())
		if w.state.watched[0] != "c9" {
			t.Errorf("began at %q", w.state.watched)
		}
	})
}

func TestWatchGivesUp(t *testing.T) {
	cases := []struct {
		name    string
		scripts []watchScript
		exit    ExitCode
	}{
		{"on an error before the first word", []watchScript{{err: refuse(connect.CodeUnavailable, "UNAVAILABLE", "no", nil)}}, ExitUnavailable},
		{
			"when the token stops being accepted",
			[]watchScript{{events: []*amporav1.Event{nil}}, {err: refuse(connect.CodeUnauthenticated, "TOKEN_INVALID", "no", nil)}},
			ExitDenied,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.state.watches = c.scripts
				if got := w.run("events", "watch"); got.code != int(c.exit) {
					t.Errorf("exit %d, want %d: %s", got.code, c.exit, got.errOut)
				}
			})
		})
	}
}

// A stream that says nothing, not even the keep-alive, is dead, whatever the network thinks.
func TestWatchHangsUpOnSilence(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.state.watches = []watchScript{
			{events: []*amporav1.Event{nil}, hang: true},
			{events: []*amporav1.Event{nil}, err: refuse(connect.CodePermissionDenied, "ROLE_TOO_LOW", "no", nil)},
		}
		begun := time.Now()
		got := w.run("events", "watch")
		if after := time.Since(begun); after < silence || after > silence+firstBackoff || len(w.state.watched) != 2 {
			t.Errorf("%d connections after %v: %s", len(w.state.watched), after, got.errOut)
		}
	})
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.state.watches = append(w.state.watches, watchScript{events: []*amporav1.Event{nil}})
		for range 40 {
			w.state.watches = append(w.state.watches, watchScript{err: refuse(connect.CodeUnavailable, "UNAVAILABLE", "no", nil)})
		}
		w.run("events", "watch", "--timeout", "5m")
		// 0.5 s doubling to 30 s, each between half and whole: 5 minutes hold 15 to 26 of them.
		if n := len(w.state.watched); n < 12 || n > 30 {
			t.Errorf("%d connections in 5 minutes", n)
		}
	})
}
