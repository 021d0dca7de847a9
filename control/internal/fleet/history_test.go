// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func TestEveryEventOfAnAgentIsOfOneKindOfHistory(t *testing.T) {
	seen := map[fleet.EventKind]fleet.HistoryKind{}
	for history, kinds := range fleet.HistoryEvents {
		for _, kind := range kinds {
			if other, twice := seen[kind]; twice {
				t.Errorf("%s is of %s and of %s", kind, history, other)
			}
			seen[kind] = history
			if fleet.HistoryOf(kind) != history {
				t.Errorf("%s is of %q", kind, fleet.HistoryOf(kind))
			}
		}
	}
	if of := fleet.HistoryOf(fleet.EventConfigPublished); of != "" {
		t.Errorf("a published configuration is of %q", of)
	}
}
