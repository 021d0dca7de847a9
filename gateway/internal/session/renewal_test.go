// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"testing"
)

func TestAnOfferOfACertificateIsMadeOnce(t *testing.T) {
	link := &slot{}
	s := New(Claimed{Epoch: 7}, link, noon)
	post := func(number int64, want Posting, written string) {
		t.Helper()
		got, hash := s.PostRenew(Address{Kind: "renew", Epoch: 7, Generation: number})
		if got != want || string(hash) != written {
			t.Errorf("number %d gives %v and %q, want %v and %q", number, got, hash, want, written)
		}
	}
	settings := func(number int64) *SettingsOffer {
		return &SettingsOffer{Number: number, Epoch: 7, Hash: []byte("hash"), Wire: []byte("secret")}
	}
	post(1, Posted, "")
	post(1, AlreadySent, "") // it is being made
	first := settings(1)
	if !s.PostSettings(first) || !s.HasMail() {
		t.Error("the offer was not taken")
	}
	post(2, Posted, "")
	if s.PostSettings(settings(1)) {
		t.Error("an offer that was asked for before the last was taken")
	}
	if !s.PostSettings(settings(2)) || string(first.Wire) == "secret" {
		t.Error("the key of an offer that nobody gets is kept")
	}
	if mail := s.TakeMail(); mail.Settings.Number != 2 {
		t.Errorf("the mail is %+v", mail)
	}
	s.Renewed(2, []byte("hash"))
	post(2, AlreadySent, "hash")
	post(1, Outdated, "")
	if s.PostSettings(settings(2)) {
		t.Error("an offer was taken twice")
	}
	post(3, Posted, "")
	s.GiveUpRenewal(3)
	post(3, Posted, "")
	s.Renewed(3, nil) // it is not to be made
	s.GiveUpRenewal(3)
	post(3, AlreadySent, "")
	if want := []int64{1, 2, 3, 3}; !slices.Equal(link.renews, want) {
		t.Errorf("the link made %v, want %v", link.renews, want)
	}
	post(4, Posted, "")
	last := settings(4)
	s.PostSettings(last)
	s.end()
	if string(last.Wire) == "secret" {
		t.Error("the key outlives the session")
	}
}
