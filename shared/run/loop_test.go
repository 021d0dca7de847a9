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
