// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/run"
)

// rolloutPace is the least time between two answers of a stream: a rollout changes with every word of an agent.
const rolloutPace = 200 * time.Millisecond

// WatchRollout sends a rollout whenever something of it has changed, until it is over.
func (s *rolloutService) WatchRollout(ctx context.Context, r *amporav1.WatchRolloutRequest, out amporav1connect.RolloutServiceWatchRolloutServerStream) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	var sent *amporav1.WatchRolloutResponse
	var sentAt time.Time
	for ctx.Err() == nil && !s.stops() {
		// Taken before reading, or a change between reading and waiting would wait for the next look.
		changed := s.wake()
		is, waves, err := s.look(ctx, auth.By(ctx).Tenant, fleet.RolloutID(r.GetId()))
		if err != nil {
			return err
		}
		answer := &amporav1.WatchRolloutResponse{Rollout: rollout(is), Waves: each(waves, rolloutWave)}
		if !proto.Equal(answer, sent) || s.now().Sub(sentAt) >= keepAlive {
			if err := out.Send(answer); err != nil {
				return err
			}
			sent, sentAt = answer, s.now()
		}
		if is.State.Over() {
			return nil
		}
		s.wait(ctx, changed)
		_ = run.Sleep(ctx, rolloutPace) // a context that has ended ends the loop
	}
	return nil
}
