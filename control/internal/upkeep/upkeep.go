// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package upkeep

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// How many offers are made: 1000 a minute for the whole installation, because one replica looks at a time. Each costs a
// handshake with a client certificate, of which a core does some 700 a second, and a signature; so agents that renew take a
// fortieth of a core, and 100 000 of them less than two hours of the window of a rotation.
const (
	// Pause is how often it is looked for certificates that are due.
	Pause        = 5 * time.Second
	offersAtOnce = 1000 * int(Pause) / int(time.Minute)
	// looksAtOnce bounds what is read and written in a transaction, turnsAtOnce how many there are in a row.
	looksAtOnce = 1000
	turnsAtOnce = 20
)

// Deps is what a Keeper needs.
type Deps struct {
	Store  store.Upkeep
	Policy Policy
	Log    *slog.Logger
	Meter  metric.Meter
	Now    func() time.Time
}

// Keeper looks after the certificates of agents. One at a time must in an installation.
type Keeper struct {
	d         Deps
	offers    instrument.Counter
	attention instrument.Counter
}

// New returns a Keeper; Look does the work.
func New(d Deps) (*Keeper, error) {
	made := instrument.On(d.Meter)
	k := &Keeper{
		d: d,
		offers: made.Counter("ampora_control_certificate_offers", "{offer}", "Certificates that agents are to be offered, by how often that was done before in the place of the same one.",
			instrument.By("attempt", attempts...)),
		attention: made.Counter("ampora_control_certificate_told", "{event}", "Agents of which it was told that somebody must look after their certificates, by how urgent it is.",
			instrument.By("event", string(fleet.EventCertificateExpiring), string(fleet.EventCertificateAttention))),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("upkeep: %w", err)
	}
	return k, nil
}

// attempts are the values of the label attempt.
var attempts = []string{"first", "second", "third"}

// Look does what is due, of offers as many as may be made at once: the others stay due, and come first the next time.
func (k *Keeper) Look(ctx context.Context) error {
	budget := offersAtOnce
	for range turnsAtOnce {
		now := k.d.Now()
		due, err := k.d.Store.DueUpkeep(ctx, now, looksAtOnce)
		if err != nil {
			return fmt.Errorf("certificates that are due: %w", err)
		}
		decided := decide(k.d.Policy, due, now, &budget)
		for _, lot := range fleet.ByTenant(decided, func(d store.UpkeepDecision) fleet.TenantID { return d.On.Tenant }) {
			if err := k.apply(ctx, lot, now); err != nil {
				return err
			}
		}
		if len(due) < looksAtOnce || len(decided) == 0 {
			return nil
		}
	}
	return nil
}

// decide decides for all that are due but those whose offers the budget does not allow.
func decide(p Policy, due []fleet.Upkeep, now time.Time, budget *int) (decided []store.UpkeepDecision) {
	for _, u := range due {
		step := Decide(p, u, now)
		if step.Offer {
			if *budget == 0 {
				continue
			}
			*budget--
		}
		decided = append(decided, store.UpkeepDecision{On: u, Step: step})
	}
	return decided
}

// apply does decisions of one tenant. What was left out is decided anew the next time.
func (k *Keeper) apply(ctx context.Context, lot []store.UpkeepDecision, now time.Time) error {
	done, err := k.d.Store.ApplyUpkeep(ctx, lot[0].On.Tenant, lot, now)
	if err != nil {
		return fmt.Errorf("certificates that are due: %w", err)
	}
	if left := len(lot) - done; left > 0 {
		k.d.Log.DebugContext(ctx, "certificates are looked at again: something has changed meanwhile", "agents", left)
	}
	for _, d := range lot {
		if d.Step.Offer {
			k.offers.Add(ctx, 1, attempts[min(d.On.Offers, len(attempts)-1)])
		}
		for _, e := range d.Step.Events {
			k.attention.Add(ctx, 1, string(e.Kind))
		}
	}
	k.tell(ctx, lot)
	return nil
}

// tell says what a person must look at.
func (k *Keeper) tell(ctx context.Context, lot []store.UpkeepDecision) {
	urgent := func(e fleet.Event) bool { return e.Kind == fleet.EventCertificateAttention }
	for _, d := range lot {
		if i := slices.IndexFunc(d.Step.Events, urgent); i >= 0 {
			k.d.Log.WarnContext(ctx, "the certificate of an agent needs attention", "tenant", d.On.Tenant, "agent", d.On.Agent, "serial", d.On.Serial, "because", d.Step.Events[i].Message)
		}
	}
}
