// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package keyset

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// AuditPlace is a place in the audit log, the newest first: a time and, of each of the two tables the log is read from,
// the id that was reached at that time. Refusals come before events of their time.
type AuditPlace struct {
	At             time.Time
	Event, Refusal int64
}

// AuditKey is the key of a record.
func AuditKey(r fleet.AuditRecord) string {
	table := "e"
	if r.RefusalReason != "" {
		table = "r"
	}
	return fmt.Sprintf("%d.%s%d", r.At.UnixMicro(), table, r.ID)
}

// AuditPlaceOf reads a key that AuditKey wrote; the empty key is before the newest. store.ErrNotFound.
func AuditPlaceOf(key string) (AuditPlace, error) {
	if key == "" {
		return AuditPlace{At: newest.At}, nil
	}
	at, rest, _ := strings.Cut(key, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(rest) < 2 {
		return AuditPlace{}, errNoKey
	}
	id, err := strconv.ParseInt(rest[1:], 10, 64)
	if err != nil {
		return AuditPlace{}, errNoKey
	}
	if rest[0] == 'r' {
		return AuditPlace{time.UnixMicro(micros).UTC(), math.MaxInt64, id}, nil
	}
	return AuditPlace{time.UnixMicro(micros).UTC(), id, 0}, nil
}
