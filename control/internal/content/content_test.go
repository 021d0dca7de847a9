// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package content_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *sqlite.Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := migrations.Apply(t.Context(), "sqlite:"+file); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func ensure(t *testing.T, c *content.Content, tenants ...fleet.TenantID) {
	t.Helper()
	for _, id := range tenants {
		if _, err := c.EnsureTenant(t.Context(), id, noon); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBodiesComeBack(t *testing.T) {
	db, ring := open(t), seal.NewKeyring(seal.NewMasterKey(), nil)
	c := content.New(db, ring)
	ensure(t, c, "a", "b")
	bodies := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{0xff, 0}, 1<<20)}
	hashes, err := c.Put(t.Context(), "a", noon, bodies...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "a", noon, bodies...); err != nil {
		t.Errorf("put twice: %v", err)
	}
	for _, reader := range []*content.Content{c, content.New(db, ring)} { // with the key in memory, and without
		for i, hash := range hashes {
			got, err := reader.Get(t.Context(), "a", hash)
			if err != nil || !bytes.Equal(got, bodies[i]) || hash != fleet.HashOf(bodies[i]) {
				t.Errorf("body %d: %d bytes, %v", i, len(got), err)
			}
		}
	}
	if _, err := c.Get(t.Context(), "b", hashes[0]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another tenant gets %v", err)
	}
	if _, err := c.Get(t.Context(), "nobody", hashes[0]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a tenant that is none gets %v", err)
	}
}

func TestMovedBodiesDoNotOpen(t *testing.T) {
	db := open(t)
	c := content.New(db, seal.NewKeyring(seal.NewMasterKey(), nil))
	ensure(t, c, "a", "b")
	hashes, err := c.Put(t.Context(), "a", noon, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := db.Body(t.Context(), "a", hashes[0])
	if err != nil {
		t.Fatal(err)
	}
	other := fleet.HashOf([]byte("two"))
	for tenant, hash := range map[fleet.TenantID]fleet.ContentHash{"a": other, "b": hashes[0]} {
		moved := store.SealedBody{Hash: hash, Size: sealed.Size, Sealed: sealed.Sealed}
		if err := db.PutBodies(t.Context(), tenant, noon, []store.SealedBody{moved}); err != nil {
			t.Fatal(err)
		}
		if body, err := c.Get(t.Context(), tenant, hash); body != nil || !errors.Is(err, seal.ErrTampered) && !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("moved to %s %s: %q, %v", tenant, hash, body, err)
		}
	}
}

func TestFirstDataKeyStays(t *testing.T) {
	db, ring := open(t), seal.NewKeyring(seal.NewMasterKey(), nil)
	var processes sync.WaitGroup
	wrapped := make([][]byte, 4)
	for i := range wrapped {
		processes.Go(func() {
			c := content.New(db, ring)
			made, err := c.EnsureTenant(t.Context(), "a", noon)
			if err != nil {
				t.Error(err)
			}
			wrapped[i] = made.WrappedDataKey
			if _, err := c.Put(t.Context(), "a", noon, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	processes.Wait()
	c := content.New(db, ring)
	for i := range wrapped {
		if !bytes.Equal(wrapped[i], wrapped[0]) {
			t.Error("two processes have two data keys")
		}
		if _, err := c.Get(t.Context(), "a", fleet.HashOf([]byte{byte(i)})); err != nil {
			t.Errorf("what process %d stored: %v", i, err)
		}
	}
}

func TestWrongMasterKey(t *testing.T) {
	db := open(t)
	ensure(t, content.New(db, seal.NewKeyring(seal.NewMasterKey(), nil)), "a")
	wrong := content.New(db, seal.NewKeyring(seal.NewMasterKey(), nil))
	if _, err := wrong.EnsureTenant(t.Context(), "a", noon); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("the tenant opens: %v", err)
	}
	if _, err := wrong.Put(t.Context(), "a", noon, []byte("x")); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("a body is sealed: %v", err)
	}
}
