// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	s := New(Claimed{Epoch: 1}, nil, time.Now())
	if trace := s.Answers(nil, true); trace != "" {
		t.Errorf("without an offer it answers %q", trace)
	}
	s.Offering(&ConfigOffer{Hash: []byte("a"), Trace: "ta"})
	for i, word := range []struct {
		hash string
		last bool
		want string
	}{{"b", true, ""}, {"a", false, "ta"}, {"a", true, "ta"}, {"a", true, ""}} {
		if trace := s.Answers([]byte(word.hash), word.last); trace != word.want {
			t.Errorf("word %d answers %q, want %q", i, trace, word.want)
		}
	}
	elsewhere := &ConfigOffer{Hash: []byte("a"), Generation: 1, Trace: "elsewhere"}
	for _, want := range []string{"elsewhere", ""} { // known for one that was made elsewhere, and answered, it is not taken for another
		s.Offered(elsewhere)
		if trace := s.Answers([]byte("a"), true); trace != want {
			t.Errorf("an offer of elsewhere is answered in %q, want %q", trace, want)
		}
	}
	s.Offering(&ConfigOffer{Hash: []byte("c"), Trace: "tc"})
	s.Offering(&ConfigOffer{Hash: []byte("d")}) // in no trace
	for _, hash := range []string{"c", "d"} {
		if trace := s.Answers([]byte(hash), true); trace != "" {
			t.Errorf("a word on %s answers %q", hash, trace)
		}
	}
}
