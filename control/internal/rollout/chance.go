// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import "hash/fnv"

// chance is a number that looks drawn, and is the same each time for the same seed and name: a plan can be repeated, and
// who comes or goes does not shuffle the others.
func chance(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return mixed(h.Sum64() ^ mixed(seed+1))
}

// mixed spreads each bit over all (the finaliser of SplitMix64).
func mixed(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// unit makes it a number from 0 up to but not including 1.
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }
