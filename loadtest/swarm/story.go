// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"fmt"
	"slices"
	"time"
)

// story is what lately happened to an agent, the oldest first once it has wrapped round.
// Without it nobody could tell why what it knows and what the server shows differ.
type story struct {
	lines [24]turn
	next  uint8
}

// turn is one thing that happened. Its words are constant, or an error's.
type turn struct {
	at       time.Time
	words    string
	sequence uint64
	parts    parts
}

func (s *story) add(m turn) {
	m.at = time.Now()
	s.lines[s.next] = m
	s.next = (s.next + 1) % uint8(len(s.lines))
}

func (s *story) tell() (lines []string) {
	for i := range s.lines {
		m := s.lines[(int(s.next)+i)%len(s.lines)]
		switch {
		case m.at.IsZero():
		case m.words == "":
			lines = append(lines, fmt.Sprintf("%s sent %d%s", m.at.UTC().Format(clock), m.sequence, m.parts))
		default:
			lines = append(lines, m.at.UTC().Format(clock)+" "+m.words)
		}
	}
	return lines
}

const clock = "15:04:05.000"

// String names the parts, each after a blank.
func (p parts) String() (text string) {
	for i, name := range []string{"description", "health", "effective", "config-status", "components-hash", "components", "goodbye"} {
		if p&(1<<i) != 0 {
			text += " " + name
		}
	}
	return text
}

// Story tells what lately happened to the agent with the id: what it sent with its number,
// how its connections began and ended, which faults befell it. Nil: it is none of the swarm's.
func (s *Swarm) Story(id string) []string {
	a := s.find(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.story.tell()
}

func (s *Swarm) find(id string) *agent {
	found := slices.IndexFunc(s.agents, func(a *agent) bool { return a.identity.Agent() == id })
	if found < 0 {
		return nil
	}
	return s.agents[found]
}
