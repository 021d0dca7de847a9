// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Lists are read by keyset: one row more than asked for, from after the key of the last row of the page before.

// maxPage is the most rows of a page.
const maxPage = 1000

// size is how many rows to return for a page.
func size(p fleet.Page) int { return min(max(p.Size, 1), maxPage) }

// keyset cuts a list that was read one row too long back to size, and returns the key of its last row if there is more.
func keyset[T any](list []T, size int, key func(T) string) ([]T, string) {
	if len(list) <= size {
		return list, ""
	}
	list = list[:size]
	return list, key(list[size-1])
}

// place is the key of a list ordered by time, then id.
type place struct {
	at time.Time
	id string
}

// newest is the place before the first of a list that begins with the newest.
var newest = place{at: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), id: uuid.Max.String()}

func (p place) String() string { return strconv.FormatInt(p.at.UnixMicro(), 10) + "." + p.id }

// placeOf reads a key that place.String wrote; the empty key is newest. What is no key is the key of nothing.
func placeOf(key string) (place, error) {
	if key == "" {
		return newest, nil
	}
	at, id, _ := strings.Cut(key, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || uuid.Validate(id) != nil {
		return place{}, fmt.Errorf("page: %w", store.ErrNotFound)
	}
	return place{at: time.UnixMicro(micros).UTC(), id: id}, nil
}

// idOrNull is s as a parameter where an id or a name may stand: NULL, which equals nothing, if s is no id.
func idOrNull(s string) any {
	if len(s) != len(uuid.Nil.String()) || uuid.Validate(s) != nil {
		return nil
	}
	return strings.ToLower(s)
}
