// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package keyset_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
)

const id = "0198c7a2-5b1e-7c3d-8e4f-a1b2c3d4e5f6"

func TestPages(t *testing.T) {
	for _, c := range []struct {
		asked, there int
		limit, got   int
		next         string
	}{
		{asked: 3, there: 0, limit: 4, got: 0},
		{asked: 3, there: 3, limit: 4, got: 3},
		{asked: 3, there: 4, limit: 4, got: 3, next: "2"},
		{asked: 0, there: 2, limit: 2, got: 1, next: "0"},
		{asked: -1, there: 1, limit: 2, got: 1},
		{asked: keyset.MaxSize + 1, there: keyset.MaxSize + 1, limit: keyset.MaxSize + 1, got: keyset.MaxSize, next: "999"},
	} {
		page := fleet.Page{Size: c.asked}
		list := make([]int, c.there)
		for i := range list {
			list[i] = i
		}
		got, next := keyset.Cut(list, page, strconv.Itoa)
		if limit := keyset.Limit(page); limit != c.limit || len(got) != c.got || next != c.next {
			t.Errorf("%d of %d: limit %d, %d rows, next %q, want %+v", c.asked, c.there, limit, len(got), next, c)
		}
	}
}

// TestEveryRowOnce reads a list from page to page.
func TestEveryRowOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		there := rapid.IntRange(0, 20).Draw(t, "rows")
		page := fleet.Page{Size: rapid.IntRange(0, 7).Draw(t, "size")}
		var read []int
		for {
			before, err := keyset.NumberOf(page.After)
			if err != nil {
				t.Fatal(err)
			}
			var list []int
			for n := min(there, before-1); n > 0 && len(list) < keyset.Limit(page); n-- {
				list = append(list, n)
			}
			list, page.After = keyset.Cut(list, page, keyset.Number)
			read = append(read, list...)
			if page.After == "" {
				break
			}
		}
		slices.Reverse(read)
		for i, n := range read {
			if n != i+1 {
				t.Fatalf("read %v", read)
			}
		}
		if len(read) != there {
			t.Fatalf("read %d of %d", len(read), there)
		}
	})
}

func TestKeysReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")).String()
		number := rapid.Int64Range(1, math.MaxInt64).Draw(t, "number")
		at := time.UnixMicro(rapid.Int64().Draw(t, "at")).UTC()

		place := keyset.Place{At: at, ID: id}
		same(t, place)(keyset.PlaceOf(place.String()))
		name := keyset.NamePlace{Name: rapid.String().Draw(t, "name"), ID: id}
		same(t, name)(keyset.NamePlaceOf(name.String()))
		target := keyset.TargetPlace{Kind: rapid.SampledFrom([]string{"agent", "group"}).Draw(t, "kind"), ID: id}
		same(t, target)(keyset.TargetPlaceOf(target.String()))
		numbered := keyset.NumberPlace{Number: number, ID: id}
		same(t, numbered)(keyset.NumberPlaceOf(numbered.String()))
		version := rapid.IntRange(1, math.MaxInt32).Draw(t, "version")
		same(t, version)(keyset.NumberOf(keyset.Number(version)))

		record := fleet.AuditRecord{AuditEvent: fleet.AuditEvent{ID: number, At: at}}
		same(t, keyset.AuditPlace{At: at, Event: number})(keyset.AuditPlaceOf(keyset.AuditKey(record)))
		record.RefusalReason = "DENIED"
		same(t, keyset.AuditPlace{At: at, Event: math.MaxInt64, Refusal: number})(keyset.AuditPlaceOf(keyset.AuditKey(record)))
	})
}

func same[P comparable](t *rapid.T, want P) func(P, error) {
	return func(got P, err error) {
		if err != nil || got != want {
			t.Fatalf("%+v was read back as %+v (%v)", want, got, err)
		}
	}
}

func TestTheEmptyKeyIsBeforeTheFirst(t *testing.T) {
	end := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for got, want := range map[any]any{
		place(keyset.PlaceOf("")):       keyset.Place{At: end, ID: uuid.Max.String()},
		place(keyset.NamePlaceOf("")):   keyset.NamePlace{ID: uuid.Nil.String()},
		place(keyset.TargetPlaceOf("")): keyset.TargetPlace{ID: uuid.Nil.String()},
		place(keyset.NumberOf("")):      math.MaxInt32,
		place(keyset.NumberPlaceOf("")): keyset.NumberPlace{Number: -1, ID: uuid.Nil.String()},
		place(keyset.AuditPlaceOf("")):  keyset.AuditPlace{At: end},
	} {
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func place[P any](p P, err error) any {
	if err != nil {
		return err
	}
	return p
}

// readers of keys, by what they are keys of.
var readers = map[string]func(key string) error{
	"times":    func(key string) error { _, err := keyset.PlaceOf(key); return err },
	"names":    func(key string) error { _, err := keyset.NamePlaceOf(key); return err },
	"targets":  func(key string) error { _, err := keyset.TargetPlaceOf(key); return err },
	"numbered": func(key string) error { _, err := keyset.NumberPlaceOf(key); return err },
	"numbers":  func(key string) error { _, err := keyset.NumberOf(key); return err },
	"audit":    func(key string) error { _, err := keyset.AuditPlaceOf(key); return err },
}

func TestWhatIsNoKey(t *testing.T) {
	for list, keys := range map[string][]string{
		"times":    {"x", "1", "1.", "1.x", "x." + id, "." + id, id, "9223372036854775808." + id},
		"names":    {"x", id[1:], "x" + id[1:], "{" + id + "}"},
		"targets":  {"x", "agent", "agent/", "agent/x", id},
		"numbered": {"x", "1", "1.", "1.x", "x." + id, "." + id, id},
		"numbers":  {"x", "1x", "1.5", id, "9223372036854775808"},
		"audit":    {"x", "1", "1.", "1.e", "1.ex", "x.e1", "1.r9223372036854775808"},
	} {
		for _, key := range keys {
			if err := readers[list](key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %q answers %v", list, key, err)
			}
		}
	}
}

// FuzzKeys: a key is read or it is the key of nothing, whatever it holds.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{"", "7", fmt.Sprintf("%d.%s", 1, id), id + "name", "agent/" + id, "1.e2", "1.r2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for list, read := range readers {
			if err := read(key); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %q answers %v", list, key, err)
			}
		}
	})
}
