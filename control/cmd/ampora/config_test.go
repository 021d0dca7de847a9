// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestOneMasterKey: processes that start at once in one empty folder end up with one key, which is the one on disk.
func TestOneMasterKey(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "master.key")
		got := make([]string, 8)
		var processes sync.WaitGroup
		for i := range got {
			processes.Go(func() {
				key, err := ownMasterKey(path)
				if err != nil {
					t.Error(err)
				}
				got[i] = key.Reveal()
			})
		}
		processes.Wait()
		again, err := ownMasterKey(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range got {
			if key != again.Reveal() {
				t.Fatalf("process %d uses a key that nobody has kept", i)
			}
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

func TestAMasterKeyThatCannotBeKeptStopsTheStart(t *testing.T) {
	if _, err := ownMasterKey(filepath.Join(t.TempDir(), "missing", "master.key")); err == nil {
		t.Error("a key was made up that nobody can keep")
	}
}

func TestThereAreNoKeyServices(t *testing.T) {
	for variable, c := range map[string]*Config{"AMPORA_PKI_KMS": {}, "AMPORA_PKI_KMS_OTHERS": {}} {
		if c.Control.PKI.KMS = "vaulttransit:address=https://vault:8200;token-file=/t"; variable == "AMPORA_PKI_KMS_OTHERS" {
			c.Control.PKI.KMS, c.Control.PKI.KMSOthers = "", []string{c.Control.PKI.KMS}
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), variable+": this program is built without key services: ampora-control has them") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}
