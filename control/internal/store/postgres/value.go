// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// The types below scan columns whose NULL is a zero value of the vocabulary: (*instant)(&token.RevokedAt). moment
// goes the other way; what both backends say alike does so in package column.

// instant is a timestamptz; NULL is the zero time.
type instant time.Time

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (t *instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	*t = instant{}
	if v.Valid {
		*t = instant(v.Time.UTC())
	}
	return nil
}

// moment is t as a parameter: UTC in microseconds, NULL if zero.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Microsecond)
}

// text is a text or uuid column; NULL is "".
type text string

// ScanText implements pgtype.TextScanner.
func (s *text) ScanText(v pgtype.Text) error {
	*s = text(v.String)
	return nil
}

// hash is a bytea of 32 bytes; NULL is the zero hash.
type hash [32]byte

// ScanBytes implements pgtype.BytesScanner.
func (h *hash) ScanBytes(v []byte) error {
	*h = hash{}
	copy(h[:], v)
	return nil
}

// uuidAsText prefers the text form on the wire, which is what the vocabulary's ids are.
type uuidAsText struct{ pgtype.UUIDCodec }

// PreferredFormat implements pgtype.Codec.
func (uuidAsText) PreferredFormat() int16 { return pgtype.TextFormatCode }
