// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"
)

func TestEveryCapabilityIsDealtWith(t *testing.T) {
	for bit, name := range protobufs.AgentCapabilities_name {
		if _, known := agentBits[protobufs.AgentCapabilities(bit)]; !known && bit != 0 {
			t.Errorf("agent capability %s: what do we do with it?", name)
		}
	}
	for bit, name := range protobufs.ServerCapabilities_name {
		if _, known := serverBits[protobufs.ServerCapabilities(bit)]; !known && bit != 0 {
			t.Errorf("server capability %s: do we have it?", name)
		}
	}
}

func TestOnlyGatesAreMasked(t *testing.T) {
	for bit, treatment := range agentBits {
		gated := bit == acceptsRemoteConfig || bit == acceptsRestartCommand || bit == acceptsConnectionSettings
		if gated != (treatment.use == gate) {
			t.Errorf("%s is documented as %s", bit, treatment.use)
		}
	}
}
