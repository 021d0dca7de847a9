// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestAPoolHandsOutABurstAndThenItsRate(t *testing.T) {
	pool, now, drawn := fleet.TokenPool{PerHour: 60, Burst: 3}, noon, 0
	draw := func() fleet.DrawVerdict {
		v := verdict.OfDraw(pool, 0, now)
		if v.Reason == "" {
			pool.DrawnUntil = v.DrawnUntil
			drawn++
		}
		return v
	}
	for range 3 {
		draw()
	}
	v := draw()
	if drawn != 3 || v.Reason != fleet.RefusedPoolRateLimited || v.RetryAfter != time.Minute {
		t.Fatalf("%d drawn, then %+v", drawn, v)
	}
	now = now.Add(v.RetryAfter - time.Second)
	if v := draw(); v.Reason == "" || v.RetryAfter != time.Second {
		t.Errorf("too early: %+v", v)
	}
	now = now.Add(time.Second)
	if v := draw(); v.Reason != "" {
		t.Errorf("in time: %+v", v)
	}
	now = now.Add(24 * time.Hour) // what is not drawn is not saved beyond the burst
	for range 5 {
		draw()
	}
	if drawn != 7 {
		t.Errorf("%d drawn", drawn)
	}
}

func TestWhatElseStopsAPool(t *testing.T) {
	good := fleet.TokenPool{PerHour: 1, Burst: 1, LiveLimit: 2}
	disabled := good
	disabled.DisabledAt = noon
	rate := 60
	quicker := good
	quicker.DrawnUntil = noon.Add(time.Hour) // one token, at one an hour
	quicker = fleet.PoolChange{PerHour: &rate}.Of(quicker, noon)
	for name, c := range map[string]struct {
		pool   fleet.TokenPool
		live   int
		reason string
		retry  time.Duration
	}{
		"nothing":               {good, 1, "", 0},
		"as many live as may":   {good, 2, fleet.RefusedPoolExhausted, 0},
		"disabled":              {disabled, 0, fleet.RefusedPoolDisabled, 0},
		"a debt of other times": {quicker, 0, fleet.RefusedPoolRateLimited, time.Minute},
	} {
		if v := verdict.OfDraw(c.pool, c.live, noon); v.Reason != c.reason || v.RetryAfter != c.retry {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestAChangeOwesWhatWasDrawn: neither does another rate forgive tokens, nor does it make more of them.
func TestAChangeOwesWhatWasDrawn(t *testing.T) {
	pool := fleet.TokenPool{PerHour: 1, Burst: 3, DrawnUntil: noon.Add(2 * time.Hour)} // two are owed
	for _, c := range []struct {
		perHour, burst int
		want           time.Duration
	}{
		{60, 3, 2 * time.Minute},
		{60, 1, time.Minute},
		{1, 3, 2 * time.Hour},
		{3600, 100, 2 * time.Second},
	} {
		if got := (fleet.PoolChange{PerHour: &c.perHour, Burst: &c.burst}).Of(pool, noon).DrawnUntil; !got.Equal(noon.Add(c.want)) {
			t.Errorf("at %d an hour and a burst of %d: drawn until %s", c.perHour, c.burst, got)
		}
	}
	late := noon.Add(3 * time.Hour)
	if got := (fleet.PoolChange{}).Of(pool, late); !got.DrawnUntil.Equal(pool.DrawnUntil) {
		t.Errorf("what is made up for is owed until %s", got.DrawnUntil)
	}
}

// TestNoSpanOfTimeHasMoreThanItsShare: whoever draws whenever they like gets, in any span, no more than the burst and what
// the rate gives in it; and who waits as long as they are told is not refused again.
func TestNoSpanOfTimeHasMoreThanItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := fleet.TokenPool{
			PerHour: rapid.IntRange(1, 10_000).Draw(t, "per hour"), Burst: rapid.IntRange(1, 50).Draw(t, "burst"),
		}
		now := noon
		var drawn []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "tries") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "pause")))
			v := verdict.OfDraw(pool, 0, now)
			if v.Reason != "" {
				if again := verdict.OfDraw(pool, 0, now.Add(v.RetryAfter)); v.RetryAfter <= 0 || again.Reason != "" {
					t.Fatalf("told to wait %s, and then %+v", v.RetryAfter, again)
				}
				continue
			}
			pool.DrawnUntil = v.DrawnUntil
			drawn = append(drawn, now)
		}
		for i, from := range drawn {
			for n, to := range drawn[i:] {
				if most := float64(pool.Burst) + to.Sub(from).Hours()*float64(pool.PerHour); float64(n+1) > most+1e-6 {
					t.Fatalf("%d within %s, at %d an hour and a burst of %d", n+1, to.Sub(from), pool.PerHour, pool.Burst)
				}
			}
		}
	})
}
