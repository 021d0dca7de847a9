// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rawopamp

import (
	"crypto/rand"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// NewUID is an instance uid: a random UUID (RFC 9562, version 4).
func NewUID() []byte {
	uid := make([]byte, 16)
	_, _ = rand.Read(uid) // never fails
	uid[6] = uid[6]&0x0f | 0x40
	uid[8] = uid[8]&0x3f | 0x80
	return uid
}

// Hello is the first message of an agent that reports status, health and what it runs,
// and takes configurations.
func Hello(uid []byte, name string) *protobufs.AgentToServer {
	text := func(key, value string) *protobufs.KeyValue {
		return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
	}
	return &protobufs.AgentToServer{
		InstanceUid: uid,
		Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
			protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig |
			protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig |
			protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig |
			protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth),
		AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes:    []*protobufs.KeyValue{text("service.name", name)},
			NonIdentifyingAttributes: []*protobufs.KeyValue{text("host.name", name)},
		},
		Health: &protobufs.ComponentHealth{Healthy: true, Status: "StatusOK"},
		EffectiveConfig: &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{
			ConfigMap: map[string]*protobufs.AgentConfigObject{"": {Body: []byte("receivers: {}\n"), ContentType: "text/yaml"}},
		}},
		RemoteConfigStatus: &protobufs.RemoteConfigStatus{},
	}
}

// Beat is a message that says nothing but that the agent lives.
func Beat(uid []byte, sequence uint64) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{InstanceUid: uid, SequenceNum: sequence, Capabilities: Hello(nil, "").GetCapabilities()}
}
