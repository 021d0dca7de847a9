// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect/v2"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/run"
)

const (
	// silence is how long a stream may say nothing: the server sends a keep-alive at least every 20 seconds.
	silence      = 70 * time.Second
	firstBackoff = 500 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// follower is one watch: where it stands in the stream of events, over all its connections.
type follower struct {
	program *program
	api     *api
	agent   string // "" is all
	wanted  func(*amporav1.Event) bool
	cursor  string
}

// errTold marks an error of telling, which no new connection cures.
var errTold = errors.New("writing the event")

// watch tells events until ctx ends, over as many connections as it takes.
func (p *program) watch(ctx context.Context, api *api, agent, cursor string, wanted func(*amporav1.Event) bool) error {
	f := &follower{program: p, api: api, agent: agent, wanted: wanted, cursor: cursor}
	return p.persist(ctx, f.follow)
}

// persist follows a stream until ctx ends, over as many connections as it takes; follow calls heard with each word of the
// server. An error before the first word ends it, and so does one that another attempt cannot cure.
func (p *program) persist(ctx context.Context, follow func(ctx context.Context, heard func()) error) error {
	everHeard, backoff := false, firstBackoff
	for {
		err := hearing(ctx, follow, func() { everHeard, backoff = true, firstBackoff })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop, which is how a watch ends
		}
		if errors.Is(err, errTold) || err != nil && (!everHeard || !curable(err)) {
			return err
		}
		pause := jittered(backoff)
		_, _ = fmt.Fprintf(p.streams.Err, "connection lost (%s); again in %s\n", reasonOf(err), pause.Round(100*time.Millisecond))
		if run.Sleep(ctx, pause) != nil {
			return nil //nolint:nilerr // likewise
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// hearing follows one connection, and hangs up on one that says nothing.
func hearing(ctx context.Context, follow func(ctx context.Context, heard func()) error, heard func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silence, func() { cancel(fail(ExitUnavailable, "", "nothing was heard for %s", silence)) })
	defer watchdog.Stop()
	err := follow(ctx, func() {
		watchdog.Reset(silence)
		heard()
	})
	if err != nil {
		return causeOf(ctx, err)
	}
	return nil
}

// follow tells the events of one connection. It returns nil when the server ended it in order.
func (f *follower) follow(ctx context.Context, heard func()) error {
	stream, err := f.api.events.WatchEvents(ctx, &amporav1.WatchEventsRequest{Cursor: f.cursor, AgentId: f.agent})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		answer, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		heard()
		if err := f.tell(answer.GetEvent()); err != nil {
			return fmt.Errorf("%w: %w", errTold, err)
		}
		f.cursor = answer.GetCursor()
	}
}

// tell passes over keep-alives, and over the event at the cursor, which may arrive again.
func (f *follower) tell(event *amporav1.Event) error {
	if event == nil || event.GetCursor() != "" && event.GetCursor() == f.cursor {
		return nil
	}
	if !f.wanted(event) {
		return nil
	}
	return f.program.tellEvent(event)
}

// causeOf prefers why we hung up to the error that hanging up made.
func causeOf(ctx context.Context, err error) error {
	if cause := (*failure)(nil); errors.As(context.Cause(ctx), &cause) {
		return cause
	}
	return err
}

// curable says whether another connection may end better.
func curable(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeNotFound,
		connect.CodeUnimplemented, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return false
	default:
		return true
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "the server ended it"
	}
	return escape(failureOf(err, false).sentence)
}

// jittered spreads clients that lost the same server over the second half of the pause.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2)
}
