// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func agentsSearched(w *world) {
	early := w.now
	bare := w.enrol()
	w.pass(time.Hour)
	s := w.connected()
	v := w.version("a")
	r := described(w.report(s, 1, "x", fleet.PartDescription, fleet.PartCapabilities, fleet.PartHealth), "edge-", true)
	host, version, bits := "db-7", "1.2.3", fleet.Capabilities(0x8003)
	r.Summary.HostName, r.Summary.ServiceVersion, r.Summary.Capabilities = &host, &version, &bits
	w.said(r)
	w.apply(fleet.Step{
		Delivery:  &fleet.Delivery{State: fleet.DeliveryApplied, Desired: v},
		Attention: &[]fleet.Attention{{Reason: fleet.AttentionNoAnswer, Since: w.now}, {Reason: fleet.AttentionConfigFailed, Since: w.now}},
	})
	group := w.group("g")
	_, err := w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{s.id}, fleet.ImmediateLimit)
	w.must(err)
	none, both := []fleet.AgentID(nil), []fleet.AgentID{bare.id, s.id}
	slices.Sort(both)
	ends := w.now.AddDate(1, 0, 0)
	for name, c := range map[string]struct {
		filter fleet.AgentFilter
		want   []fleet.AgentID
	}{
		"in no group":           {fleet.AgentFilter{NoGroup: true}, []fleet.AgentID{bare.id}},
		"gateway":               {fleet.AgentFilter{Gateway: s.gateway.ID}, []fleet.AgentID{s.id}},
		"another gateway":       {fleet.AgentFilter{Gateway: "gw-9"}, none},
		"words":                 {fleet.AgentFilter{Words: []string{"edge", "db-"}}, []fleet.AgentID{s.id}},
		"a word too many":       {fleet.AgentFilter{Words: []string{"edge", "web"}}, none},
		"the beginning of ids":  {fleet.AgentFilter{Words: []string{string(s.id[:30])}}, []fleet.AgentID{s.id}},
		"a whole id":            {fleet.AgentFilter{Words: []string{string(bare.id)}}, []fleet.AgentID{bare.id}},
		"too little of an id":   {fleet.AgentFilter{Words: []string{string(bare.id[:5])}}, none},
		"host":                  {fleet.AgentFilter{HostPrefix: "db"}, []fleet.AgentID{s.id}},
		"service, not host":     {fleet.AgentFilter{HostPrefix: "edge"}, none},
		"service":               {fleet.AgentFilter{Service: "edge-"}, []fleet.AgentID{s.id}},
		"part of a service":     {fleet.AgentFilter{Service: "edge"}, none},
		"version":               {fleet.AgentFilter{Version: "1.2.3"}, []fleet.AgentID{s.id}},
		"healthy":               {fleet.AgentFilter{Healthy: true}, []fleet.AgentID{s.id}},
		"unhealthy":             {fleet.AgentFilter{Unhealthy: true}, none},
		"a remark":              {fleet.AgentFilter{AttentionReason: fleet.AttentionConfigFailed}, []fleet.AgentID{s.id}},
		"another remark":        {fleet.AgentFilter{AttentionReason: fleet.AttentionRolledBack}, none},
		"capabilities":          {fleet.AgentFilter{Capabilities: 0x8001}, []fleet.AgentID{s.id}},
		"one capability more":   {fleet.AgentFilter{Capabilities: 0x8005}, none},
		"configuration":         {fleet.AgentFilter{Config: v.Config}, []fleet.AgentID{s.id}},
		"its version":           {fleet.AgentFilter{Config: v.Config, ConfigVersion: 1, DeliveryState: fleet.DeliveryApplied}, []fleet.AgentID{s.id}},
		"another version":       {fleet.AgentFilter{Config: v.Config, ConfigVersion: 2}, none},
		"not in this state":     {fleet.AgentFilter{Config: v.Config, DeliveryState: fleet.DeliveryFailed}, none},
		"nothing assigned":      {fleet.AgentFilter{DeliveryState: fleet.DeliveryNone}, []fleet.AgentID{bare.id}},
		"method":                {fleet.AgentFilter{Method: fleet.EnrolledByAgentCSR}, both},
		"another method":        {fleet.AgentFilter{Method: fleet.EnrolledAsChild}, none},
		"enrolled after":        {fleet.AgentFilter{EnrolledAfter: early.Add(time.Minute)}, []fleet.AgentID{s.id}},
		"enrolled at":           {fleet.AgentFilter{EnrolledAfter: early, EnrolledBefore: early.Add(time.Minute)}, []fleet.AgentID{bare.id}},
		"enrolled before":       {fleet.AgentFilter{EnrolledBefore: early}, none},
		"certificate ends":      {fleet.AgentFilter{ExpiresBefore: ends.Add(time.Second)}, []fleet.AgentID{s.id}}, // the other has shown none
		"certificate goes on":   {fleet.AgentFilter{ExpiresBefore: ends}, none},
		"offline":               {fleet.AgentFilter{Presence: fleet.PresenceOffline}, []fleet.AgentID{bare.id}},
		"a configuration's tag": {fleet.AgentFilter{Config: v.Config, Tags: map[string]string{"a": "b"}}, none},
	} {
		if got := w.listed(c.filter); !slices.Equal(got, c.want) {
			w.Errorf("%s: listed are %v, want %v", name, got, c.want)
		}
		if n, err := w.CountAgents(w.Context(), w.tenant, c.filter, w.now, 10); err != nil || n != len(c.want) {
			w.Errorf("%s: counted are %d: %v", name, n, err)
		}
	}
}

func agentsCounted(w *world) {
	w.enrolled(3)
	for most, want := range map[int]int{1: 1, 2: 2, 3: 3, 100: 3} {
		if n, err := w.CountAgents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, most); err != nil || n != want {
			w.Errorf("counted to %d: %d, %v", most, n, err)
		}
	}
	other := w.in("umbrella")
	if n, err := other.CountAgents(w.Context(), other.tenant, fleet.AgentFilter{}, w.now, 10); err != nil || n != 0 {
		w.Errorf("of another tenant: %d, %v", n, err)
	}
}
