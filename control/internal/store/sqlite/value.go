// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// The types below scan columns whose NULL is a zero value of the vocabulary: (*instant)(&token.RevokedAt). The
// functions go the other way; what both backends say alike does so in package column.

// instant is an INTEGER of microseconds; NULL is the zero time.
type instant time.Time

// Scan implements sql.Scanner.
func (t *instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*t = instant{}
	case int64:
		*t = instant(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("a time is an integer, not %T", v)
	}
	return nil
}

// moment is t as a parameter: microseconds, NULL if zero.
func moment(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// text is a TEXT column; NULL is "".
type text string

// Scan implements sql.Scanner.
func (s *text) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s = ""
	case string:
		*s = text(v)
	default:
		return fmt.Errorf("a text is a string, not %T", v)
	}
	return nil
}

// hash is a BLOB of 32 bytes; NULL is the zero hash.
type hash [32]byte

// Scan implements sql.Scanner.
func (h *hash) Scan(v any) error {
	*h = hash{}
	switch v := v.(type) {
	case nil:
	case []byte:
		copy(h[:], v)
	default:
		return fmt.Errorf("a hash is bytes, not %T", v)
	}
	return nil
}

// uid is an instance uid in its UUID form; NULL is the zero uid. As a parameter it is u.String().
type uid fleet.InstanceUID

// Scan implements sql.Scanner.
func (u *uid) Scan(v any) error {
	*u = uid{}
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		_, err := hex.Decode(u[:], []byte(strings.ReplaceAll(v, "-", "")))
		return err
	default:
		return fmt.Errorf("a uid is a string, not %T", v)
	}
}

// document scans a TEXT of JSON into the value it points to; NULL leaves it alone.
func document(into any) *documentScanner { return &documentScanner{into} }

type documentScanner struct{ into any }

// Scan implements sql.Scanner.
func (d *documentScanner) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(v), d.into)
	default:
		return fmt.Errorf("a document is a string, not %T", v)
	}
}

// asJSON is v as a parameter. It panics on what cannot be JSON: the vocabulary can.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sqlite: encode %T: %v", v, err))
	}
	return string(b)
}
