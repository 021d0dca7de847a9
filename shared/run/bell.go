// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run

// Bell ends the rest of a [Loop] that found nothing to do: whoever makes work for it in this process rings, and it looks
// at once. It is a hint and no more. What a loop does it finds by looking, so a ring that is lost with its process, or was
// meant for another one, costs a rest and nothing else.
type Bell struct{ rung chan struct{} }

// NewBell returns a bell that nobody rang.
func NewBell() *Bell { return &Bell{rung: make(chan struct{}, 1)} }

// Ring rings and never waits. What is rung while the loop is at work is heard when it wants to rest; many rings are heard
// as one. To ring no bell (nil) does nothing.
func (b *Bell) Ring() {
	if b == nil {
		return
	}
	select {
	case b.rung <- struct{}{}:
	default: // it is ringing
	}
}

// heard delivers a ring; of no bell it never does.
func (b *Bell) heard() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.rung
}
