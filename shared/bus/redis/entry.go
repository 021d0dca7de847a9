// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"strings"

	"gitlab.com/ampora/ampora/shared/bus"
)

// The fields of an entry. An anchor has a stamp alone: history and nonce. The expiry is
// in milliseconds of the server's clock.
const (
	fieldStamp   = "s"
	fieldPayload = "p"
	fieldExpiry  = "x"
)

// The parts of an id: a constant, which stands for this form of entries, and the number.
const (
	idPrefix = "1-"
	idNext   = idPrefix + "*"
	idFirst  = idPrefix + "0"
)

// maxNumber is far above any number that appending reaches. An entry beyond it was put
// there to leave no number for others.
const maxNumber = 1 << 62

// entry is one of a stream as it was read. Redis is not trusted to return what was put
// into it.
type entry struct {
	number uint64
	// foreign: the id is none that append would bring about, and nothing can be appended
	// behind it.
	foreign bool
	history uint64
	nonce   uint64
	message bool // it has a payload; without, it is an anchor
	broken  bool // its fields are not those of an entry
	payload []byte
	expires int64 // 0: never
}

func id(number uint64) string { return idPrefix + strconv.FormatUint(number, 10) }

// parseEntry reads a reply of XRANGE: an id and a list of names and values.
func parseEntry(reply any) entry {
	parts, _ := reply.([]any)
	if len(parts) != 2 {
		return entry{foreign: true}
	}
	text, _ := parts[0].(string)
	fields, _ := parts[1].([]any)
	e := parseFields(fields)
	digits, ours := strings.CutPrefix(text, idPrefix)
	number, err := strconv.ParseUint(digits, 10, 64)
	e.number, e.foreign = number, !ours || err != nil || number > maxNumber
	return e
}

func parseFields(fields []any) entry {
	var e entry
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, isText := fields[i+1].(string)
		switch {
		case name == fieldStamp && len(value) == len(stamp(0, 0)):
			e.history = binary.BigEndian.Uint64([]byte(value))
			e.nonce = binary.BigEndian.Uint64([]byte(value[8:]))
		case name == fieldPayload && isText && len(value) <= bus.MaxPayload:
			e.message, e.payload = true, []byte(value)
		case name == fieldExpiry:
			expires, err := strconv.ParseInt(value, 10, 64)
			e.expires, e.broken = expires, e.broken || err != nil
		default:
			e.broken = true
		}
	}
	e.broken = e.broken || e.nonce == 0 || len(fields)%2 != 0
	return e
}

// record is an entry to append.
type record struct {
	stream  stream
	payload []byte
	expires int64
}

// arguments are those of the XADD that appends the record to a stream that exists.
func (r record) arguments(stamp []byte) []any {
	arguments := []any{"XADD", r.stream.key, "NOMKSTREAM", idNext, fieldStamp, stamp, fieldPayload, r.payload}
	if r.expires != 0 {
		arguments = append(arguments, fieldExpiry, r.expires)
	}
	return arguments
}

// newNonce draws a nonce. The ones that follow it may be used too: a call draws once.
func newNonce() uint64 {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return binary.BigEndian.Uint64(random[:])
}

// stamp is history and nonce in 16 bytes. The nonce is never zero, which stands for an
// entry without.
func stamp(history, nonce uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, history), max(nonce, 1))
}
