// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/shared/run"
)

func TestLoopRestsOnlyWhenThereIsNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var at []time.Duration
		var told []error
		broken := errors.New("broken")
		turns := []struct {
			done int
			err  error
		}{{3, nil}, {0, nil}, {0, broken}, {1, nil}}
		err := run.Loop(ctx, run.Pace{Idle: time.Second, Failed: 5 * time.Second}, func(context.Context) (int, error) {
			n := len(at)
			at = append(at, time.Since(start))
			if n == len(turns) {
				cancel()
				return 0, errors.New("not told: the loop is over")
			}
			return turns[n].done, turns[n].err
		}, func(err error) { told = append(told, err) })
		if err != nil {
			t.Errorf("Loop returned %v", err)
		}
		if want := []time.Duration{0, 0, time.Second, 6 * time.Second, 6 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("turns at %v, want %v", at, want)
		}
		if !slices.Equal(told, []error{broken}) {
			t.Errorf("told %v, want only the failure", told)
		}
	})
}

func TestABellEndsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		bell := run.NewBell()
		start := time.Now()
		var at []time.Duration
		turn := func(context.Context) (int, error) {
			at = append(at, time.Since(start))
			switch len(at) {
			case 2: // at work; two rings are one
				bell.Ring()
				bell.Ring()
			case 4: // after a failure nobody hears it
				bell.Ring()
				return 0, errors.New("broken")
			case 6:
				cancel()
			}
			return 0, nil
		}
		time.AfterFunc(300*time.Millisecond, bell.Ring)
		_ = run.Loop(ctx, run.Pace{Idle: time.Second, Failed: 5 * time.Second, Bell: bell}, turn, func(error) {})
		const rung = 300 * time.Millisecond
		want := []time.Duration{0, rung, rung, rung + time.Second, rung + 6*time.Second, rung + 6*time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("turns at %v, want %v", at, want)
		}
	})
}

func TestNoBellRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		var none *run.Bell
		turns := 0
		_ = run.Loop(ctx, run.Pace{Idle: time.Minute}, func(context.Context) (int, error) {
			none.Ring()
			turns++
			return 0, nil
		}, func(error) {})
		if turns != 2 {
			t.Errorf("%d turns", turns)
		}
	})
}
