// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/replica"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
)

// unsure is a store whose next commit loses its answer, with or without having written.
type unsure struct {
	store.Store
	next, writes bool
}

func (u *unsure) Record(ctx context.Context, r store.Record) (store.Recorded, error) {
	if !u.next {
		return u.Store.Record(ctx, r)
	}
	u.next = false
	if u.writes {
		if _, err := u.Store.Record(ctx, r); err != nil {
			return store.Recorded{}, err
		}
	}
	return store.Recorded{}, store.ErrUnknown
}

// living is a replica that has its lease, to the end of the test.
func living(t *testing.T, db store.Store) *replica.Replica {
	r := replica.New(replica.Deps{Store: db, ID: "inbox-1", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	changed, stopped := r.Changed(), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { stopped <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	<-changed
	if !r.Holds() {
		t.Fatal("the replica did not get its lease")
	}
	return r
}

// TestWhatMayBeOnRecordIsNoPoison: a batch whose fate is unknown is not taken apart, its reader begins again where the
// record says.
func TestWhatMayBeOnRecordIsNoPoison(t *testing.T) {
	for name, want := range map[string]struct {
		writes   bool
		position string
	}{"written": {true, "7"}, "not written": {false, ""}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ampora.db")
			if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
				t.Fatal(err)
			}
			db, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			in, err := New(Deps{
				Store: &unsure{db, true, want.writes}, Replica: living(t, db), Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: time.Now,
			})
			if err != nil {
				t.Fatal(err)
			}
			r := &reader{in: in, partition: 3, log: in.d.Log}
			if err := r.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := &fleet.SessionEnd{Tenant: "acme", Agent: "01980000-0000-7000-8000-000000000000", Epoch: 1, At: time.Unix(1000, 0)}
			if err := r.write(t.Context(), []fleet.Uplink{{Ended: ended}}, "7"); !errors.Is(err, store.ErrUnknown) {
				t.Fatalf("the reader went on with %v", err)
			}
			if err := r.acquire(t.Context()); err != nil || r.lease.Position != want.position {
				t.Errorf("the reader begins again at %q, want %q: %v", r.lease.Position, want.position, err)
			}
		})
	}
}
