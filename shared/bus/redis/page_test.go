// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/shared/bus"
)

func TestPositionsAreReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := place{
			number: rapid.Uint64().Draw(rt, "number"), nonce: rapid.Uint64().Draw(rt, "nonce"), history: rapid.Uint64().Draw(rt, "history"),
		}
		p.past = rapid.Uint64Min(p.number).Draw(rt, "past")
		position := p.position()
		got, known := parsePosition(position)
		if !known || got != p {
			rt.Fatalf("%q was read as %+v, %v, want %+v", position, got, known, p)
		}
		if len(position) > 128 {
			rt.Fatalf("%q has %d bytes", position, len(position))
		}
	})
}

func FuzzPosition(f *testing.F) {
	for _, seed := range []string{
		"", ".", "..", "1.2.3", "1-2.3.4", "2-1.3.4", "1-1.3.4", "01.2.3", "+1.2.3", "1.-2.3", "1.2.3.4", "1.Z.z", "18446744073709551615.3w5e11264sgsf.3w5e11264sgsf", "1.3w5e11264sgsg.1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, known := parsePosition(bus.Position(text))
		if known && string(p.position()) != text {
			t.Errorf("%q and %q are one position", text, p.position())
		}
		if !known && p != (place{}) {
			t.Errorf("%q is unknown, and is %+v", text, p)
		}
	})
}

// replies makes out of bytes what a server might answer to XRANGE: entries that are
// none among others that are.
func replies(data []byte) []any {
	var list []any
	number := uint64(0)
	for ; len(data) > 1; data = data[2:] {
		number += uint64(data[1] & 3)
		id := id(number)
		fields := []any{fieldStamp, string(stamp(uint64(data[1]>>6), number+uint64(data[1]>>4&3)))}
		switch data[0] % 12 {
		case 0:
			list = append(list, nil)
			continue
		case 1:
			list = append(list, []any{id})
			continue
		case 2:
			id = strings.Repeat("9", int(data[1])) + "-1"
		case 3:
			id = "1-" + string(data[:2])
		case 4:
			fields = append(fields, fieldExpiry, strconv.Itoa(int(data[1])))
		case 5:
			fields = []any{int64(data[1]), nil, string(data)}
		case 6:
			fields = append(fields, map[any]any{"a": "b"}, fieldPayload)
		}
		if data[0] > 60 {
			fields = append(fields, fieldPayload, "payload")
		}
		list = append(list, []any{id, fields})
	}
	return list
}

// FuzzPage: no answer makes a reader panic, and none that has a hole, another history or
// an unreadable entry behind the reader's place is read over without a loss.
func FuzzPage(f *testing.F) {
	f.Add([]byte("a1a1a1a1"), uint64(3), uint64(1))
	f.Add([]byte{100, 1, 100, 1, 101, 1, 0, 1, 1, 1}, uint64(0), uint64(0))
	f.Add([]byte{100, 1, 2, 1, 3, 9, 4, 200, 5, 5, 6, 6, 100, 1}, uint64(9), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, history, now uint64) {
		entries := parseEntries(replies(data), maxPage)
		p := page{entries: entries, last: len(data)%2 == 0, history: history, now: int64(now % 256)}
		if len(entries) == 0 || entries[0].foreign {
			return
		}
		_, _ = p.all()
		at := entries[0].place()
		batch, next := p.after(at)
		if batch.Next != next.position() {
			t.Fatalf("from %+v to %+v, %q", at, next, batch.Next)
		}
		if !batch.Lost {
			wantDense(t, entries, at, batch)
		}
	})
}

// wantDense: a batch without a loss is that of dense entries, of which those without
// a payload are left out.
func wantDense(t *testing.T, entries []entry, at place, batch bus.Batch) {
	t.Helper()
	taken := 0
	for i, e := range entries[1:] {
		if taken == len(batch.Messages) {
			return
		}
		if e.foreign || e.broken || e.number != at.number+uint64(i)+1 || e.history != at.history {
			t.Fatalf("entry %d is %+v, and no loss was told: %+v", i+1, e, batch)
		}
		if e.message {
			taken++
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("1-1", fieldStamp, string(stamp(1, 2)), fieldPayload, "x")
	f.Add("2-1", "a", "b", "", "")
	f.Add("1-18446744073709551615", fieldExpiry, "9223372036854775808", fieldStamp, "\x00")
	f.Add("-", fieldPayload, strings.Repeat("x", 300), fieldExpiry, "-1")
	f.Fuzz(func(t *testing.T, id, name, value, name2, value2 string) {
		e := parseEntry([]any{id, []any{name, value, name2, value2}})
		if !e.foreign && id != "1-"+strconv.FormatUint(e.number, 10) && strings.TrimLeft(id[2:], "0") != strconv.FormatUint(e.number, 10) && e.number != 0 {
			t.Errorf("%q has the number %d", id, e.number)
		}
		if len(e.payload) > bus.MaxPayload || !e.broken && e.nonce == 0 {
			t.Errorf("%q %q %q %q is read as %+v", name, value, name2, value2, e)
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add("# Replication\r\nrole:master\r\nmaster_replid:f08bf78fbf0adceb50e85491e48b185094389be7\r\nredis_version:7.0.15\r\n")
	f.Add("role:slave\nmaster_replid:")
	f.Add("redis_version:6.2.1")
	f.Fuzz(func(t *testing.T, info string) {
		if history, err := historyOf(info); err == nil && history == 0 {
			t.Error("zero is no history")
		}
		if newEnough(info) && !strings.Contains(info, "redis_version:") {
			t.Errorf("%q was taken for a new server", info)
		}
	})
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]bool{"7.0.0": true, "7.0.15": true, "8.2.1": true, "10.0": true, "6.2.14": false, "255.255.255": true, "": false, "x": false} {
		if got := newEnough("# Server\r\nredis_version:" + version + "\r\n"); got != want {
			t.Errorf("%q is new enough: %v", version, got)
		}
	}
}

// A hint wakes those it names; one that cannot be read wakes everybody.
func TestHints(t *testing.T) {
	b := open(t, "redis://localhost", "")
	all := []int{0, 1, 2, 63}
	for hint, wakes := range map[string][]int{
		uplinkHint([]bus.Outgoing{{Partition: 0}, {Partition: 63}, {Partition: 0}}): {0, 63},
		"5": {0, 2}, "0": nil, "": all, "x": all, "11111111111111111": all,
	} {
		for _, partition := range all {
			waits := b.bell.next(b.names.uplink(partition).key)
			b.ringFor(b.names.uplinks(), hint)
			if got, want := isClosed(waits), slices.Contains(wakes, partition); got != want {
				t.Errorf("the hint %q wakes partition %d: %v", hint, partition, got)
			}
			b.bell.ringAll()
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
