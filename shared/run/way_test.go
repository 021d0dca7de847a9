// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/shared/run"
)

func TestWay(t *testing.T) {
	wait := func(t *testing.T, w *run.Way) time.Duration {
		t.Helper()
		began := time.Now()
		waited, err := w.Wait(t.Context())
		took := time.Since(began)
		if err != nil || waited != (took > 0) {
			t.Errorf("waited %t, for %s: %v", waited, took, err)
		}
		return took
	}
	is := func(t *testing.T, got, want time.Duration, what string) {
		t.Helper()
		if got != want {
			t.Errorf("%s it waits for %s, want %s", what, got, want)
		}
	}
	// hold holds it for so many times a fifth of a second, with shorter rests between.
	hold := func(w *run.Way, times int) {
		release := w.Hold(100)
		go func() {
			for range times {
				time.Sleep(200 * time.Millisecond)
				release()
				time.Sleep(100 * time.Millisecond)
				release = w.Hold(100)
			}
			release()
		}()
	}
	synctest.Test(t, func(t *testing.T) {
		w := &run.Way{Crowd: 100, Moment: 300 * time.Millisecond, Longest: 2 * time.Second}
		is(t, wait(t, w), 0, "for nothing")
		defer w.Hold(99)()
		is(t, wait(t, w), 0, "for what is no crowd")
		w.Hold(100)()
		is(t, wait(t, w), 300*time.Millisecond, "for what is over at once")
		is(t, wait(t, w), 0, "after it")
		time.Sleep(time.Minute)
		hold(w, 3)
		is(t, wait(t, w), 1200*time.Millisecond, "for what goes on a little")
		time.Sleep(time.Minute)
		hold(w, 50)
		is(t, wait(t, w), 2*time.Second, "for what goes on and on")
		time.Sleep(time.Second)
		is(t, wait(t, w), 0, "for the same, once more")
		time.Sleep(20 * time.Second) // it rests
		hold(w, 0)
		is(t, wait(t, w), 300*time.Millisecond, "for what comes after a rest")

		w.Hold(100)()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is over: %v", err)
		}
		var none *run.Way
		none.Hold(100)()
		is(t, wait(t, none), 0, "for no way")
	})
}
