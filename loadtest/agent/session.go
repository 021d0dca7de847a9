// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// stopTime bounds how long a client may take to say goodbye.
const stopTime = 5 * time.Second

// session runs one client until it is offered other settings, which it returns, or
// until ctx ends. The client reconnects by itself in between.
func (a *Agent) session(ctx context.Context, with *settings) (*settings, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	offers := make(chan *settings, 1)
	opamp, err := a.start(ctx, with, offers)
	if err != nil {
		return nil, err
	}
	applying := make(chan struct{})
	go func() {
		defer close(applying)
		a.applyAll(ctx, opamp)
	}()
	telling := make(chan struct{})
	go func() {
		defer close(telling)
		a.tellAll(ctx, opamp)
	}()
	var next *settings
	select {
	case <-ctx.Done():
	case next = <-offers:
	}
	cancel()
	<-applying
	<-telling
	a.state.set(func(s *State) { s.Connected = false })
	stopping, stopped := context.WithTimeout(context.Background(), stopTime)
	defer stopped()
	if err := opamp.Stop(stopping); err != nil {
		a.log.DebugContext(ctx, "the client did not stop in time", "error", err)
	}
	return next, nil
}

// tellAll tells the statuses that are set.
func (a *Agent) tellAll(ctx context.Context, opamp client.OpAMPClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case status := <-a.words:
			health := &protobufs.ComponentHealth{Healthy: true, Status: status, StartTimeUnixNano: uint64(time.Now().UnixNano())}
			if err := opamp.SetHealth(health); err != nil {
				a.log.WarnContext(ctx, "its health could not be told", "error", err)
			}
		}
	}
}

// start starts a client with everything an agent reports first.
func (a *Agent) start(ctx context.Context, with *settings, offers chan<- *settings) (client.OpAMPClient, error) {
	var opamp client.OpAMPClient
	if strings.HasPrefix(with.endpoint, "https:") {
		opamp = client.NewHTTP(logger{a.log})
	} else {
		opamp = client.NewWebSocket(logger{a.log})
	}
	abilities := capabilities
	if err := a.introduce(opamp, &abilities, with); err != nil {
		return nil, fmt.Errorf("prepare the client: %w", err)
	}
	start := types.StartSettings{
		OpAMPServerURL: with.endpoint, Header: with.header, TLSConfig: with.tls, InstanceUid: a.uid,
		RemoteConfigStatus: a.state.get().configStatus(),
		Callbacks:          a.callbacks(with, offers),
	}
	if a.config.Heartbeat > 0 {
		start.HeartbeatInterval = &a.config.Heartbeat
	}
	if with.hash != nil {
		// The first message over the new connection is the proof that it works.
		start.LastConnectionSettingsStatus = &protobufs.ConnectionSettingsStatus{
			LastConnectionSettingsHash: with.hash,
			Status:                     protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
		}
	}
	if err := opamp.Start(ctx, start); err != nil {
		return nil, fmt.Errorf("start the client: %w", err)
	}
	return opamp, nil
}

// introduce sets what the first message carries. An agent without a certificate asks
// for one in it.
func (a *Agent) introduce(opamp client.OpAMPClient, abilities *protobufs.AgentCapabilities, with *settings) error {
	health := &protobufs.ComponentHealth{Healthy: true, Status: "StatusOK", StartTimeUnixNano: uint64(time.Now().UnixNano())}
	if err := opamp.SetAgentDescription(a.description()); err != nil {
		return err
	}
	if err := opamp.SetHealth(health); err != nil {
		return err
	}
	if err := opamp.SetAvailableComponents(components()); err != nil {
		return err
	}
	if err := opamp.SetCapabilities(abilities); err != nil {
		return err
	}
	if with.enrolment == nil {
		return nil
	}
	return opamp.RequestConnectionSettings(with.enrolment.request())
}

func (a *Agent) callbacks(with *settings, offers chan<- *settings) types.Callbacks {
	var hash []byte // of the offer in hand: OnMessage is called first, and never at the same time
	return types.Callbacks{
		OnConnect: func(ctx context.Context) {
			a.log.InfoContext(ctx, "connected", "enrolling", with.enrolment != nil)
			a.state.set(func(s *State) { s.connected(with) })
		},
		OnConnectFailed: func(ctx context.Context, err error) {
			a.log.InfoContext(ctx, "not connected", "error", err)
			a.state.set(func(s *State) { s.Connected, s.ConnectError = false, err })
		},
		OnError: func(ctx context.Context, e *protobufs.ServerErrorResponse) {
			a.log.WarnContext(ctx, "the server refused a message", "type", e.GetType(), "error", e.GetErrorMessage())
			a.state.set(func(s *State) { s.Refusals = append(s.Refusals, e.GetErrorMessage()) })
		},
		OnOpampConnectionSettings: func(_ context.Context, offer *protobufs.OpAMPConnectionSettings) error {
			return a.offered(with, offer, hash, offers)
		},
		OnMessage: func(_ context.Context, m *types.MessageData) {
			hash = m.OfferedConnectionsSettingsHash
			if m.RemoteConfig != nil {
				a.remember(m.RemoteConfig)
			}
		},
		GetEffectiveConfig: func(context.Context) (*protobufs.EffectiveConfig, error) {
			return &protobufs.EffectiveConfig{ConfigMap: a.state.get().running}, nil
		},
	}
}

// offered takes connection settings.
func (a *Agent) offered(with *settings, offer *protobufs.OpAMPConnectionSettings, hash []byte, offers chan<- *settings) error {
	if len(offer.GetCertificate().GetCert()) == 0 && with.enrolment == nil {
		return nil // a heartbeat interval alone: the client has taken it
	}
	next, err := with.accept(offer, hash)
	if err != nil {
		a.log.Error("connection settings refused", "error", err)
		a.state.set(func(s *State) { s.Refusals = append(s.Refusals, err.Error()) })
		return err
	}
	select {
	case offers <- next:
	default: // one is being taken
	}
	return nil
}

// logger hands the client's words to slog.
type logger struct{ log *slog.Logger }

// Debugf implements types.Logger.
func (l logger) Debugf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "opamp client", "text", fmt.Sprintf(format, v...))
}

// Errorf implements types.Logger.
func (l logger) Errorf(ctx context.Context, format string, v ...any) {
	l.log.WarnContext(ctx, "opamp client", "text", fmt.Sprintf(format, v...))
}
