// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package relay carries what agents say to the control plane and what the control
// plane says to agents.
//
// Upwards it guarantees that what it accepted is published in order, each message with
// the next number of its partition, so that the control plane sees every loss, and under
// the seal of this process; that a partition which the bus does not take holds up no
// other; and that it accepts or refuses at once: a full bus never stops the reading of an
// agent's connection. What it notes of how far an agent was heard covers nothing that is
// not published. Downwards it passes on nothing that is not signed by a key of the trust
// snapshot for this very gateway or polling agent and this very session, nothing past its
// deadline by the control plane's clock, nothing twice, and no body that does not match
// its hash. Neither the bus nor another gateway can therefore speak for the control plane.
//
// What gateways tell each other of agents that poll is the exception: a hint that nobody
// signs, from which at worst a full state too many is asked for, or an agent is claimed
// once more.
//
// It does not know OpAMP: messages are bytes here.
package relay

import "gitlab.com/ampora/ampora/shared/identity"

// Origin names the gateway process in what it sends.
type Origin struct {
	Gateway identity.GatewayID
	// BootID is random and new for each process. Never 0.
	BootID uint64
}
