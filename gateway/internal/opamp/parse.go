// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gitlab.com/ampora/ampora/gateway/internal/session"
)

// The fields of AgentToServer that every message carries; the rest is news.
const (
	uidField          = 1
	sequenceField     = 2
	capabilitiesField = 4
)

// parse reads an AgentToServer and says whether it is more than a heartbeat. Most are none,
// and are read without the parser. The message shares the bytes.
func parse(payload []byte, into *protobufs.AgentToServer) (news bool, err error) {
	if heartbeat(payload, into) {
		return false, nil
	}
	if err := proto.Unmarshal(payload, into); err != nil {
		return false, err
	}
	return saysAnything(into), nil
}

// heartbeat reads a message of nothing but the fields that every message carries. It says
// whether it is one; else it has read some of it.
func heartbeat(payload []byte, into *protobufs.AgentToServer) bool {
	for len(payload) > 0 {
		number, kind, n := protowire.ConsumeTag(payload)
		if n < 0 {
			return false
		}
		payload = payload[n:]
		switch {
		case number == uidField && kind == protowire.BytesType:
			into.InstanceUid, n = protowire.ConsumeBytes(payload)
		case number == sequenceField && kind == protowire.VarintType:
			into.SequenceNum, n = protowire.ConsumeVarint(payload)
		case number == capabilitiesField && kind == protowire.VarintType:
			into.Capabilities, n = protowire.ConsumeVarint(payload)
		default:
			return false
		}
		if n < 0 {
			return false
		}
		payload = payload[n:]
	}
	return true
}

// tells names the parts of the agent's state that a message tells of.
func tells(message *protobufs.AgentToServer) (parts session.Parts) {
	if message.GetAgentDescription() != nil {
		parts |= session.Description
	}
	if message.GetHealth() != nil {
		parts |= session.Health
	}
	if message.GetEffectiveConfig() != nil {
		parts |= session.EffectiveConfig
	}
	if message.GetRemoteConfigStatus() != nil {
		parts |= session.ConfigStatus
	}
	return parts
}

// reports names the parts that an agent with the capabilities may tell of.
func reports(capabilities uint64) session.Parts {
	has := func(bit protobufs.AgentCapabilities) bool { return capabilities&uint64(bit) != 0 } //nolint:gosec // a bit
	parts := session.Description
	if has(protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth) {
		parts |= session.Health
	}
	if has(protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig) {
		parts |= session.EffectiveConfig
	}
	if has(protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig) {
		parts |= session.ConfigStatus
	}
	return parts
}

// saysAnything reports whether a message is more than a heartbeat: fields we do not know count too.
func saysAnything(message *protobufs.AgentToServer) bool {
	m := message.ProtoReflect()
	news := len(m.GetUnknown()) > 0
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch field.Number() {
		case uidField, sequenceField, capabilitiesField:
		default:
			news = true
		}
		return !news
	})
	return news
}
