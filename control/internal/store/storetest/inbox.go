// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// inbox is store.Inbox.
var inbox = suite{
	"a partition has one holder at a time":                 partitionLease,
	"a lease taken over later has a higher epoch":          partitionTakenOver,
	"a released partition is free at once":                 partitionReleased,
	"who has left holds no partition":                      partitionOfTheGone,
	"position and counters are those of the last record":   position,
	"nothing is written under a lost lease":                recordLost,
	"a part is written only by a later stamp":              partsByStamp,
	"news is told when it differs":                         news,
	"the row repeats what newer parts say":                 summary,
	"labels are replaced by a newer description":           labels,
	"only the session's gateway, boot and epoch count":     staleUplinks,
	"bodies that are not stored are asked for":             unknownBodies,
	"a session ends once":                                  sessionEnds,
	"a delivery counts for the open grant":                 deliveries,
	"a report that says so wakes the engine":               reportWakes,
	"capabilities wake the engine when they change":        capabilitiesWake,
	"uplinks of several tenants go to their own":           recordTenants,
	"resync asks for the full state of open sessions":      resync,
	"text that a database refuses does not stop a message": unstorableText,
	"partial reports in any order end at the latest":       anyOrder,
}

func partitionLease(w *world) {
	lease := w.lease(7)
	if want := (store.PartitionLease{Partition: 7, Holder: "inbox-1", Epoch: 1}); lease != want {
		w.Errorf("the lease is %+v, want %+v", lease, want)
	}
	_, err := w.acquire(7, "inbox-2")
	w.want(err, store.ErrLeaseLost)
	w.pass(30 * time.Second)
	w.must(w.replica("inbox-1")) // which is all that is renewed
	w.pass(30 * time.Second)
	_, err = w.acquire(7, "inbox-2")
	w.want(err, store.ErrLeaseLost)
	if again := w.lease(7); again != lease {
		w.Errorf("acquired again it is %+v, want %+v", again, lease)
	}
	other, err := w.acquire(8, "inbox-2")
	if err != nil || other.Holder != "inbox-2" {
		w.Errorf("another partition: %+v, %v", other, err)
	}
}

func partitionTakenOver(w *world) {
	lease := w.lease(7)
	_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: "17-0", At: w.now})
	w.must(err)
	w.pass(time.Minute)
	taken, err := w.acquire(7, "inbox-2")
	if err != nil || taken.Epoch != lease.Epoch+1 || taken.Position != "17-0" {
		w.Errorf("taken over it is %+v, %v", taken, err)
	}
	_, err = w.acquire(7, "inbox-1")
	w.want(err, store.ErrLeaseLost)
}

func partitionReleased(w *world) {
	lease := w.lease(7)
	w.must(w.ReleasePartition(w.Context(), lease))
	_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: "never", At: w.now})
	w.want(err, store.ErrLeaseLost)
	taken, err := w.acquire(7, "inbox-2")
	if err != nil || taken.Epoch != lease.Epoch+1 || taken.Position != "" {
		w.Errorf("taken after its release it is %+v, %v", taken, err)
	}
	w.must(w.ReleasePartition(w.Context(), lease)) // too late
	_, err = w.acquire(7, "inbox-1")
	w.want(err, store.ErrLeaseLost)
}

func partitionOfTheGone(w *world) {
	lease := w.lease(7)
	w.must(w.LeaveReplica(w.Context(), "inbox-1"))
	if taken, err := w.acquire(7, "inbox-2"); err != nil || taken.Epoch != lease.Epoch+1 {
		w.Errorf("taken from who has left it is %+v, %v", taken, err)
	}
}

func position(w *world) {
	lease := w.lease(7)
	write := func(position string, counters ...store.Counter) {
		_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: position, Counters: counters, At: w.now})
		w.must(err)
	}
	last := store.Counter{Gateway: "gw-1", BootID: 1<<63 + 1, Value: 1<<63 + 12}
	write("1-0", store.Counter{Gateway: "gw-2", BootID: 1, Value: 4}, last)
	write("2-0", store.Counter{Gateway: "gw-2", BootID: 2, Value: 1})
	if got := w.lease(7).Position; got != "2-0" {
		w.Errorf("the position is %q", got)
	}
	counters, err := w.Counters(w.Context(), 7)
	if want := []store.Counter{last, {Gateway: "gw-2", BootID: 2, Value: 1}}; err != nil || !slices.Equal(counters, want) {
		w.Errorf("counters are %+v, %v, want %+v", counters, err, want)
	}
	if counters, err := w.Counters(w.Context(), 8); err != nil || len(counters) != 0 {
		w.Errorf("counters of another partition: %+v, %v", counters, err)
	}
}

func recordLost(w *world) {
	s := w.connected()
	lease := w.lease(7)
	w.pass(time.Minute)
	_, err := w.acquire(7, "inbox-2")
	w.must(err)
	for name, lost := range map[string]store.PartitionLease{
		"taken over": lease, "of nobody": {Partition: 9, Holder: "inbox-1", Epoch: 1},
		"of an earlier epoch": {Partition: 7, Holder: "inbox-2", Epoch: lease.Epoch},
	} {
		done, err := w.Record(w.Context(), store.Record{
			Lease: lost, Position: "9-9", Counters: []store.Counter{{Gateway: "gw", BootID: 1, Value: 1}}, At: w.now,
			Uplinks: []fleet.Uplink{{Report: w.report(s, 1, "x", fleet.PartHealth)}},
		})
		if done != (store.Recorded{}) {
			w.Errorf("%s: recorded %+v", name, done)
		}
		w.want(err, store.ErrLeaseLost)
	}
	if parts := w.parts(s.id); len(parts) != 0 {
		w.Errorf("parts were written: %v", parts)
	}
	if counters, err := w.Counters(w.Context(), 7); err != nil || len(counters) != 0 {
		w.Errorf("counters were written: %+v, %v", counters, err)
	}
	if again, err := w.acquire(7, "inbox-2"); err != nil || again.Position != "" {
		w.Errorf("the position is %q, %v", again.Position, err)
	}
}

// parts reads an agent's parts.
func (w *world) parts(id fleet.AgentID) map[fleet.PartKind]fleet.Part {
	w.Helper()
	parts, err := w.Parts(w.Context(), w.tenant, id)
	w.must(err)
	return parts
}

// whole says that a report is the agent's full state.
func whole(r *fleet.Report) *fleet.Report {
	r.Whole = true
	return r
}

func partsByStamp(w *world) {
	s := w.connected()
	w.said(w.report(s, 5, "five", fleet.PartHealth, fleet.PartDescription))
	w.pass(time.Second)
	w.said(w.report(s, 4, "four", fleet.PartHealth, fleet.PartEffectiveConfig))
	w.said(w.report(s, 5, "five again", fleet.PartHealth))
	parts := w.parts(s.id)
	for kind, want := range map[fleet.PartKind]string{
		fleet.PartHealth: "five", fleet.PartDescription: "five", fleet.PartEffectiveConfig: "four",
	} {
		if got := parts[kind]; string(got.Raw) != want || got.Digest != want || got.Kind != kind {
			w.Errorf("%s is %+v, want %s", kind, got, want)
		}
	}
	five := parts[fleet.PartHealth]
	var value struct{ V string }
	if err := json.Unmarshal(five.Value, &value); err != nil || value.V != "five" {
		w.Errorf("the value is %s", five.Value)
	}
	if five.Stamp != (fleet.Stamp{Epoch: s.epoch, Sequence: 5}) || !five.At.Equal(w.now.Add(-time.Second)) {
		w.Errorf("health is %+v", five)
	}
	s = w.taken(s)
	w.said(w.report(s, 0, "zero of the next epoch", fleet.PartHealth))
	if got := w.parts(s.id)[fleet.PartHealth]; string(got.Raw) != "zero of the next epoch" {
		w.Errorf("after a reconnect health is %+v", got)
	}
}

// taken is the session after its agent restarted.
func (w *world) taken(s session) session {
	w.Helper()
	c := w.takeover(w.claimOf(s.agent, s.gateway), fleet.TakeoverRestart)
	s.epoch = w.claim(c).Epoch
	return s
}

func news(w *world) {
	s := w.connected()
	kind := fleet.EventKind("test.health")
	told := func() (n int) {
		for _, k := range w.kinds(s.id) {
			if k == kind {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		sequence fleet.Sequence
		value    string
		told     int
	}{{2, "up", 1}, {3, "up", 1}, {4, "down", 2}, {1, "up", 2}, {5, "up", 3}} {
		w.said(w.report(s, step.sequence, step.value, fleet.PartHealth))
		if got := told(); got != step.told {
			w.Errorf("after %d %q it was told %d times, want %d", step.sequence, step.value, got, step.told)
		}
	}
	quiet := w.report(s, 6, "changed", fleet.PartHealth)
	quiet.Parts[0].News = nil
	w.said(quiet)
	w.record(fleet.Uplink{Report: w.report(s, 7, "a", fleet.PartHealth)}, fleet.Uplink{Report: w.report(s, 8, "b", fleet.PartHealth)},
		fleet.Uplink{Report: w.report(s, 8, "b", fleet.PartHealth)})
	if got := told(); got != 5 {
		w.Errorf("it was told %d times, want 5", got)
	}
	events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: s.id}, fleet.Page{Size: 1})
	if err != nil || len(events) != 1 || events[0].Message != "b" || events[0].Agent != s.id || !events[0].At.Equal(w.now) {
		w.Errorf("the last news is %+v, %v", events, err)
	}
}

// described adds a summary to a report.
func described(r *fleet.Report, name string, healthy bool) *fleet.Report {
	bits, accepts := fleet.Capabilities(1<<63|5), true
	r.Summary = fleet.Summary{
		ServiceName: &name, ServiceVersion: &name, HostName: &name, Capabilities: &bits, AcceptsConfig: &accepts, Healthy: &healthy,
	}
	return r
}

func summary(w *world) {
	s := w.connected()
	w.pass(time.Second)
	w.said(described(w.report(s, 5, "x", fleet.PartDescription), "five", true))
	got := w.agent(s.id)
	if got.ServiceName != "five" || got.ServiceVersion != "five" || got.HostName != "five" || got.Capabilities != 0 || got.AcceptsConfig || got.Healthy != nil {
		w.Errorf("after a description: %+v", got)
	}
	if !got.Session.LastSeenAt.Equal(w.now) {
		w.Errorf("last seen at %v, want %v", got.Session.LastSeenAt, w.now)
	}
	w.said(described(w.report(s, 4, "y", fleet.PartDescription, fleet.PartCapabilities, fleet.PartHealth), "four", false))
	got = w.agent(s.id)
	if got.ServiceName != "five" || got.HostName != "five" || got.Capabilities != 1<<63|5 || !got.AcceptsConfig || got.Healthy == nil || *got.Healthy {
		w.Errorf("after an earlier message with other parts: %+v", got)
	}
	late := w.report(s, 6, "z")
	late.At = w.now.Add(-time.Hour)
	w.said(late)
	if again := w.agent(s.id).Session; !again.LastSeenAt.Equal(w.now) {
		w.Errorf("last seen went back to %v", again.LastSeenAt)
	}
}

func labels(w *world) {
	s := w.connected()
	with := func(labels map[string]string) bool {
		list, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{Labels: labels}, w.now, fleet.Page{Size: 10})
		w.must(err)
		return len(list) == 1
	}
	say := func(sequence fleet.Sequence, labels map[string]string) {
		r := w.report(s, sequence, "x", fleet.PartDescription)
		r.Labels = labels
		w.said(r)
	}
	say(5, map[string]string{"os": "linux", "zone": "a"})
	if !with(map[string]string{"os": "linux", "zone": "a"}) || with(map[string]string{"os": "linux", "zone": "b"}) {
		w.Error("labels of the first description")
	}
	say(6, map[string]string{"zone": "b"})
	say(4, map[string]string{"zone": "c"})
	if !with(map[string]string{"zone": "b"}) || with(map[string]string{"os": "linux"}) {
		w.Error("labels are not those of the newest description")
	}
	if say(7, nil); !with(map[string]string{"zone": "b"}) {
		w.Error("nil labels changed something")
	}
	if say(8, map[string]string{}); with(map[string]string{"zone": "b"}) {
		w.Error("no labels left some")
	}
}

func staleUplinks(w *world) {
	s := w.connected()
	later := w.taken(s)
	elsewhere, earlier, nobody := later, later, later
	elsewhere.gateway.ID, earlier.gateway.BootID, nobody.id = "gw-9", 3, "0190aaaa-0000-7000-8000-000000000000"
	var uplinks []fleet.Uplink
	for _, stale := range []session{s, elsewhere, earlier, nobody} {
		uplinks = append(uplinks, fleet.Uplink{Report: w.report(stale, 99, "x", fleet.PartHealth)}, fleet.Uplink{Ended: w.end(stale, "gone")},
			fleet.Uplink{Delivery: w.delivery(stale, 1, fleet.Delivered)})
	}
	uplinks = append(uplinks, fleet.Uplink{})
	if got, want := w.record(uplinks...), (store.Recorded{Stale: len(uplinks)}); got != want {
		w.Errorf("recorded %+v, want %+v", got, want)
	}
	if got := w.agent(s.id).Session; !got.EndedAt.IsZero() || len(w.parts(s.id)) != 0 {
		w.Errorf("something was written: %+v", got)
	}
	if got := w.said(w.report(later, 1, "x", fleet.PartHealth)); got != (store.Recorded{Applied: 1}) {
		w.Errorf("the session's own: %+v", got)
	}
}

// delivery is the gateway's word on a configuration.
func (w *world) delivery(s session, g fleet.Generation, outcome fleet.DeliveryOutcome) *fleet.DeliveryReport {
	return &fleet.DeliveryReport{
		Tenant: w.tenant, Agent: s.id, Epoch: s.epoch, Gateway: s.gateway.ID, BootID: s.gateway.BootID,
		Kind: fleet.DispatchConfig, Generation: g, Outcome: outcome, At: w.now,
	}
}

func unknownBodies(w *world) {
	s := w.connected()
	w.pass(time.Minute / 2)
	r := w.report(s, 1, "x", fleet.PartEffectiveConfig)
	r.Bodies = []fleet.ContentHash{w.body("there"), fleet.HashOf([]byte("not there"))}
	if got := w.said(r); got != (store.Recorded{Unknown: 1}) || len(w.parts(s.id)) != 0 {
		w.Errorf("recorded %+v and %v", got, w.parts(s.id))
	}
	if due := w.dispatches(); len(due) != 1 || due[0].Kind != fleet.DispatchFullState || due[0].Agent != s.id {
		w.Errorf("due is %+v", due)
	}
	w.in("umbrella").body("not there") // a body of another tenant is none
	if got := w.said(r); got.Unknown != 1 {
		w.Errorf("recorded %+v", got)
	}
	w.body("not there")
	if got := w.said(r); got != (store.Recorded{Applied: 1}) || len(w.parts(s.id)) != 1 {
		w.Errorf("with all bodies: %+v", got)
	}
}

func sessionEnds(w *world) {
	s := w.connected()
	w.pass(time.Second)
	seen := w.now
	w.pass(time.Second)
	end := w.end(s, "IDLE")
	end.LastSeenAt = seen
	ended := w.now
	if got := w.record(fleet.Uplink{Ended: end}, fleet.Uplink{Ended: end}); got.Applied != 2 {
		w.Errorf("recorded %+v", got)
	}
	w.pass(time.Second)
	w.record(fleet.Uplink{Ended: w.end(s, "AGAIN")})
	got := w.agent(s.id).Session
	if !got.EndedAt.Equal(ended) || got.EndReason != "IDLE" || got.Presence(w.now) != fleet.PresenceOffline || got.LastSeenAt.Before(seen) {
		w.Errorf("the session is %+v", got)
	}
	want := []fleet.EventKind{fleet.EventAgentEnrolled, fleet.EventAgentConnected, fleet.EventAgentDisconnected}
	if kinds := w.kinds(s.id); !slices.Equal(kinds, want) {
		w.Errorf("events are %v", kinds)
	}
}

func deliveries(w *world) {
	s := w.connected()
	w.grant(w.version("v1"), 1)
	deliver := func(g fleet.Generation, outcome fleet.DeliveryOutcome) fleet.Situation {
		w.pass(time.Second)
		w.record(fleet.Uplink{Delivery: w.delivery(s, g, outcome)})
		return w.situation(store.WorkItem{Tenant: w.tenant, Agent: s.id})
	}
	if got := deliver(2, fleet.Delivered); !got.Grant.DeliveredAt.IsZero() || len(w.work()) != 0 {
		w.Errorf("a word on another generation counted: %+v", got.Grant)
	}
	if got := deliver(1, fleet.NotCapable); got.Undelivered != fleet.NotCapable || len(w.work()) != 1 {
		w.Errorf("a complaint: %+v", got)
	}
	if got := deliver(1, fleet.Delivered); got.Undelivered != "" || !got.Grant.DeliveredAt.Equal(w.now) {
		w.Errorf("delivered: %+v, %q", got.Grant, got.Undelivered)
	}
	closed := w.situation(store.WorkItem{Tenant: w.tenant, Agent: s.id}).Grant
	delivered := closed.DeliveredAt
	closed.State, closed.SettledAt = fleet.GrantMet, w.now
	w.apply(fleet.Step{Grant: closed})
	if got := deliver(1, fleet.Delivered); !got.Grant.DeliveredAt.Equal(delivered) || len(w.work()) != 0 {
		w.Errorf("a word on a settled grant counted: %+v", got.Grant)
	}
}

func reportWakes(w *world) {
	s := w.connected()
	w.apply(fleet.Step{})
	w.said(w.report(s, 1, "x", fleet.PartHealth))
	if items := w.work(); len(items) != 0 {
		w.Errorf("%+v is due", items)
	}
	r := w.report(s, 2, "x", fleet.PartRemoteConfigStatus)
	r.Wake = true
	if w.said(r); w.item().Agent != s.id {
		w.Error("the engine was not woken for the agent")
	}
}

func capabilitiesWake(w *world) {
	s := w.connected()
	w.apply(fleet.Step{})
	for i, said := range []struct {
		capabilities string
		wakes        bool
	}{{"reports", true}, {"reports", false}, {"reports, accepts", true}, {"reports", true}} {
		w.said(w.report(s, fleet.Sequence(i+1), said.capabilities, fleet.PartCapabilities, fleet.PartHealth))
		if woken := len(w.work()) == 1; woken != said.wakes {
			w.Errorf("message %d with %q woke: %v, want %v", i+1, said.capabilities, woken, said.wakes)
		}
	}
	late := w.report(s, 2, "of the past", fleet.PartCapabilities)
	w.said(late)
	if items := w.work(); len(items) != 0 {
		w.Errorf("capabilities of the past woke %+v", items)
	}
}

func recordTenants(w *world) {
	s, other := w.connected(), w.in("umbrella")
	theirs := other.connect(other.enrol(), s.gateway)
	smuggled := other.report(theirs, 1, "x", fleet.PartHealth)
	smuggled.Tenant = w.tenant
	got := w.record(fleet.Uplink{Report: w.report(s, 1, "ours", fleet.PartHealth)},
		fleet.Uplink{Report: other.report(theirs, 1, "theirs", fleet.PartHealth)}, fleet.Uplink{Report: smuggled})
	if got != (store.Recorded{Applied: 2, Stale: 1}) {
		w.Errorf("recorded %+v", got)
	}
	if ours, theirs := w.parts(s.id), other.parts(theirs.id); string(ours[fleet.PartHealth].Raw) != "ours" || string(theirs[fleet.PartHealth].Raw) != "theirs" {
		w.Errorf("parts are %v and %v", ours, theirs)
	}
}

func resync(w *world) {
	s := w.connected()
	ended := w.connect(w.enrol(), s.gateway)
	w.record(fleet.Uplink{Ended: w.end(ended, "closed")})
	for _, step := range []struct {
		partition int
		gateway   fleet.GatewayID
		want      int
	}{{s.partition, "gw-9", 0}, {(s.partition + 1) % 64, "", 0}, {s.partition, "", 1}, {s.partition, s.gateway.ID, 1}} {
		if got, err := w.Resync(w.Context(), step.partition, step.gateway, w.now); err != nil || got != step.want {
			w.Errorf("resync of %d at %q asked %d, %v, want %d", step.partition, step.gateway, got, err, step.want)
		}
	}
	due := w.dispatches()
	if len(due) != 1 || due[0].Kind != fleet.DispatchFullState || due[0].Agent != s.id || due[0].Gateway != s.gateway.ID || due[0].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
}

func unstorableText(w *world) {
	s := w.connected()
	nasty := "a\x00b\xff" + string(bytes.Repeat([]byte("ü"), 4000))
	r := described(w.report(s, 1, "x", fleet.PartDescription, fleet.PartHealth), nasty, true)
	value, err := json.Marshal(map[string]string{"k": nasty, `\u0000`: `\\u0000`})
	w.must(err)
	r.Parts[0].Value, r.Parts[0].Raw, r.Parts[0].Digest = value, []byte(nasty), nasty
	r.Parts[0].News = &fleet.Event{Kind: "test", Message: nasty, Attributes: map[string]string{nasty: nasty}}
	r.Parts[1].Value = nil
	r.Labels = map[string]string{nasty: "x", "zone": nasty, "n\x00": "y"}
	end := w.end(s, nasty)
	if got := w.record(fleet.Uplink{Report: r}, fleet.Uplink{Ended: end}); got.Applied != 2 {
		w.Errorf("recorded %+v", got)
	}
	got := w.parts(s.id)[fleet.PartDescription]
	if string(got.Raw) != nasty {
		w.Errorf("what the agent said was not kept as it was")
	}
	var back map[string]string
	if err := json.Unmarshal(got.Value, &back); err != nil || back[`\u0000`] != `\\u0000` {
		w.Errorf("the value came back as %.80s, %v", got.Value, err)
	}
}

// anyOrder: parts of messages in any order, doubled, in batches of any size, end at the value of the greatest stamp.
func anyOrder(w *world) {
	g := w.gateway("gw", 1)
	kinds := []fleet.PartKind{fleet.PartDescription, fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartRemoteConfigStatus}
	rapid.Check(w.T, func(r *rapid.T) {
		s := w.connect(w.enrol(), g)
		var messages []fleet.Uplink
		want := map[fleet.PartKind]string{}
		for sequence := range fleet.Sequence(rapid.IntRange(1, 12).Draw(r, "messages")) {
			value := fmt.Sprint(sequence)
			said := rapid.SliceOfDistinct(rapid.SampledFrom(kinds), rapid.ID[fleet.PartKind]).Draw(r, "parts")
			messages = append(messages, fleet.Uplink{Report: w.report(s, sequence, value, said...)})
			for _, kind := range said {
				want[kind] = value
			}
		}
		messages = append(messages, rapid.SliceOfN(rapid.SampledFrom(messages), 0, 5).Draw(r, "doubled")...)
		messages = rapid.Permutation(messages).Draw(r, "order")
		for rest := messages; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(r, "batch")
			w.record(rest[:n]...)
			rest = rest[n:]
		}
		got := w.parts(s.id)
		if len(got) != len(want) {
			r.Fatalf("parts are %v, want %v", got, want)
		}
		for kind, value := range want {
			if string(got[kind].Raw) != value {
				r.Fatalf("%s is %s, want %s", kind, got[kind].Raw, value)
			}
		}
	})
}
