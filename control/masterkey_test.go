// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/masterkey"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/conf"
)

// fixing notes the settings that a control plane fixes.
type fixing struct {
	store.Store
	mu     sync.Mutex
	values map[string][]byte
}

func (f *fixing) FixSetting(ctx context.Context, name string, value []byte) ([]byte, error) {
	stored, err := f.Store.FixSetting(ctx, name, value)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[name] = stored
	return stored, err
}

// TestEverySecretSettingIsDeclared: what a start seals among the settings, a rotation of the master key must know.
func TestEverySecretSettingIsDeclared(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		f := &fixing{Store: db, values: map[string][]byte{}}
		start(t, f, newBus(t), newMasterKey())
		sealed := 0
		for name, value := range f.values {
			if _, is := seal.MasterKeyOf(value); !is {
				continue
			}
			sealed++
			if !slices.ContainsFunc(fleet.WrappedColumns, func(c fleet.WrappedColumn) bool { return c.Table == "settings" && c.Only == name }) {
				t.Errorf("the setting %s is sealed, and fleet.WrappedColumns does not declare it", name)
			}
		}
		if sealed < 3 {
			t.Errorf("%d settings are sealed: %v", sealed, f.values)
		}
	})
}

// TestAControlPlaneGoesOnWhileItsMasterKeyIsReplaced: one that runs with both keys enrols agents before and after
// everything is wrapped anew, and the new key alone starts another. The former key alone does not, and it is said why.
func TestAControlPlaneGoesOnWhileItsMasterKeyIsReplaced(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, former, next := newBus(t), newMasterKey(), newMasterKey()
		start(t, db, b, former).stop()

		both := Keys{Master: conf.NewSecret(next), Previous: conf.NewSecret(former)}
		during := startAs(t, testConfig(both), db, b, time.Now)
		c := newCrowd(t, during, b, 2)
		ring, err := both.keyring()
		if err != nil {
			t.Fatal(err)
		}
		out, err := masterkey.Rotation{Store: db, Ring: ring, Now: time.Now, Told: func(fleet.WrappedColumn, int, int) {}}.Run(t.Context())
		if err != nil || len(out.Failed) > 0 || out.Rewrapped == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		c.join(during, 3)
		during.stop()

		start(t, db, b, next)
		_, err = openKeyring(t.Context(), keys(former), db)
		if !errors.Is(err, seal.ErrWrongMasterKey) || !strings.HasPrefix(err.Error(), "AMPORA_MASTER_KEY is not the key") {
			t.Errorf("with the former key alone: %v", err)
		}
	})
}
