// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// none is shown where there is nothing, so that columns stay columns for cut and awk.
const none = "-"

// word is an enum's value as a person writes it: PRESENCE_ONLINE is "online", DELIVERY_STATE_ROLLED_BACK
// "rolled-back", the unspecified one "-".
func word(value protoreflect.Enum) string {
	described := value.Descriptor().Values().ByNumber(value.Number())
	switch {
	case described == nil:
		return fmt.Sprintf("%d", value.Number()) // from a server newer than this program
	case value.Number() == 0:
		return none
	default:
		return enumWord(described)
	}
}

func enumWord(described protoreflect.EnumValueDescriptor) string {
	enum, _ := described.Parent().(protoreflect.EnumDescriptor)
	prefix := strings.TrimSuffix(string(enum.Values().Get(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(string(described.Name()), prefix), "_", "-"))
}

// enumNamed is the inverse of word: the number of the value that a person named; "" is 0.
func enumNamed[E protoreflect.Enum](flag, name string) (E, error) {
	var zero E
	if name == "" {
		return zero, nil
	}
	values := zero.Descriptor().Values()
	for i := 1; i < values.Len(); i++ {
		if enumWord(values.Get(i)) == strings.ToLower(name) {
			value, _ := zero.Type().New(values.Get(i).Number()).(E)
			return value, nil
		}
	}
	return zero, usage("--%s %q is not one of: %s", flag, name, strings.Join(enumWords[E](), ", "))
}

func enumWords[E protoreflect.Enum]() []string {
	var zero E
	var words []string
	values := zero.Descriptor().Values()
	for i := 1; i < values.Len(); i++ {
		words = append(words, enumWord(values.Get(i)))
	}
	return words
}

// or is text, or "-" when there is none; escaped.
func or(text string) string {
	if text == "" {
		return none
	}
	return escape(text)
}

// number is n, or "-" when it is 0.
func number[N int32 | int64](n N) string {
	if n == 0 {
		return none
	}
	return fmt.Sprintf("%d", n)
}

// relative tells a time as a distance from now, in its largest unit: "3m ago", "in 23h".
func relative(now time.Time, at *timestamppb.Timestamp) string {
	if at == nil {
		return none
	}
	distance := at.AsTime().Sub(now)
	if distance > 0 {
		return "in " + span(distance)
	}
	return span(-distance) + " ago"
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/day)
	}
}

// exactly is a duration as flags take it: 90m, 24h, 1h30m.
func exactly(d time.Duration) string {
	text := d.String()
	if minutes, whole := strings.CutSuffix(text, "m0s"); whole {
		text = minutes + "m"
	}
	if hours, whole := strings.CutSuffix(text, "h0m"); whole {
		text = hours + "h"
	}
	return text
}

// stamp is a time in RFC 3339 and UTC, for lines that are kept.
func stamp(at *timestamppb.Timestamp) string {
	if at == nil {
		return none
	}
	return at.AsTime().UTC().Format(time.RFC3339)
}

// bytesOf tells a size in bytes, or in binary units from 10 KiB on.
func bytesOf(size int64) string {
	switch {
	case size >= 10<<20:
		return fmt.Sprintf("%d MiB", size>>20)
	case size >= 10<<10:
		return fmt.Sprintf("%d KiB", size>>10)
	default:
		return fmt.Sprintf("%d B", size)
	}
}

// counted is a number of things: "1 agent", "2 agents".
func counted[N int | int32](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// joined is the parts that are there, with a slash between: "group/edge".
func joined(parts ...string) string {
	return or(strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "/"))
}
