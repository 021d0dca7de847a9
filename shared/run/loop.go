// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"time"
)

// Pace says how long a [Loop] rests.
type Pace struct {
	// Idle is the rest after a turn that found nothing to do.
	Idle time.Duration
	// Failed is the rest after a turn that failed.
	Failed time.Duration
	// Bell ends an idle rest early; nil: nothing does. After a failure nobody hears it.
	Bell *Bell
}

// Loop calls turn over and over until ctx is done, and then returns nil: at once again while turn finds something to
// do, after a rest when it does not. A turn that fails is told to failed and tried again; a turn that fails because
// ctx is done is not told.
func Loop(ctx context.Context, pace Pace, turn func(context.Context) (done int, err error), failed func(error)) error {
	for ctx.Err() == nil {
		done, err := turn(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failed(err)
			_ = Sleep(ctx, pace.Failed)
		case done == 0:
			pace.rest(ctx)
		}
	}
	return nil
}

// rest waits until it is over, the bell rings or ctx is done.
func (p Pace) rest(ctx context.Context) {
	timer := time.NewTimer(p.Idle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-p.Bell.heard():
	case <-timer.C:
	}
}

// Sleep waits for d, or until ctx is done if that comes first: then it returns the error of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
