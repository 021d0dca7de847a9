// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestAnAgentThatFlapsIsToldBounded(t *testing.T) {
	var telling verdict.Telling
	at := time.Date(2026, 5, 4, 9, 20, 0, 0, time.UTC)
	tell := func(n int) (events []fleet.Event) {
		for range n {
			events = append(events, telling.Tell(fleet.Event{Tenant: "acme", Agent: "a", At: at, Kind: fleet.EventHealthChanged})...)
		}
		return events
	}
	if told := tell(fleet.HistoryPerHour); len(told) != fleet.HistoryPerHour {
		t.Errorf("%d changes are told of as many as may be", len(told))
	}
	told := tell(37)
	if len(told) != 1 || told[0].Kind != fleet.EventHistoryBounded || told[0].Agent != "a" || told[0].Tenant != "acme" {
		t.Errorf("of the others is told %+v", told)
	}
	at = at.Add(-30 * time.Minute) // a late word of the hour before belongs to this one
	if told := tell(1); len(told) != 0 {
		t.Errorf("of a late one is told %+v", told)
	}
	at = at.Add(90 * time.Minute)
	told = tell(1)
	if len(told) != 2 || told[0].Kind != fleet.EventHistoryBounded || told[0].Attributes["untold"] != "38" ||
		told[0].Attributes["hour"] != "2026-05-04T09:00:00Z" || told[1].Kind != fleet.EventHealthChanged {
		t.Errorf("in the next hour is told %+v", told)
	}
	if told := tell(fleet.HistoryPerHour - 1); len(told) != fleet.HistoryPerHour-1 {
		t.Errorf("%d changes are told in the next hour", len(told))
	}
}
