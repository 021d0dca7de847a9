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
	each(t, rig.Flavours, test)
}

// inOneProcess runs a test against the shapes that are one process: where penalties are one gateway's, and an end is one
// program's.
func inOneProcess(t *testing.T, test func(*testing.T, *rig.Server)) {
	t.Helper()
	each(t, []rig.Flavour{rig.Development, rig.Production}, test)
}

func each(t *testing.T, flavours []rig.Flavour, test func(*testing.T, *rig.Server)) {
	t.Helper()
	t.Parallel()
	for _, flavour := range flavours {
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
