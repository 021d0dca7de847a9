// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/identity"
)

// refusing is a store that cannot read what there is to know about one agent, nor of others together with it.
type refusing struct {
	store.Store
	agent fleet.AgentID
	why   error
	reads int
}

func (r *refusing) Situations(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef) ([]fleet.Situation, error) {
	r.reads++
	if slices.Contains(agents, r.agent) {
		return nil, r.why
	}
	return r.Store.Situations(ctx, tenant, agents, rendered)
}

type world struct {
	*testing.T
	db  *sqlite.Store
	now time.Time
}

func newWorld(t *testing.T) *world {
	path := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &world{T: t, db: db, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// agents enrols agents of a tenant, to each of whom a configuration is assigned.
func (w *world) agents(tenant fleet.TenantID, n int) (ids []fleet.AgentID) {
	w.Helper()
	_, err := w.db.EnsureTenant(w.Context(), fleet.Tenant{ID: tenant, CreatedAt: w.now, WrappedDataKey: []byte("k")})
	w.must(err)
	config := w.version(tenant)
	by := fleet.System(tenant, w.now)
	for range n {
		id := fleet.AgentID(identity.NewAgentID())
		sum := sha256.Sum256([]byte(id))
		token := fleet.BootstrapToken{ID: fleet.TokenID(identity.NewAgentID()), Tenant: tenant, Hash: sum, CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour)}
		w.must(w.db.IssueBootstrapToken(w.Context(), by, token))
		w.must(errors.Join(w.db.Redeem(w.Context(), []store.Redemption{{
			By: by, Token: token.ID, Agent: id, Method: fleet.EnrolledByEST,
			Certificate: fleet.Certificate{Tenant: tenant, Serial: fleet.Serial(id), Agent: id, NotBefore: w.now, NotAfter: w.now, DER: []byte{1}, ChainPEM: []byte{1}, CreatedAt: w.now},
		}})...))
		_, _, err := w.db.Assign(w.Context(), by, fleet.Assignment{
			Tenant: tenant, Target: fleet.Target{Agent: id}, Config: config, Version: 1, CreatedAt: w.now,
		}, 1)
		w.must(err)
		ids = append(ids, id)
	}
	return ids
}

func (w *world) version(tenant fleet.TenantID) fleet.ConfigID {
	w.Helper()
	id, by := fleet.ConfigID(identity.NewAgentID()), fleet.System(tenant, w.now)
	w.must(w.db.PutBodies(w.Context(), tenant, w.now, []store.SealedBody{{Size: 1, Sealed: []byte("sealed")}}))
	_, err := w.db.CreateConfig(w.Context(), by, fleet.Config{Tenant: tenant, ID: id, Name: string(id), Kind: fleet.KindOpaque, CreatedAt: w.now},
		&fleet.ConfigVersion{Tenant: tenant, Config: id, Version: 1, State: fleet.VersionDraft, Revision: 1, CreatedAt: w.now})
	w.must(err)
	_, err = w.db.PublishConfigVersion(w.Context(), by, fleet.Publication{Config: id, Version: 1})
	w.must(err)
	return id
}

func (w *world) engine(db store.Work) *Engine {
	w.Helper()
	e, err := New(Deps{Store: db, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return w.now }})
	w.must(err)
	return e
}

// advanced are the agents of whom the engine has told where they stand.
func (w *world) advanced(tenant fleet.TenantID, of []fleet.AgentID) (n int) {
	w.Helper()
	for _, id := range of {
		a, err := w.db.Agent(w.Context(), tenant, id)
		w.must(err)
		if a.Delivery.State == fleet.DeliveryPending {
			n++
		}
	}
	return n
}

func TestOneAgentHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	ids := w.agents("acme", 20)
	r := &refusing{Store: w.db, agent: ids[7], why: errors.New("its row is broken")}
	e := w.engine(r)
	if n, err := e.Turn(t.Context()); err != nil || n != 20 {
		t.Fatalf("turned %d, %v", n, err)
	}
	if n := w.advanced("acme", ids); n != 19 {
		t.Errorf("%d of 20 advanced", n)
	}
	if n, err := e.Turn(t.Context()); err != nil || n != 0 {
		t.Errorf("it is tried at once again: %d, %v", n, err)
	}
	r.agent, w.now = "", w.now.Add(claimLife)
	if n, err := e.Turn(t.Context()); err != nil || n != 1 || w.advanced("acme", ids) != 20 {
		t.Errorf("when its claim has run out: %d, %v", n, err)
	}
}

func TestADatabaseThatIsAwayEndsTheTurn(t *testing.T) {
	for _, why := range []error{store.ErrUnavailable, store.ErrUnknown} {
		w := newWorld(t)
		ids := w.agents("acme", 3)
		r := &refusing{Store: w.db, agent: ids[0], why: fmt.Errorf("injected: %w", why)}
		if _, err := w.engine(r).Turn(t.Context()); !errors.Is(err, why) || r.reads != 1 {
			t.Errorf("%v after %d reads, want %v after one", err, r.reads, why)
		}
	}
}

func TestEveryTenantHasItsTurn(t *testing.T) {
	w := newWorld(t)
	acme, umbrella := w.agents("acme", 3), w.agents("umbrella", 2)
	if n, err := w.engine(w.db).Turn(t.Context()); err != nil || n != 5 {
		t.Fatalf("turned %d, %v", n, err)
	}
	if a, u := w.advanced("acme", acme), w.advanced("umbrella", umbrella); a != 3 || u != 2 {
		t.Errorf("%d of 3 and %d of 2 advanced", a, u)
	}
}

func TestByTenant(t *testing.T) {
	var got []string
	for _, part := range byTenant([]store.WorkItem{{Tenant: "b"}, {Tenant: "a"}, {Tenant: "b"}, {Tenant: "c"}, {Tenant: "a"}, {Tenant: "b"}}) {
		got = append(got, fmt.Sprint(part[0].Tenant, len(part)))
		if slices.ContainsFunc(part, func(i store.WorkItem) bool { return i.Tenant != part[0].Tenant }) {
			t.Errorf("a part of several tenants: %v", part)
		}
	}
	if want := []string{"a2", "b3", "c1"}; !slices.Equal(got, want) {
		t.Errorf("parts are %v, want %v", got, want)
	}
	if byTenant(nil) != nil {
		t.Error("nothing became something")
	}
}
