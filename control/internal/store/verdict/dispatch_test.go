// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestOfDispatch(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fleet.Dispatch, *verdict.Addressee)
		want   verdict.Fate
	}{
		"an offer that is granted":                        {func(*fleet.Dispatch, *verdict.Addressee) {}, verdict.Send},
		"an offer of another generation":                  {func(d *fleet.Dispatch, _ *verdict.Addressee) { d.Generation = 2 }, verdict.PutOff},
		"an offer whose grant is settled":                 {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.Granted = 0 }, verdict.PutOff},
		"an offer whose rollout is closed at this moment": {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.Rollout = verdict.Deciding }, verdict.PutOff},
		"an offer whose rollout grants nothing": {func(_ *fleet.Dispatch, to *verdict.Addressee) {
			to.Rollout = verdict.UnderRollout(fleet.RolloutPaused)
		}, verdict.Park},
		"an offer whose rollout is completed": {func(_ *fleet.Dispatch, to *verdict.Addressee) {
			to.Rollout = verdict.UnderRollout(fleet.RolloutCompleted)
		}, verdict.Send},
		"a request while a rollout grants nothing": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Kind, to.Rollout = fleet.DispatchFullState, verdict.Stopped
		}, verdict.Send},
		"a request for full state": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Kind, to.Granted = fleet.DispatchFullState, 0
		}, verdict.Send},
		"to an ended session": {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.Open = false }, verdict.Park},
		"to nobody":           {func(_ *fleet.Dispatch, to *verdict.Addressee) { *to = verdict.Addressee{} }, verdict.Park},
		"over a former boot":  {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.LeaseUntil = time.Time{} }, verdict.Park},
		"when the lease ends": {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.LeaseUntil = now }, verdict.PutOff},
		"a moment before it":  {func(_ *fleet.Dispatch, to *verdict.Addressee) { to.LeaseUntil = now.Add(1) }, verdict.Send},
		"at the end of the grace": {func(_ *fleet.Dispatch, to *verdict.Addressee) {
			to.LeaseUntil = now.Add(-store.LeaseGrace)
		}, verdict.Park},
		"a moment before that": {func(_ *fleet.Dispatch, to *verdict.Addressee) {
			to.LeaseUntil = now.Add(1 - store.LeaseGrace)
		}, verdict.PutOff},
		"a stale offer without lease": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Generation, to.LeaseUntil = 2, time.Time{}
		}, verdict.Park},
		"a restart command": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Kind, d.ExpiresAt, to.Granted = fleet.DispatchRestart, now.Add(1), 0
		}, verdict.SendOnce},
		"a restart command whose time is over": {func(d *fleet.Dispatch, _ *verdict.Addressee) {
			d.Kind, d.ExpiresAt = fleet.DispatchRestart, now
		}, verdict.Drop},
		"a restart command to an ended session": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Kind, d.ExpiresAt, to.Open = fleet.DispatchRestart, now.Add(time.Minute), false
		}, verdict.Drop},
		"a restart command without lease": {func(d *fleet.Dispatch, to *verdict.Addressee) {
			d.Kind, d.ExpiresAt, to.LeaseUntil = fleet.DispatchRestart, now.Add(time.Minute), now
		}, verdict.PutOff},
	} {
		d := fleet.Dispatch{Kind: fleet.DispatchConfig, Generation: 1}
		to := verdict.Addressee{Epoch: 1, Gateway: "g", Open: true, LeaseUntil: now.Add(time.Minute), Granted: 1}
		c.change(&d, &to)
		if got := verdict.OfDispatch(d, to, now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
