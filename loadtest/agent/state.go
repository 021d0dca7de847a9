// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// State is what an agent knows of itself at one moment.
type State struct {
	// Connected says that the last attempt to connect went well and nothing has ended
	// the connection since. ConnectError is why an attempt failed.
	Connected    bool
	ConnectError error
	// Serial is the serial number of the certificate it presents, in decimal, and
	// Identity the URI in it. Both are empty while it enrols.
	Serial, Identity string
	// Refusals are the words of every error response, and why an offer was not taken.
	Refusals []string
	// Offers are the configurations it was offered, in order. Doubled ones are doubled here.
	Offers []Offer
	// Running is the body of the configuration it runs; nil if it never applied one.
	Running []byte

	running *protobufs.AgentConfigMap
	status  *protobufs.RemoteConfigStatus
}

// Offer is a configuration it was offered.
type Offer struct {
	// Hash is the offer's hash in hexadecimal.
	Hash string
	// Body is that of the first entry of its map; Files counts the entries.
	Body  []byte
	Files int
}

// Offered counts how often a hash was offered.
func (s State) Offered(hash string) (times int) {
	for _, offer := range s.Offers {
		if offer.Hash == hash {
			times++
		}
	}
	return times
}

// connected notes that a connection stands.
func (s *State) connected(with *settings) {
	s.Connected, s.ConnectError = true, nil
	if certificates := with.tls.Certificates; len(certificates) > 0 && certificates[0].Leaf != nil {
		leaf := certificates[0].Leaf
		s.Serial = leaf.SerialNumber.String()
		if len(leaf.URIs) > 0 {
			s.Identity = leaf.URIs[0].String()
		}
	}
}

// configStatus is what the first message of a connection says.
func (s State) configStatus() *protobufs.RemoteConfigStatus { return s.status }

// State is the agent's present state.
func (a *Agent) State() State { return a.state.get() }

// Await returns when holds is true of the agent's state, with that state, or with an
// error that names what was awaited when ctx ends.
func (a *Agent) Await(ctx context.Context, what string, holds func(State) bool) (State, error) {
	for {
		state, changed := a.state.look()
		if holds(state) {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("agent %s: waiting for %s: %w (state: %+v)", a.config.Name, what, ctx.Err(), state)
		case <-changed:
		}
	}
}

// watched is a State that can be waited on.
type watched struct {
	mu      sync.Mutex
	state   State
	changed chan struct{} // closed with every change
}

func newWatched() *watched { return &watched{changed: make(chan struct{})} }

func (w *watched) look() (State, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Refusals, s.Offers = slices.Clone(s.Refusals), slices.Clone(s.Offers)
	return s, w.changed
}

func (w *watched) get() State {
	s, _ := w.look()
	return s
}

func (w *watched) set(change func(*State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.state)
	close(w.changed)
	w.changed = make(chan struct{})
}

func offerOf(config *protobufs.AgentRemoteConfig) Offer {
	files := config.GetConfig().GetConfigMap()
	offer := Offer{Hash: hex.EncodeToString(config.GetConfigHash()), Files: len(files)}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 0 {
		offer.Body = files[names[0]].GetBody()
	}
	return offer
}
