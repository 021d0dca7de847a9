// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// flavours runs a test against every shape of Ampora, each its own installation.
func flavours(t *testing.T, test func(*testing.T, *rig.Server)) {
	t.Helper()
	t.Parallel()
	for _, flavour := range rig.Flavours {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			test(t, rig.NewServer(t, flavour).Start())
		})
	}
}

// unless is what a condition is missing: nothing if it holds.
func unless(holds bool, missing string) string {
	if holds {
		return ""
	}
	return missing
}
