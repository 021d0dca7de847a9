// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"maps"

	"gitlab.com/ampora/ampora/shared/identity"
)

// revocations are the serials of a tenant that are revoked, up to and with that number.
// They never change: what is added makes others, which share most of it.
type revocations struct {
	settled, recent map[identity.Serial]struct{}
	number          int64
}

// fewRecent is up to how many recent ones are copied at each change, as are those that are
// few beside the settled.
const fewRecent = 1000

func (r revocations) has(serial identity.Serial) bool {
	if _, is := r.recent[serial]; is {
		return true
	}
	_, is := r.settled[serial]
	return is
}

// and returns these and some more.
func (r revocations) and(serials []string, number int64) revocations {
	if len(serials) == 0 {
		return revocations{r.settled, r.recent, number}
	}
	next := revocations{settled: r.settled, recent: make(map[identity.Serial]struct{}, len(r.recent)+len(serials)), number: number}
	maps.Copy(next.recent, r.recent)
	for _, serial := range serials {
		next.recent[identity.Serial(serial)] = struct{}{}
	}
	if len(next.recent) > max(fewRecent, len(next.settled)/8) {
		settled := make(map[identity.Serial]struct{}, len(next.settled)+len(next.recent))
		maps.Copy(settled, next.settled)
		maps.Copy(settled, next.recent)
		next.settled, next.recent = settled, nil
	}
	return next
}
