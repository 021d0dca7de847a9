// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/hex"
	"math"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// newID mints the id of something new: a UUIDv7 (RFC 9562, section 5.7), so that later ones sort later.
func newID[ID ~string]() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// checkName refuses a name that reads as an id: where either is accepted, one thing could pass for another.
func checkName(name string) error {
	if uuid.Validate(name) == nil {
		return auth.InvalidField("name", "must not have the form of an id")
	}
	return nil
}

// each encodes a list.
func each[From, To any](list []From, encode func(From) To) []To {
	encoded := make([]To, len(list))
	for i, item := range list {
		encoded[i] = encode(item)
	}
	return encoded
}

// idsFrom gives ids of a request their type. Rules of the messages have checked their form.
func idsFrom[ID ~string](texts []string) []ID {
	return each(texts, func(text string) ID { return ID(text) })
}

// moment is a time on the wire; a zero time is absent.
func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// count is a number of things on the wire. Numbers that do not fit do not occur; they would show as the largest that does.
func count(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func role(r fleet.Role) amporav1.Role {
	switch r {
	case fleet.RoleViewer:
		return amporav1.Role_ROLE_VIEWER
	case fleet.RoleOperator:
		return amporav1.Role_ROLE_OPERATOR
	case fleet.RoleAdmin:
		return amporav1.Role_ROLE_ADMIN
	default:
		return amporav1.Role_ROLE_UNSPECIFIED
	}
}

// hashText is a hash on the wire: hexadecimal, empty for none.
func hashText[H interface {
	String() string
	IsZero() bool
}](h H,
) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

// hashFrom reads a hash whose form a rule of the message has checked; the zero hash for an empty one.
func hashFrom[H ~[32]byte](text string) (h H) {
	_, _ = hex.Decode(h[:], []byte(text))
	return h
}

// word is the value of an enumeration that stands for a word of the vocabulary; 0, unspecified, for a word it lacks.
type word[Word, Value comparable] []struct {
	word  Word
	value Value
}

func (w word[Word, Value]) encode(spoken Word) (value Value) {
	for _, pair := range w {
		if pair.word == spoken {
			return pair.value
		}
	}
	return value
}

func (w word[Word, Value]) decode(value Value) (spoken Word) {
	for _, pair := range w {
		if pair.value == value {
			return pair.word
		}
	}
	return spoken
}
