// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package column says how values of the vocabulary stand in columns, as far as both backends keep them alike: which are
// NULL, and what becomes of numbers that no column has room for. It is pure and knows no driver; what a driver must be
// told, times and hashes say, is the backend's own.
package column

import (
	"strings"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Bits keeps a boot id or counter, which uses all 64 bits, in a column of 64 bits with a sign. Unbits reads it back.
// The order of columns is not that of numbers: they are compared for being the same.
func Bits(u uint64) int64 { return int64(u) } //nolint:gosec // the same bits, read back by Unbits

// Unbits is the number that Bits kept.
func Unbits(i int64) uint64 { return uint64(i) } //nolint:gosec // the same bits, written by Bits

// CapabilityBits is c as a parameter: an int64 as of Bits, NULL if nobody said them.
func CapabilityBits(c *fleet.Capabilities) any {
	if c == nil {
		return nil
	}
	return Bits(uint64(*c))
}

// OrNull is s as a parameter: a string, NULL if empty.
func OrNull[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}

// HashOrNull is a hash as a parameter: NULL if there is none.
func HashOrNull[H ~[32]byte](h H) any {
	if h == (H{}) {
		return nil
	}
	return h[:]
}

// PrefixEnd is what every text that begins with the prefix is less than, by its bytes: the last character of Unicode
// ends the range.
func PrefixEnd(prefix string) string { return prefix + "\U0010FFFF" }

// IDOrNull is s as a parameter where an id or a name may stand: a UUID in lower case; NULL, which equals nothing, if s is
// no UUID of the usual form.
func IDOrNull(s string) any {
	if len(s) != len(uuid.Nil.String()) || uuid.Validate(s) != nil {
		return nil
	}
	return strings.ToLower(s)
}

// NotNull is list without the difference between nil and empty, which columns that are never NULL do not know.
func NotNull[E any](list []E) []E {
	if list == nil {
		return []E{}
	}
	return list
}

// NotNullMap is m without the difference between nil and empty.
func NotNullMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// Kinds of targets.
const (
	TargetAgent   = "agent"
	TargetGroup   = "group"
	TargetDefault = "default"
)

// Target is a target as its two columns: its kind, and the id.
func Target(t fleet.Target) (kind, id string) {
	switch {
	case t.Default:
		return TargetDefault, string(t.Agent)
	case t.Agent != "":
		return TargetAgent, string(t.Agent)
	default:
		return TargetGroup, string(t.Group)
	}
}

// TargetOf is the target that Target made two columns of.
func TargetOf(kind, id string) fleet.Target {
	if kind == TargetGroup {
		return fleet.Target{Group: fleet.GroupID(id)}
	}
	return fleet.Target{Agent: fleet.AgentID(id), Default: kind == TargetDefault}
}
