// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import "testing"

func TestProgress(t *testing.T) {
	r := NewRegistry(func(*Session, EndReason) {})
	s := New(Claimed{Key: Key{Tenant: "acme", Agent: "a"}, Epoch: 7, LastSequence: 3, StateKnown: true}, &slot{}, noon)
	r.Start(s)
	listed := func(want int) {
		t.Helper()
		if got := len(r.Changed()); got != want {
			t.Errorf("%d sessions have changed, want %d", got, want)
		}
	}
	tell := func(want Progress, told bool) {
		t.Helper()
		if got, ok := s.Progress(); ok != told || got != want {
			t.Errorf("the progress is %+v, %v, want %+v", got, ok, want)
		}
	}
	listed(0)
	s.Touch(noon)
	listed(1)
	tell(Progress{}, false) // nothing has come
	listed(0)
	s.Arrive(Arrival{Sequence: 4}, noon)
	s.Arrive(Arrival{Sequence: 5}, noon)
	s.Touch(noon)
	listed(1)
	tell(Progress{7, 5, true, noon}, true)
	s.Arrive(Arrival{Sequence: 6, News: true}, noon)
	listed(1)
	tell(Progress{}, false) // on its way to the queue
	listed(1)
	s.Settled()
	tell(Progress{7, 6, true, noon}, true)
	s.Doubt()
	listed(1)
	tell(Progress{7, 6, false, noon}, true)
	s.Rebind(8)
	listed(1)
	tell(Progress{8, 6, false, noon}, true)
	r.End(s, Closed)
	s.Remind()
	listed(1)
	tell(Progress{}, false)
}

// Agents that poll are told of elsewhere.
func TestPollingSessionsAreNoChanges(t *testing.T) {
	r := NewRegistry(func(*Session, EndReason) {})
	s := New(Claimed{Key: Key{Tenant: "acme", Agent: "a"}, Epoch: 7}, &slot{}, noon)
	r.StartPolling(Poller{Identity: s.Key}, s)
	s.Arrive(Arrival{Sequence: 0, Tells: Description, News: true}, noon)
	if got := r.Changed(); len(got) != 0 {
		t.Errorf("%d sessions have changed", len(got))
	}
}

func TestPostPing(t *testing.T) {
	link := &slot{}
	s := New(Claimed{Epoch: 7}, link, noon)
	if got := s.PostPing(Address{Kind: "ping", Epoch: 6}); got != OtherEpoch || link.pinged != 0 {
		t.Errorf("for another epoch: %v", got)
	}
	if got := s.PostPing(Address{Kind: "ping", Epoch: 7}); got != Posted || link.pinged != 1 {
		t.Errorf("the ping gives %v", got)
	}
}
