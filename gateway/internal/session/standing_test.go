// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"reflect"
	"testing"
	"time"
)

func polled(last uint64) *Session {
	s := New(Claimed{Epoch: 7}, &slot{}, noon)
	s.Join(&Standing{Epoch: 7, Sequence: last, Capabilities: 1, LastSeen: noon})
	return s
}

// What another gateway has heard counts if it is under the same epoch and no older.
func TestFollow(t *testing.T) {
	for name, test := range map[string]struct {
		there    Standing
		sequence uint64
		doubt    bool
		sent     string
	}{
		"further":                {Standing{Epoch: 7, Sequence: 9, SentHash: []byte("b"), SentGeneration: 2}, 9, false, "b"},
		"further, and in doubt":  {Standing{Epoch: 7, Sequence: 9, Doubtful: true}, 9, true, "a"},
		"the same":               {Standing{Epoch: 7, Sequence: 5, SentHash: []byte("b"), SentGeneration: 2}, 5, false, "b"},
		"an older offer":         {Standing{Epoch: 7, Sequence: 6, SentHash: []byte("0"), SentGeneration: 0}, 6, false, "a"},
		"older":                  {Standing{Epoch: 7, Sequence: 4, Doubtful: true, SentHash: []byte("b"), SentGeneration: 2}, 5, false, "a"},
		"of an older session":    {Standing{Epoch: 6, Sequence: 9, Doubtful: true}, 5, false, "a"},
		"of a session not known": {Standing{Epoch: 8, Sequence: 9, Doubtful: true}, 5, false, "a"},
	} {
		s := polled(5)
		s.Sent(offer("a", 1))
		s.Follow(test.there)
		got := s.Standing()
		if got.Epoch != 7 || got.Sequence != test.sequence || got.Doubtful != test.doubt || string(got.SentHash) != test.sent {
			t.Errorf("%s: it stands at %+v", name, got)
		}
	}
}

// What this gateway knows of the last message is not lost by what the others know of it.
func TestFollowKeepsDoubt(t *testing.T) {
	s := polled(5)
	s.Doubt()
	s.Follow(Standing{Epoch: 7, Sequence: 5})
	if !s.Standing().Doubtful {
		t.Error("the doubt is gone")
	}
	s.Follow(Standing{Epoch: 7, Sequence: 6})
	if s.Standing().Doubtful {
		t.Error("another gateway has had the full state, and there is doubt")
	}
}

// A session that goes on from its standing is the same as the one it stands for.
func TestStandingIsWhatAnotherGatewayNeeds(t *testing.T) {
	s := polled(5)
	s.AskComponents([]byte("components"), true)
	s.Arrive(Arrival{Sequence: 8, Capabilities: 3}, noon.Add(time.Second)) // a hole
	s.Sent(offer("a", 1))
	there := s.Standing()
	other := New(Claimed{Epoch: 7}, &slot{}, noon)
	other.Join(&there)
	got := other.Standing()
	got.LastSeen = there.LastSeen // that is its own
	if !reflect.DeepEqual(got, there) {
		t.Errorf("it stands at %+v, want %+v", got, there)
	}
	if !there.Doubtful || !there.AskedAt.Equal(noon.Add(time.Second)) || there.Sequence != 8 || there.Capabilities != 3 {
		t.Errorf("it stands at %+v", there)
	}
	if verdict := other.Arrive(Arrival{Sequence: 9, Capabilities: 3}, noon.Add(2*time.Second)); verdict.Relay || verdict.Ask || other.Greet() || other.AskComponents([]byte("components"), false) {
		t.Errorf("a heartbeat there gives %+v", verdict)
	}
	if posting := other.PostConfig(Address{Kind: "config", Epoch: 7, Generation: 1}, offer("a", 1)); posting != AlreadySent {
		t.Errorf("the same offer gives %v", posting)
	}
	if posting := other.PostConfig(Address{Kind: "config", Epoch: 7}, offer("0", 0)); posting != Outdated {
		t.Errorf("an older offer gives %v", posting)
	}
}

// Where a shared session stands is not known: what is on record tells a restart from a
// hole, and all else is in doubt.
func TestJoinWithoutAStanding(t *testing.T) {
	for name, test := range map[string]struct {
		arrival Arrival
		want    Step
	}{
		"a heartbeat":         {Arrival{Sequence: 7}, Step{Ask: true}},
		"the next":            {Arrival{Sequence: 5, News: true}, Step{Relay: true, Ask: true}},
		"a restart":           {Arrival{Sequence: 0, Tells: Description, News: true}, Step{Relay: true, Restart: true, Whole: true}},
		"a later full report": {Arrival{Sequence: 9, Tells: Description, News: true}, Step{Relay: true, Whole: true}},
	} {
		s := New(Claimed{Epoch: 7, LastSequence: 4, StateKnown: true}, &slot{}, noon)
		s.Join(nil)
		if got := s.Arrive(test.arrival, noon); got.Step != test.want {
			t.Errorf("%s gives %+v, want %+v", name, got.Step, test.want)
		}
	}
}

func TestRepeated(t *testing.T) {
	s := polled(5)
	s.Sent(offer("a", 1))
	if s.Repeated(6) || !s.Repeated(5) || s.Standing().SentHash != nil || s.Repeated(5) {
		t.Error("an offer in the answer to the last message is lost when that is repeated")
	}
	s.Sent(offer("a", 1))
	s.Arrive(Arrival{Sequence: 6}, noon)
	if s.Repeated(6) {
		t.Error("an offer in an earlier answer is lost")
	}
	s.Arrive(Arrival{Sequence: 9}, noon) // a hole: asked
	s.Repeated(9)
	if !s.Arrive(Arrival{Sequence: 9}, noon).Ask {
		t.Error("what was asked in the lost answer is not asked again")
	}
}

// A request for full state that each gateway reads is made once.
func TestPostDoubt(t *testing.T) {
	s := polled(5)
	to := Address{Kind: "full", Epoch: 7}
	if got := s.PostDoubt(to, noon); got != Posted || !s.Arrive(Arrival{Sequence: 6}, noon).Ask {
		t.Errorf("the first gives %v", got)
	}
	s.Arrive(Arrival{Sequence: 7, Tells: Description, News: true}, noon)
	if got := s.PostDoubt(to, noon.Add(AskAgainAfter-1)); got != AlreadySent || s.Standing().Doubtful {
		t.Errorf("the same soon afterwards gives %v", got)
	}
	if got := s.PostDoubt(to, noon.Add(AskAgainAfter)); got != Posted {
		t.Errorf("a later one gives %v", got)
	}
	if got := s.PostDoubt(Address{Kind: "full", Epoch: 6}, noon); got != OtherEpoch {
		t.Errorf("for another epoch: %v", got)
	}
}

func TestForgetTellsNobody(t *testing.T) {
	r := NewRegistry(func(*Session, EndReason) { t.Error("an end was told") })
	s := New(Claimed{Key: Key{Tenant: "acme", Agent: "a"}, Epoch: 1}, &slot{}, noon)
	r.StartPolling(Poller{Identity: s.Key}, s)
	r.Forget(s)
	r.End(s, Idle)
	if r.Len() != 0 || len(r.AllPolling()) != 0 || r.Get(s.Key) != nil || !s.Ended() {
		t.Error("the session is still there")
	}
}
