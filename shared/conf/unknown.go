// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// serviceLink matches what Kubernetes puts into every container for a Service
// whose name begins with "ampora" (the service links of a Pod, in the form of
// Docker's container links). Nobody wrote these by hand, so none is misspelt.
var serviceLink = regexp.MustCompile(`^AMPORA_(.*_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// slip is the most edits between a variable and one of the program's that make it a misspelling for sure.
const slip = 2

// refuseUnknown reports each of our variables that the program does not have: as a problem if it is a slip away from
// one that it has, which would otherwise be a silent default; as a note if not, because the programs of an installation
// may share one environment.
func (l *loader) refuseUnknown(variables []variable) {
	var known []string
	for _, v := range variables {
		known = append(known, v.names()...)
	}
	for _, name := range slices.Sorted(maps.Keys(l.values)) {
		if slices.Contains(known, name) || serviceLink.MatchString(name) {
			continue
		}
		nearest, near := closest(name, known)
		switch {
		case slices.Contains(known, strings.TrimSuffix(name, fileSuffix)):
			l.problem("%s is not a variable of this program: only secrets are read from files", name)
		case near && distance(name, nearest) <= slip:
			l.problem("%s is not a variable of this program; did you mean %s?", name, nearest)
		case near:
			l.note("%s is not a variable of this program and is ignored; did you mean %s?", name, nearest)
		default:
			l.note("%s is not a variable of this program and is ignored", name)
		}
	}
}

// closest returns the known name with the fewest edits from name, if they are few
// enough to be a slip: a quarter of what follows the prefix, and two at least.
func closest(name string, known []string) (nearest string, near bool) {
	best := max(2, (len(name)-len(Prefix))/4) + 1
	for _, candidate := range known {
		if d := distance(name, candidate); d < best {
			best, nearest, near = d, candidate, true
		}
	}
	return nearest, near
}

// distance is the number of inserted, removed or replaced bytes between a and b
// (Levenshtein), by the usual two rows of the table.
func distance(a, b string) int {
	previous, current := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		current[0] = i + 1
		for j := range len(b) {
			replaced := previous[j]
			if a[i] != b[j] {
				replaced++
			}
			current[j+1] = min(replaced, previous[j+1]+1, current[j]+1)
		}
		previous, current = current, previous
	}
	return previous[len(b)]
}
