// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"testing"
	"testing/synctest"
	"time"
)

// Pauses that last longer than they should are made up for.
func TestSpreadKeepsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const duration = 10 * time.Second
		began, n := time.Now(), 0
		for range spread(make([]int, 1000), duration) {
			if n++; n == 500 {
				if took := time.Since(began); took < duration/3 || took > duration*2/3 {
					t.Errorf("half of them took %v", took)
				}
			}
			time.Sleep(5 * time.Millisecond) // of the bubble's clock
		}
		if took := time.Since(began); n != 1000 || took > duration {
			t.Errorf("%d took %v", n, took)
		}
	})
}
