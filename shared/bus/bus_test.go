// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bus_test

import (
	"testing"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// The partition of an agent is stored state: a change of these numbers would read
// the messages of an agent in two orders at once.
func TestPartitionOfGolden(t *testing.T) {
	for agent, want := range map[identity.AgentID]int{
		"":                                     37,
		"01890a5d-ac96-774b-bcce-b302099a8057": 51,
		"0192f0c1-7e2a-7b43-9d1c-5a0f6e3b2c18": 57,
		"0192f0c1-7e2a-7b43-9d1c-5a0f6e3b2c19": 6,
	} {
		if got := bus.PartitionOf(agent); got != want {
			t.Errorf("PartitionOf(%q) = %d, want %d", agent, got, want)
		}
	}
}

func TestPartitionsAreEven(t *testing.T) {
	const agents = 64 * 1000
	var counts [bus.Partitions]int
	for range agents {
		counts[bus.PartitionOf(identity.NewAgentID())]++
	}
	for partition, count := range counts {
		if count < 800 || count > 1200 {
			t.Errorf("partition %d has %d of %d agents, want about 1000", partition, count, agents)
		}
	}
}
