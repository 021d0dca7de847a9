// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"testing"

	"gitlab.com/ampora/ampora/shared/bus"
)

func TestPartitionsAreShared(t *testing.T) {
	three, two := []string{"a", "b", "c"}, []string{"a", "c"}
	shares := map[string]int{}
	for partition := range bus.Partitions {
		before, after := readerOf(partition, three), readerOf(partition, two)
		shares[before]++
		if before != "b" && after != before {
			t.Errorf("partition %d went from %s to %s, though only b left", partition, before, after)
		}
	}
	for _, id := range three {
		if shares[id] < bus.Partitions/8 {
			t.Errorf("%s reads %d of %d partitions", id, shares[id], bus.Partitions)
		}
	}
	if got := readerOf(1, nil); got != "" {
		t.Errorf("without replicas it falls to %q", got)
	}
}
