// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// parts are the parts of a report that are to be said.
type parts uint8

// The parts, and what they are at the start of a process and in a full report.
const (
	ofDescription parts = 1 << iota
	ofHealth
	ofEffective
	ofConfigStatus
	componentsHash
	allComponents
	goodbye
	everything = ofDescription | ofHealth | ofEffective | ofConfigStatus | componentsHash
)

// message renders the next message: what is owed, and of everything else nothing
// (specification, "Agent Status Compression").
func (a *agent) message(owed parts) *protobufs.AgentToServer {
	m := &protobufs.AgentToServer{InstanceUid: a.uid[:], SequenceNum: a.sequence, Capabilities: a.swarm.abilities()}
	if owed&ofDescription != 0 {
		m.AgentDescription = a.description()
	}
	if owed&ofHealth != 0 {
		m.Health = a.health()
	}
	if owed&ofEffective != 0 {
		m.EffectiveConfig = a.effectiveConfig()
	}
	if owed&ofConfigStatus != 0 {
		m.RemoteConfigStatus = a.configStatus()
	}
	switch {
	case owed&allComponents != 0:
		m.AvailableComponents = components
	case owed&componentsHash != 0:
		m.AvailableComponents = &protobufs.AvailableComponents{Hash: components.GetHash()}
	}
	if owed&goodbye != 0 {
		m.AgentDisconnect = &protobufs.AgentDisconnect{}
	}
	return m
}

// flush sends what is owed, or a heartbeat if nothing is. Who is not connected, or
// frozen, keeps it. What is written counts as sent, as with opamp-go: if it is lost with
// the connection, the hole in the sequence tells the server to ask.
func (a *agent) flush() {
	if a.link == nil || a.frozen != nil {
		return
	}
	if a.unsent != nil {
		a.story.add(turn{words: "sends the last message again"})
		if !a.write(a.unsent) {
			return
		}
		a.unsent = nil
		if a.owed == 0 {
			return
		}
	}
	payload, err := proto.Marshal(a.message(a.owed))
	if err != nil {
		panic("swarm: a message of our own: " + err.Error()) // all its text is ours
	}
	a.story.add(turn{sequence: a.sequence, parts: a.owed})
	a.owed = 0
	a.sequence++
	a.write(payload)
}

// write writes a message. If that fails the connection is over; its reader sees to the rest.
func (a *agent) write(payload []byte) (written bool) {
	a.swarm.count.Messages.Add(1)
	a.swarm.count.Bytes.Add(int64(len(payload)))
	if a.waiting++; a.waiting == 1 {
		a.asked = time.Now()
	}
	err := a.link.send(payload)
	a.beat.Reset(a.interval)
	if err == nil {
		return true
	}
	if a.link.repeats(err) {
		a.unsent = payload
	}
	a.link.cut()
	return false
}
