// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sameValue reports whether a Collector may show the value that was written as assigned as effective: in another case
// (basic, Basic), as another spelling of a duration (60s, 1m0s), a number (5, 5.0) or a size (4MiB, 4194304), and
// without the $ that escapes another.
func sameValue(assigned, effective string) bool {
	if strings.EqualFold(assigned, effective) || strings.EqualFold(strings.ReplaceAll(assigned, "$$", "$"), effective) {
		return true
	}
	for _, read := range []func(string) (float64, bool){duration, number, size} {
		a, ok := read(assigned)
		e, also := read(effective)
		if ok && also && a == e {
			return true
		}
	}
	return false
}

func duration(text string) (float64, bool) {
	d, err := time.ParseDuration(text)
	return float64(d), err == nil
}

func number(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

var sizeForm = regexp.MustCompile(`(?i)^([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b?$`)

// size reads a number of bytes: in thousands, or with an i in units of 1024.
func size(text string) (float64, bool) {
	parts := sizeForm.FindStringSubmatch(text)
	if parts == nil {
		return 0, false
	}
	n, _ := number(parts[1])
	unit := 1000.0
	if parts[3] != "" {
		unit = 1024
	}
	if parts[2] != "" {
		for range strings.Index("kmgt", strings.ToLower(parts[2])) + 1 {
			n *= unit
		}
	}
	return n, true
}
