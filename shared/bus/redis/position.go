// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"strconv"
	"strings"

	"gitlab.com/ampora/ampora/shared/bus"
)

// place is a position that was read: where a reader stands.
type place struct {
	number uint64 // of the entry it stands at
	nonce  uint64 // of that entry, which tells it from any other that had or will have its number
	// past is up to where all is read or reported lost: the number, or above it if entries
	// that followed are gone and nothing followed them yet.
	past uint64
	// history is that of the entry, or a later one if a loss behind the entry was reported
	// because of it.
	history uint64
}

// position is "number.nonce.history", or "number-past.nonce.history".
func (p place) position() bus.Position {
	text := make([]byte, 0, 80)
	text = strconv.AppendUint(text, p.number, 10)
	if p.past != p.number {
		text = append(text, '-')
		text = strconv.AppendUint(text, p.past, 10)
	}
	for _, part := range []uint64{p.nonce, p.history} {
		text = append(text, '.')
		text = strconv.AppendUint(text, part, 36)
	}
	return bus.Position(text)
}

// parsePosition reads what position wrote, and nothing else.
func parsePosition(position bus.Position) (p place, known bool) {
	numbers, rest, _ := strings.Cut(string(position), ".")
	nonce, history, _ := strings.Cut(rest, ".")
	number, past, both := strings.Cut(numbers, "-")
	if !both {
		past = number
	}
	for _, part := range []struct {
		value *uint64
		text  string
		base  int
	}{{&p.number, number, 10}, {&p.past, past, 10}, {&p.nonce, nonce, 36}, {&p.history, history, 36}} {
		value, err := strconv.ParseUint(part.text, part.base, 64)
		if err != nil {
			return place{}, false
		}
		*part.value = value
	}
	if p.past < p.number || p.position() != position {
		return place{}, false
	}
	return p, true
}
