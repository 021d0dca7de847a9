// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"sync"
	"testing"

	"gitlab.com/ampora/ampora/shared/identity"
)

// slot is a link that waits to be asked, as that of a polling agent.
type slot struct {
	mu     sync.Mutex
	woken  int
	pinged int
	closed []EndReason
	renews []int64
}

func (l *slot) Renew(_ *Session, number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renews = append(l.renews, number)
}

func (l *slot) Wake(*Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.woken++
}

func (l *slot) Ping() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pinged++
}

func (l *slot) Close(_ *Session, reason EndReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = append(l.closed, reason)
}

func offer(hash string, generation int64) *ConfigOffer {
	return &ConfigOffer{Hash: []byte(hash), Generation: generation, Epoch: 7}
}

func TestMailboxKeepsTheLatest(t *testing.T) {
	link := &slot{}
	s := New(Claimed{Epoch: 7}, link, noon)
	to := func(generation int64) Address { return Address{Kind: "config", Epoch: 7, Generation: generation} }
	post := func(want Posting, o *ConfigOffer) {
		t.Helper()
		if got := s.PostConfig(to(o.Generation), o); got != want {
			t.Errorf("posting %s of generation %d gives %v, want %v", o.Hash, o.Generation, got, want)
		}
	}
	post(Posted, offer("a", 2))
	post(Posted, offer("b", 3))
	post(Outdated, offer("a", 2))
	if mail := s.TakeMail(); string(mail.Config.Hash) != "b" || s.HasMail() {
		t.Errorf("the mail is %+v", mail)
	}
	s.Sent(offer("b", 3))
	post(AlreadySent, offer("b", 3))
	post(Posted, offer("b", 4)) // a later grant of the same: written again
	if got := s.PostConfig(Address{Kind: "config", Epoch: 6, Generation: 9}, offer("c", 9)); got != OtherEpoch {
		t.Errorf("for another epoch: %v", got)
	}
	if got := s.PostFullState(Address{Kind: "full", Epoch: 7}); got != Posted || !s.TakeMail().FullState {
		t.Errorf("asking for the full state: %v", got)
	}
	if link.woken != 4 {
		t.Errorf("the link was woken %d times", link.woken)
	}
	// Under a new epoch everything begins anew.
	s.Rebind(8)
	if got := s.PostConfig(Address{Kind: "config", Epoch: 8, Generation: 1}, offer("b", 1)); got != Posted {
		t.Errorf("under a new epoch: %v", got)
	}
}

// What was meant for one epoch does not reach the agent under another, nor after the end.
func TestMailEndsWithItsEpoch(t *testing.T) {
	s := New(Claimed{Epoch: 7}, &slot{}, noon)
	s.PostConfig(Address{Kind: "config", Epoch: 7, Generation: 5}, offer("a", 5))
	taken := s.TakeMail().Config
	s.PostConfig(Address{Kind: "config", Epoch: 7, Generation: 5}, offer("a", 5))
	if !s.Rebind(8) || s.HasMail() {
		t.Error("an offer outlived its epoch")
	}
	s.Sent(taken) // its writer was slow
	again := offer("a", 5)
	again.Epoch = 8
	if got := s.PostConfig(Address{Kind: "config", Epoch: 8, Generation: 5}, again); got != Posted {
		t.Errorf("an offer of the new epoch counts as written: %v", got)
	}
	if s.Rebind(6); s.Epoch() != 8 {
		t.Errorf("a claim that came late took the epoch back to %d", s.Epoch())
	}
	r := NewRegistry(func(*Session, EndReason) {})
	r.Start(s)
	r.End(s, Idle)
	if s.HasMail() || s.Rebind(9) || s.Epoch() != 9 {
		t.Error("a session that ended has mail, or lives")
	}
}

// A report that was on its way when the lease was lost carries the old epoch and is lost.
func TestReclaimDoubtsWhatIsNotOnRecord(t *testing.T) {
	for name, test := range map[string]struct {
		last  uint64
		known bool
		doubt bool
	}{
		"all on record":       {4, true, false},
		"a report on its way": {3, true, true},
		"nothing on record":   {4, false, true},
	} {
		s := New(Claimed{Epoch: 1, LastSequence: 3, StateKnown: true}, &slot{}, noon)
		s.Arrive(Arrival{Sequence: 4, News: true}, noon)
		s.Arrive(Arrival{Sequence: 5}, noon) // a heartbeat
		s.Reclaim(2, test.last, test.known)
		if _, doubt := s.Left(); doubt != test.doubt || s.Epoch() != 2 {
			t.Errorf("%s: in doubt: %v", name, doubt)
		}
	}
}

// Two connections claim one agent, and the one that claimed first begins last.
func TestTheLaterClaimWins(t *testing.T) {
	r := NewRegistry(func(*Session, EndReason) {})
	key := Key{Tenant: "acme", Agent: identity.NewAgentID()}
	link := &slot{}
	first, second := New(Claimed{Key: key, Epoch: 1}, link, noon), New(Claimed{Key: key, Epoch: 2}, &slot{}, noon)
	r.Start(second)
	r.Start(first)
	if r.Get(key) != second || second.Ended() || !first.Ended() || len(link.closed) != 1 {
		t.Error("the session with the lower epoch stayed")
	}
}

func TestRegistryEndsEachSessionOnce(t *testing.T) {
	type end struct {
		epoch  uint64
		reason EndReason
	}
	var ends []end
	r := NewRegistry(func(s *Session, reason EndReason) { ends = append(ends, end{s.Epoch(), reason}) })
	key := Key{Tenant: "acme", Agent: identity.NewAgentID()}
	first, second := &slot{}, &slot{}
	old := New(Claimed{Key: key, Epoch: 1}, first, noon)
	fresh := New(Claimed{Key: key, Epoch: 2}, second, noon)
	r.Start(old)
	r.Start(fresh)
	if len(ends) != 1 || ends[0] != (end{1, Superseded}) || len(first.closed) != 1 || len(second.closed) != 0 {
		t.Fatalf("after a takeover: %v, closed %v and %v", ends, first.closed, second.closed)
	}
	r.End(old, Closed) // its connection notices later
	if len(ends) != 1 || r.Get(key) != fresh || r.Len() != 1 {
		t.Errorf("the end of the old session touched the new one: %v", ends)
	}
	var ending sync.WaitGroup
	for range 8 {
		ending.Go(func() { r.End(fresh, Idle) })
	}
	ending.Wait()
	if len(ends) != 2 || r.Len() != 0 || !fresh.Ended() {
		t.Errorf("in the end: %v", ends)
	}
}

func TestRegistryFindsPollers(t *testing.T) {
	r := NewRegistry(func(*Session, EndReason) {})
	p := Poller{Identity: Key{"acme", "parent"}, UID: identity.InstanceUID{1}}
	s := New(Claimed{Key: Key{"acme", "child"}}, &slot{}, noon)
	r.StartPolling(p, s)
	if r.Polling(p) != s || len(r.AllPolling()) != 1 {
		t.Fatal("the session is not found")
	}
	r.End(s, Idle)
	if r.Polling(p) != nil || len(r.AllPolling()) != 0 {
		t.Error("the session is still found")
	}
}

// What counts as a full state is what the agent has told of before, as far as it says that it still does.
func TestFullStateHasAllThatWasTold(t *testing.T) {
	all := Description | Health | EffectiveConfig | ConfigStatus
	type report struct {
		tells, reports Parts
		whole          bool
	}
	for name, c := range map[string]struct {
		known   bool
		reports []report
	}{
		"the first of a life":       {false, []report{{Description, all, true}}},
		"health is told of later":   {false, []report{{Description, all, true}, {Health, all, false}, {Description, all, false}, {Description | Health, all, true}}},
		"health was told of before": {true, []report{{Description, all, false}, {Description | Health | EffectiveConfig, all, true}}},
		"it reports no health now":  {true, []report{{Description, Description, true}}},
		"a status, once there is one": {true, []report{
			{Description | Health | EffectiveConfig, all, true},
			{ConfigStatus, all, false},
			{Description | Health | EffectiveConfig, all, false},
			{all, all, true},
		}},
	} {
		s := New(Claimed{LastSequence: 7, StateKnown: c.known}, nil, noon)
		for i, r := range c.reports {
			// One number is missing each time.
			arrival := Arrival{Sequence: 10 + 2*uint64(i), Tells: r.tells, Reports: r.reports, News: true}
			if got := s.Arrive(arrival, noon); got.Whole != r.whole || got.InDoubt == r.whole {
				t.Errorf("%s: report %d gives %+v, want whole %t", name, i, got, r.whole)
			}
		}
	}
	s := New(Claimed{LastSequence: 7, StateKnown: true}, nil, noon)
	if got := s.Arrive(Arrival{Sequence: 0, Tells: Description, Reports: all, News: true}, noon); !got.Whole || !got.Relay {
		t.Errorf("an agent that begins to count gives %+v", got)
	}
}
