// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/base64"
	"testing"

	"pgregory.net/rapid"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestPlacesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.String().Draw(t, "key")
		if got, ok := keyOf(listAgents, place(listAgents, key)); !ok || got != key {
			t.Fatalf("%q came back as %q, %v", key, got, ok)
		}
		if _, ok := keyOf(listGroups, place(listAgents, key)); ok && key != "" {
			t.Fatalf("a place among agents is one among groups: %q", key)
		}
	})
}

func TestForeignPlacesAreRefused(t *testing.T) {
	good := place(listAgents, "018f0000-0000-7000-8000-000000000001")
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	next := append([]byte{placeVersion + 1}, raw[1:]...)
	for name, token := range map[string]string{
		"a word":          "next",
		"no base64":       "!!!!",
		"padded":          good + "=",
		"cut":             good[:len(good)-2],
		"lengthened":      good + "AA",
		"altered":         "B" + good[1:],
		"another version": base64.RawURLEncoding.EncodeToString(next),
		"no key":          base64.RawURLEncoding.EncodeToString(raw[:placeKeyAt]),
		"of another list": place(listGroups, "x"),
		"with a line end": good + "\n",
	} {
		_, err := pageOf(listAgents, &amporav1.ListAgentsRequest{PageToken: token})
		if !fault.Is(err, ReasonPageToken) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := cursorFrom(token); !fault.Is(err, ReasonCursor) {
			t.Errorf("%s as a cursor: %v", name, err)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(place(listAgents, "x"))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		key, ok := keyOf(listAgents, text)
		if !ok {
			return
		}
		// One place has one text.
		if again := place(listAgents, key); again != text {
			t.Fatalf("%q reads as %q, which writes %q", text, key, again)
		}
	})
}
