// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

// script answers questions about trust in turn, and notes them.
type script struct {
	internalv1connect.GatewayServiceClient
	answers []*internalv1.GetTrustResponse
	asked   []*internalv1.GetTrustRequest
}

func (s *script) GetTrust(_ context.Context, r *internalv1.GetTrustRequest) (*internalv1.GetTrustResponse, error) {
	s.asked = append(s.asked, r)
	if len(s.answers) == 0 {
		return nil, connect.NewError(connect.CodeUnavailable, "away")
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer, nil
}

func TestRevocationsAreAddedUp(t *testing.T) {
	authority := gatewaytest.NewAuthority(t, "acme")
	answer := func(version string, whole bool, number int64, serials ...string) *internalv1.GetTrustResponse {
		return &internalv1.GetTrustResponse{Version: version, TrustDomain: "x", Line: "l", Tenants: []*internalv1.TenantTrust{
			{Tenant: "acme", RootsPem: authority.RootPEM(), Whole: whole, Revocation: number, RevokedSerials: serials},
		}}
	}
	now := noon
	control := &script{}
	var fresh int
	trust := NewTrust(TrustConfig{
		Control: control, Log: slog.New(slog.DiscardHandler), Clock: func() time.Time { return now }, Limit: time.Minute, OnNew: func(*Snapshot) { fresh++ },
	})
	refresh := func(answers ...*internalv1.GetTrustResponse) *Snapshot {
		t.Helper()
		control.answers, control.asked, fresh = answers, nil, 0
		if err := trust.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		snapshot, err := trust.Current()
		if err != nil || len(control.answers) > 0 {
			t.Fatalf("%v, %d answers are left", err, len(control.answers))
		}
		return snapshot
	}
	want := func(s *Snapshot, serials ...string) {
		t.Helper()
		for _, serial := range []string{"a", "b", "c", "d"} {
			if s.Revoked("acme", identity.Serial(serial)) != slices.Contains(serials, serial) {
				t.Errorf("%s is revoked: %t", serial, !slices.Contains(serials, serial))
			}
		}
	}
	// Nobody is let in by half of a snapshot.
	control.answers = []*internalv1.GetTrustResponse{answer("", true, 1, "a")}
	if err := trust.Refresh(t.Context()); err == nil {
		t.Fatal("half of it was taken")
	}
	if _, err := trust.Current(); err == nil {
		t.Fatal("half of it is used")
	}
	want(refresh(answer("", true, 1, "a"), answer("v1", false, 2, "b")), "a", "b")
	if fresh != 1 || len(control.asked) != 2 || control.asked[1].GetRevocations()["acme"] != 1 || control.asked[1].GetLine() != "l" || control.asked[1].GetVersion() != "" {
		t.Errorf("asked %v, new %d times", control.asked, fresh)
	}
	before := refresh(&internalv1.GetTrustResponse{Version: "v1"})
	want(before, "a", "b")
	if fresh != 0 || control.asked[0].GetVersion() != "v1" || control.asked[0].GetRevocations()["acme"] != 2 {
		t.Errorf("asked %v, new %d times", control.asked, fresh)
	}
	want(refresh(answer("v2", false, 3, "c")), "a", "b", "c")
	want(before, "a", "b") // which does not change
	// From time to time it is asked for as a whole: what has expired is forgotten.
	now = now.Add(wholeAge)
	want(refresh(answer("v2", true, 3, "c")), "c")
	if fresh != 1 || control.asked[0].GetVersion() != "" || len(control.asked[0].GetRevocations()) != 0 {
		t.Errorf("asked %v, new %d times", control.asked, fresh)
	}
	want(refresh(answer("v3", true, 1, "d")), "d") // of another line
}

// What is added settles, in whatever portions it comes, and nothing of it is lost.
func TestRevocationsSettle(t *testing.T) {
	var all revocations
	var serials []string
	for i := range 40 {
		var portion []string
		for n := range 1 + 97*(i%5) {
			portion = append(portion, fmt.Sprint(i, "/", n))
		}
		before := all
		all = all.and(portion, int64(i))
		serials = append(serials, portion...)
		if before.has(identity.Serial(portion[0])) || all.number != int64(i) {
			t.Fatal("a set was changed")
		}
	}
	for _, serial := range serials {
		if !all.has(identity.Serial(serial)) {
			t.Fatalf("%s is lost", serial)
		}
	}
	if len(all.settled)+len(all.recent) != len(serials) || len(all.settled) == 0 || all.has("other") {
		t.Errorf("of %d there are %d and %d", len(serials), len(all.settled), len(all.recent))
	}
}
