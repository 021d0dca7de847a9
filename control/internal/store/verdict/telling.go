// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Telling is how much of an agent's changes is told in an hour.
type Telling struct {
	Hour         time.Time // that began then
	Told, Untold int
}

// Tell is what is told of a change: the change, or nothing if there were too many in its hour. The last that is told says
// so, and the first of a later hour how many were not.
func (t *Telling) Tell(e fleet.Event) (told []fleet.Event) {
	if hour := e.At.UTC().Truncate(time.Hour); hour.After(t.Hour) {
		if t.Untold > 0 {
			told = append(told, bounded(e, t.Hour, fmt.Sprintf("%d more changes in the hour from %s were counted, not told", t.Untold, clock(t.Hour)), t.Untold))
		}
		*t = Telling{Hour: hour}
	}
	switch {
	case t.Told < fleet.HistoryPerHour:
		t.Told++
		return append(told, e)
	case t.Untold == 0:
		told = append(told, bounded(e, t.Hour, fmt.Sprintf("it changed %d times since %s: more changes of this hour are counted, not told",
			fleet.HistoryPerHour, clock(t.Hour)), 0))
	}
	t.Untold++
	return told
}

func bounded(e fleet.Event, hour time.Time, message string, untold int) fleet.Event {
	return fleet.Event{
		Tenant: e.Tenant, At: e.At, Kind: fleet.EventHistoryBounded, Agent: e.Agent, Message: message,
		Attributes: map[string]string{"hour": hour.Format(time.RFC3339), "untold": strconv.Itoa(untold)},
	}
}

func clock(t time.Time) string { return t.Format("15:04 UTC") }
