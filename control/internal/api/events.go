// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

// streamBatch is how many events a stream reads at once.
const streamBatch = 256

// events is the EventService.
type events struct {
	*streams
	store store.Events
}

// ListEvents lists newest first.
func (s *events) ListEvents(ctx context.Context, r *amporav1.ListEventsRequest) (*amporav1.ListEventsResponse, error) {
	page, err := pageOf(listEvents, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.EventsBefore(ctx, auth.By(ctx).Tenant, fleet.EventFilter{Agent: fleet.AgentID(r.GetAgentId())}, page)
	return &amporav1.ListEventsResponse{Events: each(list, event), NextPageToken: place(listEvents, next)}, err
}

// WatchEvents sends events until the caller has had enough.
func (s *events) WatchEvents(ctx context.Context, r *amporav1.WatchEventsRequest, out amporav1connect.EventServiceWatchEventsServerStream) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	w := watch{events: s, tenant: auth.By(ctx).Tenant, agent: fleet.AgentID(r.GetAgentId()), out: out, lastSent: s.now()}
	if w.cursor, err = s.start(ctx, w.tenant, r.GetCursor()); err != nil {
		return err
	}
	// Whoever sees the first answer knows that no later event is missed, and where to go on if the connection breaks.
	if err := w.emit(nil); err != nil {
		return err
	}
	return w.run(ctx)
}

// start is where a stream begins: at the cursor, or at the newest event.
func (s *events) start(ctx context.Context, tenant fleet.TenantID, text string) (fleet.Cursor, error) {
	if text == "" {
		return s.store.LastCursor(ctx, tenant)
	}
	return cursorFrom(text)
}

// watch is one stream of events.
type watch struct {
	*events
	tenant   fleet.TenantID
	agent    fleet.AgentID // empty: all
	cursor   fleet.Cursor
	out      amporav1connect.EventServiceWatchEventsServerStream
	lastSent time.Time
}

// run sends until the context ends or the process is about to stop, which is no error: callers go on from their cursor.
func (w *watch) run(ctx context.Context) error {
	for ctx.Err() == nil && !w.stops() {
		// Taken before reading, or an event between reading and waiting would wait for the next look.
		changed := w.wake()
		more, err := w.send(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if !more {
			w.wait(ctx, changed)
		}
	}
	return nil
}

// send sends what has happened since the cursor, at most a batch; more says that there may be more.
func (w *watch) send(ctx context.Context) (more bool, err error) {
	list, err := w.store.EventsAfter(ctx, w.tenant, w.cursor, streamBatch)
	if err != nil {
		return false, err
	}
	for _, e := range list {
		w.cursor = e.Cursor
		if w.agent != "" && e.Agent != w.agent {
			continue
		}
		if err := w.emit(event(e)); err != nil {
			return false, err
		}
	}
	if w.now().Sub(w.lastSent) >= keepAlive {
		return false, w.emit(nil)
	}
	return len(list) == streamBatch, nil
}

func (w *watch) emit(e *amporav1.Event) error {
	w.lastSent = w.now()
	return w.out.Send(&amporav1.WatchEventsResponse{Event: e, Cursor: cursorText(w.cursor)})
}
