// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// State is what the server ought to know of each agent, in the words of its API: what
// the agent would report now, who it is, and whether it is connected: all of them are
// after [Swarm.Calm], and none after [Swarm.Stop].
func (s *Swarm) State(online bool) []*amporav1.Agent {
	presence := amporav1.Presence_PRESENCE_OFFLINE
	if online {
		presence = amporav1.Presence_PRESENCE_ONLINE
	}
	state := make([]*amporav1.Agent, len(s.agents))
	for i, a := range s.agents {
		state[i] = a.state()
		state[i].Presence = presence
	}
	return state
}

func (a *agent) state() *amporav1.Agent {
	a.mu.Lock()
	defer a.mu.Unlock()
	transport := amporav1.Transport_TRANSPORT_WEBSOCKET
	if a.polls {
		transport = amporav1.Transport_TRANSPORT_HTTP
	}
	description := a.description()
	return &amporav1.Agent{
		Id: a.identity.Agent(), InstanceUid: uidText(a.uid), HostName: a.name,
		Credential:   &amporav1.Credential{Serial: a.identity.Serial, SpiffeId: a.identity.SPIFFE},
		Session:      &amporav1.Session{Transport: transport},
		Capabilities: capabilityNames(protobufs.AgentCapabilities(a.swarm.abilities())), //nolint:gosec // few bits
		Description: &amporav1.Description{
			Identifying: attributes(description.GetIdentifyingAttributes()), NonIdentifying: attributes(description.GetNonIdentifyingAttributes()),
		},
		Health:              healthOf(a.health()),
		EffectiveConfig:     a.effectiveState(),
		RemoteConfigStatus:  a.configState(),
		AvailableComponents: componentState,
	}
}

func capabilityNames(abilities protobufs.AgentCapabilities) (names []string) {
	for bit := protobufs.AgentCapabilities(1); bit <= abilities; bit <<= 1 {
		if abilities&bit != 0 {
			names = append(names, strings.TrimPrefix(bit.String(), "AgentCapabilities_"))
		}
	}
	return names
}

func attributes(list []*protobufs.KeyValue) []*amporav1.Attribute {
	out := make([]*amporav1.Attribute, len(list))
	for i, kv := range list {
		out[i] = &amporav1.Attribute{Key: kv.GetKey(), Value: value(kv.GetValue())}
	}
	return out
}

func value(v *protobufs.AnyValue) *structpb.Value {
	switch v := v.GetValue().(type) {
	case *protobufs.AnyValue_StringValue:
		return structpb.NewStringValue(v.StringValue)
	case *protobufs.AnyValue_BoolValue:
		return structpb.NewBoolValue(v.BoolValue)
	case *protobufs.AnyValue_IntValue:
		return structpb.NewNumberValue(float64(v.IntValue))
	case *protobufs.AnyValue_DoubleValue:
		return structpb.NewNumberValue(v.DoubleValue)
	case *protobufs.AnyValue_ArrayValue:
		array := &structpb.ListValue{}
		for _, each := range v.ArrayValue.GetValues() {
			array.Values = append(array.Values, value(each))
		}
		return structpb.NewListValue(array)
	default:
		return structpb.NewNullValue()
	}
}

func healthOf(h *protobufs.ComponentHealth) *amporav1.Health {
	out := &amporav1.Health{
		Healthy: h.GetHealthy(), Status: h.GetStatus(), LastError: h.GetLastError(),
		StartTime: moment(h.GetStartTimeUnixNano()), StatusTime: moment(h.GetStatusTimeUnixNano()),
	}
	for name, part := range h.GetComponentHealthMap() {
		if out.Components == nil {
			out.Components = map[string]*amporav1.Health{}
		}
		out.Components[name] = healthOf(part)
	}
	return out
}

// componentState is the same for all.
var componentState = func() *amporav1.AvailableComponents {
	state := &amporav1.AvailableComponents{Hash: hex.EncodeToString(components.GetHash())}
	for kind, details := range components.GetComponents() {
		for name := range details.GetSubComponentMap() {
			state.Components = append(state.Components, &amporav1.Component{Kind: strings.TrimSuffix(kind, "s"), Name: name})
		}
	}
	return state
}()

func moment(ns uint64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(0, int64(ns))) } //nolint:gosec // this century

func (s *self) effectiveState() *amporav1.EffectiveConfig {
	body := s.effective()
	hash := sha256.Sum256(body)
	return &amporav1.EffectiveConfig{Files: []*amporav1.ConfigFile{{
		ContentType: effectiveType, ContentHash: hex.EncodeToString(hash[:]), Size: int64(len(body)),
	}}}
}

var configStates = map[protobufs.RemoteConfigStatuses]amporav1.ConfigState{
	protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING: amporav1.ConfigState_CONFIG_STATE_APPLYING,
	protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED:  amporav1.ConfigState_CONFIG_STATE_APPLIED,
	protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED:   amporav1.ConfigState_CONFIG_STATE_FAILED,
}

func (s *self) configState() *amporav1.RemoteConfigStatus {
	status := s.configStatus()
	return &amporav1.RemoteConfigStatus{
		LastOfferHash: hex.EncodeToString(status.GetLastRemoteConfigHash()),
		State:         configStates[status.GetStatus()],
		ErrorMessage:  status.GetErrorMessage(),
	}
}

// Effective is the bytes that the agent with the id says it runs, by file; nil if it is
// none of the swarm's.
func (s *Swarm) Effective(id string) map[string][]byte {
	a := s.find(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string][]byte{"": a.effective()}
}
