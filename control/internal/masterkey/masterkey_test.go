// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package masterkey_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/masterkey"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var backends = map[string]func(t *testing.T) store.Store{
	"sqlite": func(t *testing.T) store.Store {
		path := filepath.Join(t.TempDir(), "ampora.db")
		if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	},
	"postgres": func(t *testing.T) store.Store { return postgrestest.Open(t) },
}

// keys are the keyrings of an installation before, during and after a rotation.
type keys struct{ before, during, after *seal.Keyring }

func newKeys() keys {
	old, next := seal.NewMasterKey(), seal.NewMasterKey()
	return keys{before: seal.NewKeyring(old, nil), during: seal.NewKeyring(next, &old), after: seal.NewKeyring(next, nil)}
}

// tenants of the installations under test.
var tenants = []fleet.TenantID{"acme", "globex", "initech"}

const secretBody = "password: hunter2"

// onBackends runs a test on a database of each kind with everything that is ever wrapped in it.
func onBackends(t *testing.T, test func(t *testing.T, db store.Store, k keys)) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, k := open(t), newKeys()
			furnish(t, db, k.before)
			test(t, db, k)
		})
	}
}

// furnish writes what an installation of some age holds.
func furnish(t *testing.T, db store.Store, ring *seal.Keyring) {
	t.Helper()
	must(t, second(db.FixSetting(t.Context(), fleet.WrappedKeyCheck.Only, ring.Check())))
	for _, c := range []fleet.WrappedColumn{fleet.WrappedDownlinkKey, fleet.WrappedUplinkSecret, fleet.WrappedControlCertificate} {
		wrapped, err := ring.Wrap(seal.At(c, "", c.Only), []byte("a secret of the installation"))
		must(t, err)
		must(t, second(db.FixSetting(t.Context(), c.Only, wrapped)))
	}
	retired := fleet.KeyID("retired")
	wrapped, err := ring.Wrap(pki.KeyBinding("acme", retired), []byte("a key that signs no more"))
	must(t, err)
	must(t, db.CreateSigningKeys(t.Context(), "acme", []fleet.SigningKey{{
		ID: retired, Tenant: "acme", State: fleet.SigningKeyRetired, Kind: fleet.SigningKeyRoot, Algorithm: "ecdsa-p256",
		CertificateDER: []byte("der"), SealedKey: wrapped, CreatedAt: now,
	}}))
	bodies, authority := content.New(db, ring), openAuthority(t, db, ring)
	for _, tenant := range tenants {
		must(t, second(bodies.EnsureTenant(t.Context(), tenant, now)))
		must(t, authority.EnsureTenant(t.Context(), tenant, now))
		must(t, second(bodies.Put(t.Context(), tenant, now, []byte(secretBody))))
		key, err := authority.ActiveKey(t.Context(), tenant)
		must(t, err)
		responder, err := authority.IssueResponder(t.Context(), tenant, key, now)
		must(t, err)
		must(t, db.PutResponder(t.Context(), responder, ""))
	}
	must(t, second(authority.ControlTrust(t.Context(), now))) // keys of no tenant
}

func openAuthority(t *testing.T, db store.Store, ring *seal.Keyring) *pki.Authority {
	t.Helper()
	authority, err := pki.Open(t.Context(), pki.Config{TrustDomain: "example.org", PublicURL: "http://pki.example.org"}, db, ring)
	must(t, err)
	return authority
}

// works fails the test unless everything in the database can be used with the ring: every record opens, and the parts of
// the control plane that rely on them do what they do.
func works(t *testing.T, db store.Store, ring *seal.Keyring) {
	t.Helper()
	standings, err := masterkey.Count(t.Context(), db, ring)
	must(t, err)
	for _, s := range standings {
		if s.Total == 0 || len(s.Damaged) > 0 {
			t.Errorf("%s: %d records, damaged %v", s.Column.Purpose, s.Total, s.Damaged)
		}
	}
	bodies, authority := content.New(db, ring), openAuthority(t, db, ring)
	for _, tenant := range tenants {
		got, err := bodies.Get(t.Context(), tenant, fleet.HashOf([]byte(secretBody)))
		if err != nil || string(got) != secretBody {
			t.Errorf("a body of %s: %q, %v", tenant, got, err)
		}
		if _, err := authority.Bundle(t.Context(), tenant); err != nil {
			t.Errorf("the authority of %s: %v", tenant, err)
		}
		key, err := authority.ActiveKey(t.Context(), tenant)
		must(t, err)
		responder, err := db.Responder(t.Context(), key)
		must(t, err)
		if _, err := authority.OpenResponder(t.Context(), responder); err != nil {
			t.Errorf("the responder of %s: %v", tenant, err)
		}
	}
}

// under is how many records are under the ring's active key, of how many.
func under(t *testing.T, db store.Store, ring *seal.Keyring) (n, total int) {
	t.Helper()
	standings, err := masterkey.Count(t.Context(), db, nil)
	must(t, err)
	for _, s := range standings {
		n, total = n+s.Under[ring.ActiveKeyID()], total+s.Total
	}
	return n, total
}

func rotation(db masterkey.Store, ring *seal.Keyring) masterkey.Rotation {
	return masterkey.Rotation{Store: db, Ring: ring, Now: func() time.Time { return now }, Told: func(fleet.WrappedColumn, int, int) {}}
}

func TestEverythingIsUnderTheNewKeyAfterwards(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		works(t, db, k.before)
		told := map[string]int{}
		r := rotation(db, k.during)
		r.Told = func(c fleet.WrappedColumn, looked, total int) {
			if looked > total {
				t.Errorf("%s: %d of %d", c.Purpose, looked, total)
			}
			told[c.Purpose] = looked
		}
		out, err := r.Run(t.Context())
		must(t, err)
		n, total := under(t, db, k.after)
		if n != total || out.Rewrapped != total || len(out.Failed) > 0 {
			t.Errorf("%d of %d records are under the new key, %+v", n, total, out)
		}
		sum := 0
		for _, n := range told {
			sum += n
		}
		if sum != total {
			t.Errorf("told of %v, there are %d", told, total)
		}
		works(t, db, k.after)
		works(t, db, k.during)
		audited, _, err := db.AuditRecords(t.Context(), "globex", "globex", fleet.Page{Size: 10})
		must(t, err)
		if len(audited) != 1 || audited[0].Action != "master_key.rotate" {
			t.Errorf("audited %+v", audited)
		}

		// Once more, and with the new key alone: there is nothing to do.
		for _, ring := range []*seal.Keyring{k.during, k.after} {
			if again, err := rotation(db, ring).Run(t.Context()); err != nil || again.Rewrapped != 0 || len(again.Failed) > 0 {
				t.Errorf("once more: %+v, %v", again, err)
			}
		}
		stored, err := db.Envelopes(t.Context(), fleet.WrappedKeyCheck, "", "", 1)
		must(t, err)
		if err := k.before.VerifyCheck(stored[0].Value); !errors.Is(err, seal.ErrWrongMasterKey) {
			t.Errorf("a process with the old key alone starts: %v", err)
		}
	})
}

// dying is a store whose n-th call ends the process: before it did anything, or after it did all.
type dying struct {
	masterkey.Store
	left  int
	after bool
}

var errDied = errors.New("the process died")

func die[T any](d *dying, do func() (T, error)) (T, error) {
	var none T
	d.left--
	switch {
	case d.left < 0, d.left == 0 && !d.after:
		return none, errDied
	case d.left == 0:
		if _, err := do(); err != nil {
			return none, err
		}
		return none, errDied
	default:
		return do()
	}
}

func (d *dying) Tenants(ctx context.Context) ([]fleet.Tenant, error) {
	return die(d, func() ([]fleet.Tenant, error) { return d.Store.Tenants(ctx) })
}

func (d *dying) Envelopes(ctx context.Context, c fleet.WrappedColumn, tenant fleet.TenantID, after string, most int) ([]fleet.Envelope, error) {
	return die(d, func() ([]fleet.Envelope, error) { return d.Store.Envelopes(ctx, c, tenant, after, most) })
}

func (d *dying) ReplaceEnvelope(ctx context.Context, by fleet.By, c fleet.WrappedColumn, was fleet.Envelope, value []byte) error {
	_, err := die(d, func() (struct{}, error) { return struct{}{}, d.Store.ReplaceEnvelope(ctx, by, c, was, value) })
	return err
}

// TestAProcessMayDieAtEveryCall lets a rotation end at its first store call, the next one at its second, and so on, each
// going on from what the ones before left. At no moment is anything unreadable to who holds both keys, and while a single
// record is under the old key the key-check value is.
func TestAProcessMayDieAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after it %v", after), func(t *testing.T) {
			t.Parallel()
			onBackends(t, func(t *testing.T, db store.Store, k keys) {
				for n := 1; ; n++ {
					_, err := rotation(&dying{Store: db, left: n, after: after}, k.during).Run(t.Context())
					whole(t, db, k)
					if err == nil {
						break
					}
					if !errors.Is(err, errDied) {
						t.Fatal(err)
					}
				}
				works(t, db, k.after)
				if n, total := under(t, db, k.after); n != total {
					t.Errorf("%d of %d records are under the new key", n, total)
				}
			})
		})
	}
}

func whole(t *testing.T, db store.Store, k keys) {
	t.Helper()
	standings, err := masterkey.Count(t.Context(), db, k.during)
	must(t, err)
	old, check := 0, 0
	for _, s := range standings {
		if len(s.Damaged) > 0 {
			t.Fatalf("%s: damaged %v", s.Column.Purpose, s.Damaged)
		}
		if s.Column == fleet.WrappedKeyCheck {
			check = s.Under[k.before.ActiveKeyID()]
		} else {
			old += s.Under[k.before.ActiveKeyID()]
		}
	}
	if old > 0 && check == 0 {
		t.Fatalf("%d records are under the old key, and the key-check value is not", old)
	}
}

func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		var mu sync.Mutex
		var all sync.WaitGroup
		sum := 0
		for range 4 {
			all.Go(func() {
				out, err := rotation(db, k.during).Run(t.Context())
				if err != nil || len(out.Failed) > 0 {
					t.Errorf("%+v, %v", out, err)
				}
				mu.Lock()
				defer mu.Unlock()
				sum += out.Rewrapped
			})
		}
		all.Wait()
		if n, total := under(t, db, k.after); n != total || sum != total {
			t.Errorf("%d of %d records are under the new key; %d were done", n, total, sum)
		}
		works(t, db, k.after)
	})
}

// TestWhatComesMeanwhileIsNotForgotten: a replica whose keys were not swapped yet makes a tenant while the rotation is
// past the tenants.
func TestWhatComesMeanwhileIsNotForgotten(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		r := rotation(db, k.during)
		late := sync.OnceFunc(func() { must(t, second(content.New(db, k.before).EnsureTenant(t.Context(), "late", now))) })
		r.Told = func(c fleet.WrappedColumn, _, _ int) {
			if c == fleet.WrappedUplinkSecret {
				late()
			}
		}
		must(t, second(r.Run(t.Context())))
		if n, total := under(t, db, k.after); n != total {
			t.Errorf("%d of %d records are under the new key", n, total)
		}
	})
}

// TestAMovingTarget: as long as somebody seals under the old key, nobody is told that it is not needed.
func TestAMovingTarget(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		r := rotation(db, k.during)
		made := 0
		r.Told = func(c fleet.WrappedColumn, _, _ int) {
			if c == fleet.WrappedUplinkSecret {
				made++
				must(t, second(content.New(db, k.before).EnsureTenant(t.Context(), fleet.TenantID(fmt.Sprint("t", made)), now)))
			}
		}
		if _, err := r.Run(t.Context()); !errors.Is(err, masterkey.ErrMoving) {
			t.Errorf("got %v", err)
		}
		whole(t, db, k)
	})
}

func TestADamagedRecordIsNamedAndTheOthersAreDone(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		damage := func(c fleet.WrappedColumn, tenant fleet.TenantID, change func(value []byte) []byte) masterkey.Record {
			e, err := db.Envelopes(t.Context(), c, tenant, "", 1)
			must(t, err)
			must(t, db.ReplaceEnvelope(t.Context(), fleet.System(tenant, now), c, e[0], change(slices.Clone(e[0].Value))))
			return masterkey.Record{Column: c, Tenant: tenant, Key: e[0].Key}
		}
		stranger := seal.NewKeyring(seal.NewMasterKey(), nil)
		bad := []masterkey.Record{
			damage(fleet.WrappedDataKey, "acme", func(v []byte) []byte { v[len(v)-1]++; return v }), // the data
			damage(fleet.WrappedDataKey, "globex", func(v []byte) []byte { v[20]++; return v }),     // the head
			damage(fleet.WrappedCAKey, "globex", func([]byte) []byte { return []byte("no envelope") }),
			damage(fleet.WrappedUplinkSecret, "", func([]byte) []byte {
				v, err := stranger.Wrap(seal.At(fleet.WrappedUplinkSecret, "", "uplink_secret"), []byte("under a third key"))
				must(t, err)
				return v
			}),
		}
		out, err := rotation(db, k.during).Run(t.Context())
		must(t, err)
		var named []masterkey.Record
		for _, f := range out.Failed {
			named = append(named, f.Record)
			if f.Why == nil || !strings.Contains(f.Record.String(), f.Key) {
				t.Errorf("%v: %v", f.Record, f.Why)
			}
		}
		if !slices.Equal(named, bad) {
			t.Errorf("named %v, want %v", named, bad)
		}
		n, total := under(t, db, k.after)
		if want := total - len(bad) - 1; n != want || out.Rewrapped != want {
			t.Errorf("%d of %d records are under the new key, want %d; %d were done", n, total, want, out.Rewrapped)
		}
		stored, err := db.Envelopes(t.Context(), fleet.WrappedKeyCheck, "", "", 1)
		must(t, err)
		if err := k.before.VerifyCheck(stored[0].Value); err != nil {
			t.Errorf("the key-check value was replaced: %v", err)
		}
		standings, err := masterkey.Count(t.Context(), db, k.during)
		must(t, err)
		damaged := 0
		for _, s := range standings {
			damaged += len(s.Damaged)
		}
		if damaged != 3 { // what is under a third key is not damaged, as far as anybody can tell
			t.Errorf("%d are counted as damaged", damaged)
		}
	})
}

func TestAForeignKeyChangesNothing(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store, k keys) {
		if _, err := rotation(db, newKeys().during).Run(t.Context()); !errors.Is(err, seal.ErrWrongMasterKey) {
			t.Errorf("got %v", err)
		}
		works(t, db, k.before)
	})
}

func TestAnEmptyDatabaseStaysEmpty(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			if _, err := rotation(db, newKeys().during).Run(t.Context()); !errors.Is(err, masterkey.ErrEmpty) {
				t.Errorf("got %v", err)
			}
			if _, total := under(t, db, newKeys().after); total != 0 {
				t.Errorf("%d records came up", total)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }
