// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// tell adds an event; attributes are keys and values besides those that every event of a rollout has.
func (d *decision) tell(kind fleet.EventKind, message string, attributes ...string) {
	r := d.next
	all := map[string]string{
		"rollout": string(r.ID), "group": string(r.Definition.Group), "config": r.Definition.ConfigName,
		"version": fmt.Sprint(r.Definition.Version), "wave": fmt.Sprint(r.Wave),
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		all[attributes[i]] = attributes[i+1]
	}
	d.step.Events = append(d.step.Events, fleet.Event{
		Tenant: r.Tenant, At: d.now, Kind: kind, Attributes: all,
		Message: fmt.Sprintf("%s@%d to %s %s", r.Definition.ConfigName, r.Definition.Version, r.Definition.GroupName, message),
	})
}

// ofWave is a sentence about the open wave.
func (d *decision) ofWave(words string) string {
	return fmt.Sprintf("wave %d of %d: %s", d.next.Wave, len(d.next.Plan.Waves), words)
}

// summary says what became of agents, leaving out what became of none.
func summary(c fleet.Counts) string {
	words := []string{fmt.Sprintf("%d of %d succeeded", c.Succeeded, c.Agents)}
	for _, n := range []struct {
		of   int
		what string
	}{
		{c.Failed, "failed"},
		{c.Gone, "disconnected"},
		{c.Mismatch, "run something else"},
		{c.Unhealthy, "are unhealthy"},
		{c.Overdue, "have not answered in time"},
		{c.Skipped, "were skipped"},
	} {
		if n.of > 0 {
			words = append(words, fmt.Sprintf("%d %s", n.of, n.what))
		}
	}
	return strings.Join(words, ", ")
}

// counted are the attributes of an event that tells counts.
func counted(c fleet.Counts) []string {
	var list []string
	for _, n := range []struct {
		what string
		of   int
	}{
		{"agents", c.Agents},
		{"applied", c.Applied},
		{"succeeded", c.Succeeded},
		{"failed", c.Failed},
		{"gone", c.Gone},
		{"mismatch", c.Mismatch},
		{"unhealthy", c.Unhealthy},
		{"overdue", c.Overdue},
		{"skipped", c.Skipped},
	} {
		list = append(list, n.what, fmt.Sprint(n.of))
	}
	return list
}

func spoken(s fleet.RolloutState) string { return strings.ReplaceAll(string(s), "_", " ") }

func clock(at time.Time) string { return at.UTC().Format(time.RFC3339) }
