// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package keyset holds the places in lists. A page is read from after the key of the last row of the page before, one
// row more than was asked for, which tells whether there is another; so a page costs the same wherever it is, and what
// is added or removed meanwhile shifts nothing.
//
// A key is text that the caller carries from page to page and no secret. It is read back with suspicion: what is no key
// of the list is the place of nothing and answers store.ErrNotFound. The package is pure, and the same for every
// backend, so that a key reads alike in all of them.
package keyset

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// MaxSize is the most rows of a page.
const MaxSize = 1000

// errNoKey is what a key that is none answers.
var errNoKey = fmt.Errorf("page: %w", store.ErrNotFound)

// Limit is how many rows to read for a page: one more than it returns.
func Limit(p fleet.Page) int { return size(p) + 1 }

// Cut is the page that a list read with Limit holds, and the key of its last row if there is more, else "".
func Cut[T any](list []T, p fleet.Page, key func(T) string) (page []T, next string) {
	n := size(p)
	if len(list) <= n {
		return list, ""
	}
	return list[:n], key(list[n-1])
}

// size is how many rows a page returns: at least one.
func size(p fleet.Page) int { return min(max(p.Size, 1), MaxSize) }

// Place is a place in a list ordered by time, then id, the newest first. Times are kept in microseconds.
type Place struct {
	At time.Time
	ID string // a UUID
}

// newest is the place before the first of a list that begins with the newest.
var newest = Place{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), ID: uuid.Max.String()}

// String is the key of the place.
func (p Place) String() string { return strconv.FormatInt(p.At.UnixMicro(), 10) + "." + p.ID }

// PlaceOf reads a key that Place.String wrote; the empty key is before the newest. store.ErrNotFound.
func PlaceOf(key string) (Place, error) {
	if key == "" {
		return newest, nil
	}
	at, id, _ := strings.Cut(key, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || uuid.Validate(id) != nil {
		return Place{}, errNoKey
	}
	return Place{At: time.UnixMicro(micros).UTC(), ID: id}, nil
}

// NamePlace is a place in a list ordered by name, then id.
type NamePlace struct {
	Name string
	ID   string // a UUID
}

// String is the key of the place: the id, whose length is fixed, and the name, which may hold anything.
func (p NamePlace) String() string { return p.ID + p.Name }

// NamePlaceOf reads a key that NamePlace.String wrote; the empty key is before the first name. store.ErrNotFound.
func NamePlaceOf(key string) (NamePlace, error) {
	if key == "" {
		return NamePlace{ID: uuid.Nil.String()}, nil
	}
	n := min(len(key), len(uuid.Nil.String()))
	if n < len(uuid.Nil.String()) || uuid.Validate(key[:n]) != nil {
		return NamePlace{}, errNoKey
	}
	return NamePlace{Name: key[n:], ID: key[:n]}, nil
}

// TargetPlace is a place in a list ordered by what a row is about: a kind, then an id.
type TargetPlace struct {
	Kind string // without a slash
	ID   string // a UUID
}

// String is the key of the place.
func (p TargetPlace) String() string { return p.Kind + "/" + p.ID }

// TargetPlaceOf reads a key that TargetPlace.String wrote; the empty key is before the first kind. store.ErrNotFound.
func TargetPlaceOf(key string) (TargetPlace, error) {
	if key == "" {
		return TargetPlace{ID: uuid.Nil.String()}, nil
	}
	kind, id, _ := strings.Cut(key, "/")
	if uuid.Validate(id) != nil {
		return TargetPlace{}, errNoKey
	}
	return TargetPlace{Kind: kind, ID: id}, nil
}

// Number is the key of a row in a list of numbers, the highest first.
func Number(n int) string { return strconv.Itoa(n) }

// NumberOf reads a key that Number wrote; the empty key is above every number of 32 bits. store.ErrNotFound.
func NumberOf(key string) (int, error) {
	if key == "" {
		return math.MaxInt32, nil
	}
	n, err := strconv.Atoi(key)
	if err != nil {
		return 0, errNoKey
	}
	return n, nil
}

// NumberPlace is a place in a list ordered by a number that is not negative, then id, the lowest first.
type NumberPlace struct {
	Number int64
	ID     string // a UUID
}

// String is the key of the place.
func (p NumberPlace) String() string { return strconv.FormatInt(p.Number, 10) + "." + p.ID }

// NumberPlaceOf reads a key that NumberPlace.String wrote; the empty key is before the lowest. store.ErrNotFound.
func NumberPlaceOf(key string) (NumberPlace, error) {
	if key == "" {
		return NumberPlace{Number: -1, ID: uuid.Nil.String()}, nil
	}
	number, id, _ := strings.Cut(key, ".")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || uuid.Validate(id) != nil {
		return NumberPlace{}, errNoKey
	}
	return NumberPlace{Number: n, ID: id}, nil
}
