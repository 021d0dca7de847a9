// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// reads reports whether this replica is the one of those that live which should read the partition. All of them come to
// the same answer, and if one comes or goes, no partition changes hands between two others (rendezvous hashing).
func (in *Inbox) reads(partition int) bool {
	self := in.d.Replica
	return readerOf(partition, self.Living()) == self.ID()
}

// readerOf is the replica that the partition falls to; "" if there is none.
func readerOf(partition int, living []string) (chosen string) {
	var highest uint64
	for _, id := range living {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s", partition, id))
		if rank := binary.BigEndian.Uint64(sum[:]); chosen == "" || rank > highest {
			chosen, highest = id, rank
		}
	}
	return chosen
}
