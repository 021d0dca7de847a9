// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/identity"
)

// world is a running gateway between a control plane and agents, over real TLS.
type world struct {
	t       *testing.T
	control *gatewaytest.Control
	bus     bus.Bus
	gateway *gateway.Gateway
	server  *gatewaytest.Authority
	reader  *metric.ManualReader
	spans   *tracetest.SpanRecorder
	stop    func()

	agent       identity.Agent
	certificate tls.Certificate
	read        [bus.Partitions]bus.Position
	renewals    int // that were asked for
}

const tenant = identity.TenantID("acme")

func defaults() gateway.Config {
	return gateway.Config{
		GatewayID: "gw-1", Addr: "127.0.0.1:0", PublicURL: "wss://gateway.test/v1/opamp",
		MaxMessageBytes: 1 << 20, MaxSessions: 1000, MaxHandshakes: 16,
		IdleTimeout: 30 * time.Second, PingInterval: 10 * time.Second, FrameTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		TrustMaxAge: 5 * time.Minute,
	}
}

// start runs a gateway for a test that may run beside others.
func start(t *testing.T, change ...func(*gateway.Config)) *world {
	t.Helper()
	t.Parallel() // most tests wait for something
	return startAlone(t, change...)
}

// startAlone runs a gateway with one tenant and one agent on record.
func startAlone(t *testing.T, change ...func(*gateway.Config)) *world {
	t.Helper()
	w := &world{t: t}
	w.begin()
	w.run(change...)
	return w
}

// begin makes what a gateway stands between.
func (w *world) begin() {
	w.control, w.bus = gatewaytest.NewControl(w.t), inproc.New(inproc.Options{})
	w.server = gatewaytest.NewAuthority(w.t, "server")
	w.control.Watch(w.bus)
	w.control.AddTenant(tenant)
	w.agent, w.certificate = w.control.AddAgent(tenant)
}

// beside runs another gateway on the same bus and for the same control plane.
func (w *world) beside(id string, change ...func(*gateway.Config)) *world {
	w.t.Helper()
	other := &world{t: w.t, control: w.control, bus: w.bus, server: w.server, agent: w.agent, certificate: w.certificate}
	other.run(append(change, func(c *gateway.Config) { c.GatewayID = id })...)
	return other
}

// run runs the gateway until the end of the test.
func (w *world) run(change ...func(*gateway.Config)) {
	w.t.Helper()
	config := defaults()
	for _, change := range change {
		change(&config)
	}
	w.reader, w.spans = metric.NewManualReader(), tracetest.NewSpanRecorder()
	served := w.server.Server()
	var err error
	w.gateway, err = gateway.New(config, gateway.Deps{
		Control: w.control.Client(), Bus: w.bus, Log: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Meter: metric.NewMeterProvider(metric.WithReader(w.reader)).Meter("test"), Clock: time.Now, Version: "test",
		Tracer:      sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans)).Tracer("test"),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &served, nil },
		ServerCA:    w.server.RootPEM(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.gateway.Run(ctx) }()
	w.stop = func() {
		cancel()
		if ended != nil {
			if err := <-ended; err != nil {
				w.t.Errorf("the gateway ended with %v", err)
			}
			ended = nil
		}
	}
	w.t.Cleanup(w.stop)
	w.eventually("the gateway is ready", func() bool { return w.gateway.Ready(ctx) == nil })
}

// testLog writes the gateway's log into the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if testing.Verbose() {
		_, _ = l.t.Output().Write(p)
	}
	return len(p), nil
}

// eventually waits for a condition, and fails the test if it does not come true.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (w *world) tls(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: w.server.Pool(), ServerName: "localhost", Certificates: certificates}
}

// dial connects with the certificate of the agent on record.
func (w *world) dial() *gatewaytest.Agent {
	w.t.Helper()
	return w.dialWith(w.certificate)
}

func (w *world) dialWith(certificate tls.Certificate) *gatewaytest.Agent {
	w.t.Helper()
	agent, err := gatewaytest.Dial(w.t, w.gateway.Addr().String(), w.tls(certificate), nil)
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	return agent
}

func bearer(token string) http.Header {
	return http.Header{"Authorization": []string{"Bearer " + token}}
}

// uplink returns the next uplink of an agent that the condition picks.
func (w *world) uplink(agent identity.AgentID, picks func(*relayv1.Uplink) bool) *relayv1.Uplink {
	w.t.Helper()
	partition := bus.PartitionOf(agent)
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for {
		batch, err := w.bus.Read(ctx, partition, w.read[partition], 1)
		if err != nil {
			w.t.Fatalf("no such uplink: %v", err)
		}
		w.read[partition] = batch.Next
		for _, message := range batch.Messages {
			uplink, sealed := w.control.Open(message.Payload)
			if !sealed {
				w.t.Fatalf("the seal of %v is broken", uplink)
			}
			if uplink.GetAgentId() == string(agent) && picks(uplink) {
				return uplink
			}
		}
	}
}

func isReport(u *relayv1.Uplink) bool   { return u.GetReport() != nil }
func isEnd(u *relayv1.Uplink) bool      { return u.GetEnded() != nil }
func isDelivery(u *relayv1.Uplink) bool { return u.GetDelivery() != nil }

// downlink sends a downlink to the agent's session.
func (w *world) downlink(downlink *relayv1.Downlink) {
	w.t.Helper()
	if downlink.GetGatewayId() == "" {
		downlink.GatewayId = "gw-1"
	}
	downlink.Tenant = string(tenant)
	if downlink.GetNotAfter() == nil {
		downlink.NotAfter = timestamppb.New(time.Now().Add(time.Minute))
	}
	w.send(w.control.Sign(downlink))
}

func (w *world) send(payload []byte) {
	w.t.Helper()
	if err := w.bus.Send(w.t.Context(), "gw-1", time.Minute, payload); err != nil {
		w.t.Fatal(err)
	}
}

// target names the agent's session as the control plane knows it.
func (w *world) target(agent identity.Agent, generation int64) []*relayv1.Target {
	w.t.Helper()
	session, found := w.control.Session(agent)
	if !found {
		w.t.Fatal("the agent has no session")
	}
	return []*relayv1.Target{{AgentId: string(agent.ID), Epoch: session.Epoch, Generation: generation}}
}

// count returns a counter's value for a label.
func (w *world) count(name, label, value string) int64 {
	w.t.Helper()
	return int64(w.shows(name, attribute.String(label, value)))
}

// shows returns what an instrument shows under the labels: the sum of a counter or a gauge, how often a histogram was
// recorded to.
func (w *world) shows(name string, labels ...attribute.KeyValue) (total float64) {
	w.t.Helper()
	var all metricdata.ResourceMetrics
	if err := w.reader.Collect(context.Background(), &all); err != nil {
		w.t.Fatal(err)
	}
	under := func(set attribute.Set) bool {
		return !slices.ContainsFunc(labels, func(l attribute.KeyValue) bool { v, _ := set.Value(l.Key); return v != l.Value })
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				total += sumOf(m.Data, under)
			}
		}
	}
	return total
}

func sumOf(data metricdata.Aggregation, under func(attribute.Set) bool) (total float64) {
	add := func(set attribute.Set, value float64) {
		if under(set) {
			total += value
		}
	}
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Value))
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, p.Value)
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, float64(p.Count))
		}
	}
	return total
}

func (w *world) rejections(reason string) int64 {
	w.t.Helper()
	return w.count("ampora_gateway_rejections", "reason", reason)
}

// rejected waits until a rejection was counted.
func (w *world) rejected(reason string) {
	w.t.Helper()
	w.eventually("a rejection "+reason, func() bool { return w.rejections(reason) > 0 })
}

const remoteConfig = protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig

func TestReportAndOffer(t *testing.T) {
	w := start(t)
	agent := w.dial()
	first := gatewaytest.Full(remoteConfig)
	first.EffectiveConfig = &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{
		"": {Body: []byte("receivers: {}"), ContentType: "text/yaml"},
	}}}
	answer := agent.Exchange(first)
	if string(answer.GetInstanceUid()) != string(agent.UID[:]) || answer.GetCapabilities() == 0 || answer.GetCustomCapabilities() == nil || answer.GetFlags() != 0 {
		t.Fatalf("the first answer is %v", answer)
	}

	uplink := w.uplink(w.agent.ID, isReport)
	session, _ := w.control.Session(w.agent)
	if uplink.GetEpoch() != session.Epoch || uplink.GetTenant() != string(tenant) || uplink.GetCounter() != 1 || string(uplink.GetInstanceUid()) != string(agent.UID[:]) {
		t.Errorf("the uplink is %v", uplink)
	}
	bodies := uplink.GetReport().GetBodies()
	if len(bodies) != 1 || string(w.control.Body(bodies[0].GetHash())) != "receivers: {}" {
		t.Errorf("the bodies are %v", bodies)
	}
	var relayed protobufs.AgentToServer
	if err := proto.Unmarshal(uplink.GetReport().GetAgentToServer(), &relayed); err != nil {
		t.Fatal(err)
	}
	if entry := relayed.GetEffectiveConfig().GetConfigMap().GetConfigMap()[""]; len(entry.GetBody()) > 0 || entry.GetContentType() != "text/yaml" {
		t.Errorf("the relayed configuration is %v", entry)
	}

	body := []byte("exporters: {}")
	config := &relayv1.Downlink{
		Kind: relayv1.Downlink_KIND_CONFIG, Targets: w.target(w.agent, 3), Hash: []byte("offer-hash"),
		Entries: []*relayv1.ConfigEntry{{Name: "main", ContentType: "text/yaml", BodyHash: w.control.AddBody(body)}},
	}
	w.downlink(config)
	offer := agent.Receive().GetRemoteConfig()
	if string(offer.GetConfigHash()) != "offer-hash" || string(offer.GetConfig().GetConfigMap()["main"].GetBody()) != string(body) {
		t.Fatalf("the offer is %v", offer)
	}
	delivery := w.uplink(w.agent.ID, isDelivery).GetDelivery()
	if delivery.GetOutcome() != relayv1.Delivery_OUTCOME_DELIVERED || delivery.GetGeneration() != 3 || string(delivery.GetHash()) != "offer-hash" {
		t.Errorf("the delivery is %v", delivery)
	}

	// The same again is reported, not written.
	config.NotAfter = timestamppb.New(time.Now().Add(time.Hour))
	w.downlink(config)
	if got := w.uplink(w.agent.ID, isDelivery).GetDelivery().GetOutcome(); got != relayv1.Delivery_OUTCOME_DELIVERED {
		t.Errorf("the repeated delivery is %v", got)
	}
	if answer := agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(remoteConfig)}); answer.GetRemoteConfig() != nil {
		t.Error("the same offer was written twice")
	}

	agent.Send(&protobufs.AgentToServer{AgentDisconnect: &protobufs.AgentDisconnect{}})
	if got := w.uplink(w.agent.ID, isReport).GetReport().GetSequence(); got != 1 {
		t.Errorf("the second report is number %d", got)
	}
	w.uplink(w.agent.ID, isReport)
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "AGENT_DISCONNECT" {
		t.Errorf("the session ended with %s", reason)
	}
}

// configDownlink offers a configuration of one body to the agent on record.
func (w *world) configDownlink(generation int64, bodyHash []byte) *relayv1.Downlink {
	w.t.Helper()
	return &relayv1.Downlink{
		Kind: relayv1.Downlink_KIND_CONFIG, Targets: w.target(w.agent, generation), Hash: append([]byte("offer of "), bodyHash...),
		Entries: []*relayv1.ConfigEntry{{Name: "main", ContentType: "text/yaml", BodyHash: bodyHash}},
	}
}

// sessions is the gauge of live sessions.
func (w *world) sessions() int {
	w.t.Helper()
	return int(w.shows("ampora_gateway_sessions"))
}
