// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package revocation tells others than our own gateways what is revoked: it keeps a list for each signing key current
// (RFC 5280, section 5), and hands lists and trust bundles out to anybody, without a login.
//
// A revocation is on the list of its key within [Pause] and the time of a signature, whichever replica signs; a list is
// signed anew each [Renewal] in any case and good for pki.ListLifetime, so that a key service may be away for long. Each
// revoked certificate is on one list at least, also if it expires meanwhile. Two replicas that sign at once agree on one
// list: the other is dropped.
package revocation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/instrument"
)

const (
	// Pause is how long after one look for what is due the next one comes: what is revoked meanwhile shares one list.
	Pause = 2 * time.Second
	// Renewal is the age at which a list is signed anew.
	Renewal = time.Hour
	// awayPause is the rest of a key whose key service cannot be used.
	awayPause = 20 * time.Second
	// signers is how many lists are signed at once, so that keys in a key service that hangs hold up no others.
	signers = 8
)

// Deps is what Lists need.
type Deps struct {
	Store     store.RevocationLists
	Authority *pki.Authority
	// Tenant is the one that the addresses without a key are about.
	Tenant fleet.TenantID
	Log    *slog.Logger
	Meter  metric.Meter
	Now    func() time.Time
}

// Lists keeps the lists and hands them out.
type Lists struct {
	d      Deps
	signed instrument.Counter
	// shown are the lists that were handed out of late, and looking bounds how many look for one at a time.
	shown   shown
	looking chan struct{}
	// unknown are keys that were complained about, and away those whose key service could not be used, with when to try again.
	unknown, away sync.Map
}

// New returns Lists.
func New(d Deps) (*Lists, error) {
	made := instrument.On(d.Meter)
	l := &Lists{d: d, shown: shown{lists: map[fleet.KeyID]seen{}}, looking: make(chan struct{}, looks), signed: made.Counter("ampora_control_revocation_lists", "{list}",
		"Revocation lists by what became of them: superseded is one that another replica signed meanwhile.",
		instrument.By("outcome", "signed", "superseded", "failed"))}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	return l, nil
}

// Renew signs the lists that are due. One that cannot be signed holds up no other; what is handed out stays the former.
func (l *Lists) Renew(ctx context.Context) error {
	due, err := l.d.Store.DueLists(ctx, l.d.Now().Add(-Renewal))
	if err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	failed, free := make([]error, len(due)), make(chan struct{}, signers)
	var all sync.WaitGroup
	for i, of := range due {
		free <- struct{}{}
		all.Go(func() {
			failed[i] = l.sign(ctx, of.Tenant, of.Key)
			<-free
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func (l *Lists) sign(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID) error {
	now := l.d.Now()
	if until, away := l.away.Load(key); away && now.Before(until.(time.Time)) {
		return nil
	}
	revoked, number, err := l.d.Store.RevokedBy(ctx, tenant, key, now)
	if err != nil {
		return fmt.Errorf("what key %s has revoked: %w", key, err)
	}
	list, err := l.d.Authority.SignList(ctx, tenant, key, number+1, revoked, now)
	if fault.Is(err, pki.ReasonUnknownKey) {
		if _, told := l.unknown.LoadOrStore(key, true); !told { // and no more: nothing will change about it
			l.d.Log.WarnContext(ctx, "certificates are revoked of a key that signs no lists any more", "tenant", tenant, "key", key)
		}
		return nil
	}
	if err != nil {
		if fault.Is(err, pki.ReasonKMSUnavailable) {
			l.away.Store(key, now.Add(awayPause))
		}
		l.signed.Add(ctx, 1, "failed")
		return err
	}
	err = l.d.Store.PutRevocationList(ctx, list, revoked)
	if errors.Is(err, store.ErrConflict) {
		l.signed.Add(ctx, 1, "superseded")
		return nil
	}
	if err != nil {
		l.signed.Add(ctx, 1, "failed")
		return fmt.Errorf("store the list of key %s: %w", key, err)
	}
	l.signed.Add(ctx, 1, "signed")
	l.d.Log.InfoContext(ctx, "revocation list signed", "tenant", tenant, "key", key, "number", list.Number, "revoked", len(revoked))
	return nil
}
