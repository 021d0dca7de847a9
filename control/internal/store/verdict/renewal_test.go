// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestOfRenewal(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	asked := fleet.CertificateRenewal{Tenant: "t", Agent: "a", Serial: "1", Fingerprint: "f", At: now}
	shown := fleet.Certificate{Agent: "a", Serial: "1", Fingerprint: "f", CreatedAt: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	given := fleet.Certificate{Agent: "a", Serial: "2", CreatedAt: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}
	taken := given
	taken.RevokedAt = now
	for name, c := range map[string]struct {
		change func(*verdict.Renewing)
		reason string
		given  bool
	}{
		"first":               {change: func(*verdict.Renewing) {}},
		"nothing on record":   {func(on *verdict.Renewing) { on.Shown = nil }, fleet.RefusedNotRecorded, false},
		"no such agent":       {func(on *verdict.Renewing) { on.Identity = nil }, fleet.RefusedNotRecorded, false},
		"of another agent":    {func(on *verdict.Renewing) { on.Shown.Agent = "b" }, fleet.RefusedNotRecorded, false},
		"of another issuer":   {func(on *verdict.Renewing) { on.Shown.Fingerprint = "g" }, fleet.RefusedNotRecorded, false},
		"revoked":             {func(on *verdict.Renewing) { on.Shown.RevokedAt = now }, fleet.RefusedRevoked, false},
		"quarantined":         {func(on *verdict.Renewing) { on.Identity.QuarantinedAt = now }, fleet.RefusedQuarantined, false},
		"expired this moment": {func(on *verdict.Renewing) { on.Shown.NotAfter = now }, fleet.RefusedExpired, false},
		"once more":           {func(on *verdict.Renewing) { on.Given = &given }, "", true},
		"once more, with many": {func(on *verdict.Renewing) {
			on.Given, on.Recent = &given, fleet.RenewalLimit
		}, "", true},
		"the key of the one shown": {func(on *verdict.Renewing) { on.Given = on.Shown }, fleet.RefusedKeyNotNew, false},
		"a key of before": {func(on *verdict.Renewing) {
			on.Given = &given
			on.Shown.CreatedAt = now
		}, fleet.RefusedKeyNotNew, false},
		"given, and revoked since": {func(on *verdict.Renewing) { on.Given = &taken }, fleet.RefusedRevoked, false},
		"too often":                {func(on *verdict.Renewing) { on.Recent = fleet.RenewalLimit }, fleet.RefusedTooOften, false},
		"nearly":                   {change: func(on *verdict.Renewing) { on.Recent = fleet.RenewalLimit - 1 }},
	} {
		shown := shown
		on := verdict.Renewing{Shown: &shown, Identity: &verdict.Seat{Agent: "a"}}
		c.change(&on)
		if got := verdict.OfRenewal(asked, on); got.Reason != c.reason || (got.Given != nil) != c.given {
			t.Errorf("%s: %+v, want %q, given %t", name, got, c.reason, c.given)
		}
	}
}
