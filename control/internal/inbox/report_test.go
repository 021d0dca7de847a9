// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// bodies are the content of a test, by hash.
type bodies map[fleet.ContentHash][]byte

func (b bodies) Get(_ context.Context, _ fleet.TenantID, hash fleet.ContentHash) ([]byte, error) {
	if body, ok := b[hash]; ok {
		return body, nil
	}
	return nil, store.ErrNotFound
}

// envelope wraps an agent's message as a gateway does.
func envelope(t testing.TB, m *protobufs.AgentToServer, cut ...*relayv1.Body) *relayv1.Uplink {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &relayv1.Uplink{
		GatewayId: "g", BootId: 7, Counter: 1, Tenant: "t", AgentId: "a", Epoch: 3, ReceivedAt: timestamppb.New(time.Unix(1000, 0)),
		Event: &relayv1.Uplink_Report{Report: &relayv1.Report{Sequence: m.GetSequenceNum(), AgentToServer: raw, Bodies: cut}},
	}
}

func decoded(t testing.TB, stored bodies, e *relayv1.Uplink) *fleet.Report {
	t.Helper()
	in := &Inbox{d: Deps{Bodies: stored}}
	u, err := in.uplink(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return u.Report
}

func part(t testing.TB, r *fleet.Report, kind fleet.PartKind) fleet.Part {
	t.Helper()
	i := slices.IndexFunc(r.Parts, func(p fleet.Part) bool { return p.Kind == kind })
	if i < 0 {
		t.Fatalf("no part %s in %v", kind, kinds(r))
	}
	return r.Parts[i]
}

func kinds(r *fleet.Report) []fleet.PartKind {
	var list []fleet.PartKind
	for _, p := range r.Parts {
		list = append(list, p.Kind)
	}
	return list
}

func text(s string) *protobufs.AnyValue {
	return &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: s}}
}

func TestWhatIsAbsentIsUnchanged(t *testing.T) {
	r := decoded(t, nil, envelope(t, &protobufs.AgentToServer{SequenceNum: 9}))
	if len(r.Parts) != 0 || r.Labels != nil || r.Wake || r.Summary != (fleet.Summary{}) {
		t.Errorf("a message without content became %+v", r)
	}
	if want := (fleet.Stamp{Epoch: 3, Sequence: 9}); r.Stamp != want {
		t.Errorf("stamp %v, want %v", r.Stamp, want)
	}
}

func TestDescription(t *testing.T) {
	r := decoded(t, nil, envelope(t, &protobufs.AgentToServer{AgentDescription: &protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{
			{Key: "service.name", Value: text("otelcol")},
			{Key: "service.version", Value: text("0.149.0")},
			{Key: "evil", Value: text("a\x00b")},
		},
		NonIdentifyingAttributes: []*protobufs.KeyValue{
			{Key: "host.name", Value: text("edge-1")},
			{Key: "service.name", Value: text("claimed twice")},
			{Key: "cpus", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_IntValue{IntValue: 4}}},
			{Key: "huge", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_IntValue{IntValue: 1 << 60}}},
			{Key: "raw", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_BytesValue{BytesValue: []byte{1}}}},
			{Key: "long", Value: text(strings.Repeat("x", maxLabel+1))},
		},
	}}))
	labels := r.Labels
	for key, want := range map[string]string{
		"service.name": "otelcol", "host.name": "edge-1", "cpus": "4", "huge": "1152921504606846976", "evil": "a\uFFFDb",
	} {
		if labels[key] != want {
			t.Errorf("label %s is %q, want %q", key, labels[key], want)
		}
	}
	for _, key := range []string{"raw", "long"} {
		if _, ok := labels[key]; ok {
			t.Errorf("%s must not be a label", key)
		}
	}
	if *r.Summary.ServiceName != "otelcol" || *r.Summary.HostName != "edge-1" || !r.Wake {
		t.Errorf("summary %+v", r.Summary)
	}
	var value fleet.Description
	p := part(t, r, fleet.PartDescription)
	if err := json.Unmarshal(p.Value, &value); err != nil || len(value.NonIdentifying) != 6 {
		t.Errorf("value %s: %v", p.Value, err)
	}
	if got := string(value.NonIdentifying[4].Value); got != `{"$bytes":"AQ=="}` {
		t.Errorf("bytes became %s", got)
	}
}

func TestHealthIsTold(t *testing.T) {
	sick := &protobufs.ComponentHealth{LastError: "no route", ComponentHealthMap: map[string]*protobufs.ComponentHealth{
		"pipeline:traces": {Healthy: true, Status: "StatusOK"},
	}}
	r := decoded(t, nil, envelope(t, &protobufs.AgentToServer{Health: sick}))
	p := part(t, r, fleet.PartHealth)
	if *r.Summary.Healthy || p.News == nil || p.News.Message != "unhealthy: no route" || p.Digest != "false" {
		t.Errorf("part %+v news %+v", p, p.News)
	}
	var value fleet.Health
	if err := json.Unmarshal(p.Value, &value); err != nil || !value.Components["pipeline:traces"].Healthy {
		t.Errorf("value %s: %v", p.Value, err)
	}
}

func TestAnEmptyHealthAfterOurOwnOfferIsNoNews(t *testing.T) {
	e := envelope(t, &protobufs.AgentToServer{Health: &protobufs.ComponentHealth{}})
	e.GetReport().AfterOwnOffer = true
	if r := decoded(t, nil, e); len(r.Parts) != 0 || r.Summary.Healthy != nil {
		t.Errorf("the former health is overwritten by %+v", r.Parts)
	}
	if r := decoded(t, nil, envelope(t, &protobufs.AgentToServer{Health: &protobufs.ComponentHealth{}})); len(r.Parts) != 1 {
		t.Error("without an offer of ours an empty health is what the agent says")
	}
}

func TestEffectiveConfig(t *testing.T) {
	body := []byte("receivers: {}\n")
	hash := fleet.HashOf(body)
	message := &protobufs.AgentToServer{EffectiveConfig: &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{
		ConfigMap: map[string]*protobufs.AgentConfigObject{"": {ContentType: "text/yaml"}},
	}}}
	cut := &relayv1.Body{Kind: relayv1.Body_KIND_EFFECTIVE_CONFIG, Hash: hash[:], Size: int64(len(body))}
	r := decoded(t, nil, envelope(t, message, cut))
	var value fleet.EffectiveConfig
	if err := json.Unmarshal(part(t, r, fleet.PartEffectiveConfig).Value, &value); err != nil {
		t.Fatal(err)
	}
	if want := (fleet.ConfigFile{ContentType: "text/yaml", Hash: hash, Size: int64(len(body))}); value.Files[0] != want {
		t.Errorf("file %+v, want %+v", value.Files[0], want)
	}
	if !slices.Equal(r.Bodies, []fleet.ContentHash{hash}) {
		t.Errorf("bodies %v", r.Bodies)
	}

	empty := fleet.HashOf(nil)
	r = decoded(t, nil, envelope(t, message, &relayv1.Body{Kind: relayv1.Body_KIND_EFFECTIVE_CONFIG, Hash: empty[:]}))
	if len(r.Parts) != 0 {
		t.Error("a supervisor that has just started reports no bytes: not a change")
	}
}

func TestComponentsAreReadOutOfTheirBody(t *testing.T) {
	full := &protobufs.AvailableComponents{Hash: []byte("h"), Components: map[string]*protobufs.ComponentDetails{
		"receivers": {SubComponentMap: map[string]*protobufs.ComponentDetails{
			"otlp": {Metadata: []*protobufs.KeyValue{{Key: "code.namespace", Value: text("go.opentelemetry.io/collector/receiver/otlpreceiver v0.149.0")}}},
		}},
	}}
	body, err := proto.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	hash := fleet.HashOf(body)
	cut := &relayv1.Body{Kind: relayv1.Body_KIND_AVAILABLE_COMPONENTS, Hash: hash[:], Size: int64(len(body))}
	e := envelope(t, &protobufs.AgentToServer{AvailableComponents: &protobufs.AvailableComponents{Hash: []byte("h")}}, cut)
	var value fleet.Components
	if err := json.Unmarshal(part(t, decoded(t, bodies{hash: body}, e), fleet.PartComponents).Value, &value); err != nil {
		t.Fatal(err)
	}
	want := fleet.Component{Kind: "receiver", Name: "otlp", Module: "go.opentelemetry.io/collector/receiver/otlpreceiver v0.149.0"}
	if len(value.List) != 1 || value.List[0] != want {
		t.Errorf("components %+v, want %+v", value.List, want)
	}
	r := decoded(t, bodies{}, e)
	if len(r.Parts) != 0 || len(r.Bodies) != 1 {
		t.Errorf("a body that is not stored is named, so that full state is asked for: %+v", r)
	}
}

func TestFieldsWeDoNotKnowSurvive(t *testing.T) {
	e := envelope(t, &protobufs.AgentToServer{})
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "from the future")
	e.GetReport().AgentToServer = append(e.GetReport().AgentToServer, unknown...)
	if got := part(t, decoded(t, nil, e), fleet.PartExtra).Raw; !slices.Equal(got, unknown) {
		t.Errorf("kept %x, want %x", got, unknown)
	}
}

// TestCapabilityNames holds the names of the vocabulary to those of OpAMP's own message types.
func TestCapabilityNames(t *testing.T) {
	for n := range 64 {
		want := fmt.Sprintf("bit %d", n)
		if name, known := protobufs.AgentCapabilities_name[int32(1)<<min(n, 31)]; known && n < 31 {
			want = strings.TrimPrefix(name, "AgentCapabilities_")
		}
		if got := fleet.Capabilities(1 << n).Names(); !slices.Equal(got, []string{want}) {
			t.Errorf("bit %d is named %q, want %q", n, got, want)
		}
	}
	if got := fleet.Capabilities(1<<40 | 3).Names(); !slices.Equal(got, []string{"ReportsStatus", "AcceptsRemoteConfig", "bit 40"}) {
		t.Errorf("names %q", got)
	}
}

func TestWordsAreBounded(t *testing.T) {
	endless := strings.Repeat("ä", 1<<20)
	r := decoded(t, nil, envelope(t, &protobufs.AgentToServer{
		Health:                   &protobufs.ComponentHealth{LastError: endless, Status: endless},
		RemoteConfigStatus:       &protobufs.RemoteConfigStatus{Status: protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED, ErrorMessage: endless},
		PackageStatuses:          &protobufs.PackageStatuses{ErrorMessage: endless, Packages: map[string]*protobufs.PackageStatus{"p": {ErrorMessage: endless}}},
		ConnectionSettingsStatus: &protobufs.ConnectionSettingsStatus{ErrorMessage: endless},
	}))
	for _, p := range r.Parts {
		if len(p.Value) > 3*maxWords {
			t.Errorf("%s has %d bytes", p.Kind, len(p.Value))
		}
		if p.News == nil {
			continue
		}
		if n := len(p.News.Message) + len(p.News.Attributes["status"]); n > 3*maxWords || strings.Contains(p.News.Message, "\uFFFD") {
			t.Errorf("the news of %s has %d bytes: …%q", p.Kind, n, p.News.Message[max(0, len(p.News.Message)-20):])
		}
	}
	if kept := len(part(t, r, fleet.PartRemoteConfigStatus).Raw); kept < len(endless) {
		t.Errorf("of the message itself %d bytes are kept", kept)
	}
}

func TestHoles(t *testing.T) {
	r := &reader{counters: map[fleet.GatewayID]store.Counter{}, owed: map[fleet.GatewayID]debt{}}
	for _, c := range []struct {
		boot, counter uint64
		hole          bool
	}{
		{1, 1, false}, {1, 2, false}, {1, 2, false}, {1, 5, true}, {1, 6, false}, {1, 3, false}, // repeated
		{2, 1, false}, {3, 2, true}, // a boot whose first message is not its first
	} {
		e := &relayv1.Uplink{GatewayId: "g", BootId: c.boot, Counter: c.counter}
		before := r.counters["g"]
		r.follow(e)
		d, owed := r.owed["g"]
		if owed != c.hole {
			t.Errorf("boot %d counter %d: hole %v, want %v", c.boot, c.counter, owed, c.hole)
		}
		if owed && d.before.BootID == before.BootID && d.before != before {
			t.Errorf("boot %d counter %d: on record stays %+v, want %+v", c.boot, c.counter, d.before, before)
		}
		clear(r.owed)
	}
}

// What was not sealed by the process it names counts for nothing, not even its number.
func TestSeals(t *testing.T) {
	in, err := New(Deps{Bodies: bodies{}, Key: keyOf, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	e := envelope(t, &protobufs.AgentToServer{Capabilities: 3, SequenceNum: 4})
	e.Counter = 9
	body, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	own := keyOf("g", 7).SealUplink(body)
	altered := append(body[:len(body):len(body)], 0x38, 0x05) // epoch 5, the last one counts
	partition := bus.PartitionOf("a")
	for name, c := range map[string]struct {
		partition  int
		body, seal []byte
		read       int
	}{
		"its own":           {partition, body, own, 1},
		"another gateway's": {partition, body, keyOf("h", 7).SealUplink(body), 0},
		"another boot's":    {partition, body, keyOf("g", 8).SealUplink(body), 0},
		"altered":           {partition, altered, own, 0},
		"none":              {partition, body, nil, 0},
		"moved":             {(partition + 1) % bus.Partitions, body, own, 0},
	} {
		r := &reader{in: in, partition: c.partition, log: in.d.Log, counters: map[fleet.GatewayID]store.Counter{}, owed: map[fleet.GatewayID]debt{}}
		payload, err := proto.Marshal(&relayv1.Sealed{Body: c.body, Seal: c.seal})
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.decode(t.Context(), []bus.Message{{Payload: payload}, {Payload: []byte("noise")}, {Payload: body}})
		if err != nil || len(got) != c.read {
			t.Errorf("%s: %d were read, %v", name, len(got), err)
		}
		if followed := len(r.counters) + len(r.owed); (followed > 0) != (c.read > 0) {
			t.Errorf("%s: its number counts: %v %v", name, r.counters, r.owed)
		}
	}
}

func keyOf(gateway fleet.GatewayID, boot uint64) uplink.Key {
	return uplink.Derive([]byte("secret"), identity.GatewayID(gateway), boot)
}

func FuzzUplink(f *testing.F) {
	for _, e := range []*relayv1.Uplink{
		envelope(f, &protobufs.AgentToServer{Capabilities: 3, Health: &protobufs.ComponentHealth{}}),
		{Event: &relayv1.Uplink_Ended{Ended: &relayv1.SessionEnded{Reason: "CLOSED"}}},
		{Event: &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{Kind: relayv1.Downlink_KIND_CONFIG, Hash: make([]byte, 32)}}},
	} {
		raw, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	in := &Inbox{d: Deps{Bodies: bodies{}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e relayv1.Uplink
		if proto.Unmarshal(raw, &e) != nil {
			return
		}
		u, err := in.uplink(t.Context(), &e)
		if err != nil {
			return
		}
		if u.Report == nil {
			return
		}
		for _, p := range u.Report.Parts {
			if !json.Valid(p.Value) || strings.Contains(string(p.Value), `\u0000`) {
				t.Errorf("part %s: %s cannot be stored", p.Kind, p.Value)
			}
		}
	})
}
