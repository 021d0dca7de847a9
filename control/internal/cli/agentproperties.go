// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// agentProperties is one agent as a person reads it, section by section.
func (p *program) agentProperties(agent *amporav1.Agent) view {
	now := p.now()
	lines := &properties{}
	lines.add("Id", or(agent.GetId()))
	lines.add("Name", or(agent.GetDisplayName()))
	lines.add("Service", or(strings.TrimSpace(agent.GetServiceName()+" "+agent.GetServiceVersion())))
	lines.add("Host", or(agent.GetHostName()))
	lines.add("Instance uid", or(agent.GetInstanceUid()))
	lines.add("Group", or(agent.GetGroupName()))
	lines.add("Enrolled", relative(now, agent.GetEnrolledAt()))
	lines.add("Parent", or(agent.GetParentId()))
	lines.add("Children", childrenAllowed(agent.GetMaxChildren()))
	for _, key := range slices.Sorted(maps.Keys(agent.GetTags())) {
		tag := agent.GetTags()[key]
		lines.add("Tag", fmt.Sprintf("%s=%s (%s)", escape(key), escape(tag.GetValue()), word(tag.GetOrigin())))
	}
	addSession(lines, now, agent)
	addCredential(lines, now, agent.GetCredential())
	addHealth(lines, "Health", agent.GetHealth())
	addDelivery(lines, now, agent)
	for _, attention := range agent.GetAttention() {
		lines.add("Attention", fmt.Sprintf("%s: %s (%s)", escape(attention.GetReason()), escape(attention.GetMessage()),
			relative(now, attention.GetSince())))
	}
	lines.add("Capabilities", or(strings.Join(agent.GetCapabilities(), ", ")))
	lines.add("Custom capabilities", or(strings.Join(agent.GetCustomCapabilities(), ", ")))
	addAttributes(lines, "Identifying", agent.GetDescription().GetIdentifying())
	addAttributes(lines, "Label", agent.GetDescription().GetNonIdentifying())
	for _, pkg := range agent.GetPackages() {
		lines.add("Package", or(strings.TrimSpace(strings.Join(
			[]string{pkg.GetName(), pkg.GetAgentHasVersion(), pkg.GetStatus(), pkg.GetErrorMessage()}, " "))))
	}
	lines.add("Components", number(int32(len(agent.GetAvailableComponents().GetComponents())))) //nolint:gosec // a count of what one message holds
	return lines
}

func childrenAllowed(most int32) string {
	if most == 0 {
		return none
	}
	return fmt.Sprintf("up to %d", most)
}

func addSession(lines *properties, now time.Time, agent *amporav1.Agent) {
	lines.add("Presence", word(agent.GetPresence()))
	session := agent.GetSession()
	if session == nil {
		return
	}
	lines.add("Gateway", or(session.GetGatewayId()))
	lines.add("Transport", word(session.GetTransport()))
	lines.add("Peer", or(session.GetPeer()))
	lines.add("Connected", relative(now, session.GetConnectedAt()))
	lines.add("Last seen", lastSeen(now, agent))
	if session.GetEndedAt() != nil {
		lines.add("Disconnected", fmt.Sprintf("%s, %s", relative(now, session.GetEndedAt()), or(session.GetEndReason())))
	}
}

func addCredential(lines *properties, now time.Time, credential *amporav1.Credential) {
	lines.add("Certificate", or(credential.GetSerial()))
	lines.add("Expires", relative(now, credential.GetNotAfter()))
	lines.add("SPIFFE id", or(credential.GetSpiffeId()))
}

// addHealth shows an agent's own state, and below it only the components that are not well.
func addHealth(lines *properties, name string, health *amporav1.Health) {
	if health == nil {
		return
	}
	lines.add(name, escape(strings.Join(slices.DeleteFunc(
		[]string{healthWord(health), health.GetStatus(), health.GetLastError()},
		func(text string) bool { return text == "" }), ", ")))
	for _, component := range slices.Sorted(maps.Keys(health.GetComponents())) {
		if below := health.GetComponents()[component]; !below.GetHealthy() {
			addHealth(lines, name+" "+escape(component), below)
		}
	}
}

func addDelivery(lines *properties, now time.Time, agent *amporav1.Agent) {
	if status := agent.GetRemoteConfigStatus(); status != nil {
		lines.add("Last answer", or(strings.TrimSpace(word(status.GetState())+" "+status.GetErrorMessage())))
	}
	delivery := agent.GetConfigDelivery()
	if delivery.GetState() == amporav1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
		return
	}
	lines.add("Configuration", configOf(delivery))
	lines.add("Assigned to", or(delivery.GetAssignedThrough()))
	lines.add("State", strings.TrimSuffix(word(delivery.GetState())+", "+relative(now, delivery.GetSince()), ", "+none))
	lines.add("Message", or(delivery.GetMessage()))
	if delivery.GetRestoredVersion() != 0 {
		lines.add("Put back to", fmt.Sprintf("%s@%d", escape(delivery.GetRestoredConfigName()), delivery.GetRestoredVersion()))
	}
	for _, file := range agent.GetEffectiveConfig().GetFiles() {
		lines.add("Runs", fmt.Sprintf("%q, %s, sha256 %s", file.GetName(), bytesOf(file.GetSize()), or(file.GetContentHash())))
	}
}

func addAttributes(lines *properties, name string, attributes []*amporav1.Attribute) {
	for _, attribute := range attributes {
		lines.add(name, escape(attribute.GetKey())+"="+escape(valueText(attribute.GetValue())))
	}
}

// valueText shows text without quotes and everything else as JSON.
func valueText(value *structpb.Value) string {
	if text, ok := value.GetKind().(*structpb.Value_StringValue); ok {
		return text.StringValue
	}
	text, err := protojson.Marshal(value)
	if err != nil {
		return none
	}
	return string(text)
}
