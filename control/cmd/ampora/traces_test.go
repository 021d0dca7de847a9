// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/open-telemetry/opamp-go/protobufs"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
)

// patience bounds every wait: it is a limit, never a delay.
const patience = 60 * time.Second

// program is an ampora that runs in this process, and tells all to a receiver.
type program struct {
	t          *testing.T
	receiver   *otlptest.Receiver
	opamp, ops string
	roots      *x509.CertPool
	client     *connect.Client
	stop       func() int
	secrets    []string // that no telemetry may show
}

func startProgram(t *testing.T, more ...string) *program {
	t.Helper()
	p := &program{t: t, receiver: otlptest.Start(t), opamp: freeAddr(t), ops: freeAddr(t)}
	api, dir := freeAddr(t), t.TempDir()
	environ := append([]string{
		"AMPORA_DATA_DIR=" + dir, "AMPORA_HTTP_ADDR=" + api, "AMPORA_PKI_ADDR=127.0.0.1:0", "AMPORA_OPAMP_ADDR=" + p.opamp, "AMPORA_OPS_ADDR=" + p.ops,
		"AMPORA_DRAIN_DURATION=0s", "AMPORA_OTLP_ENDPOINT=" + p.receiver.URL, "AMPORA_OTLP_HEADERS=Authorization=hunter2",
	}, more...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- start(ctx, nil, environ, io.Discard, t.Output()) }()
	p.stop = func() int { cancel(); code := <-ended; ended <- code; return code }
	t.Cleanup(func() { p.stop() })
	p.await("ampora to be ready", func() error {
		response, err := http.Get("http://" + p.ops + "/health/ready")
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		return nil
	})
	text, err := os.ReadFile(filepath.Join(dir, "server-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(text)
	p.client = connect.NewClient(connecthttp.NewTransport(http.DefaultClient, "http://"+api))
	return p
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// await waits for a condition.
func (p *program) await(what string, condition func() error) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for err := condition(); err != nil; err = condition() {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (p *program) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// agent enrols an agent and connects it.
func (p *program) agent() *agent {
	p.t.Helper()
	issued, err := amporav1connect.NewBootstrapTokenServiceClient(p.client).IssueBootstrapToken(p.t.Context(), &amporav1.IssueBootstrapTokenRequest{})
	p.must(err)
	p.secrets = append(p.secrets, issued.GetSecret())
	config := &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}
	identity := enrolled(p.t, p.opamp, config, issued.GetSecret())
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &identity, nil }
	a := dial(p.t, p.opamp, config, nil)
	a.say(&protobufs.AgentToServer{Capabilities: uint64(agentCapabilities), AgentDescription: &protobufs.AgentDescription{}})
	return a
}

// published publishes a configuration and returns its id.
func (p *program) published(body string) string {
	p.t.Helper()
	configs := amporav1connect.NewConfigServiceClient(p.client)
	created, err := configs.CreateConfig(p.t.Context(), &amporav1.CreateConfigRequest{
		Name: "edge", Body: []byte(body), Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE,
	})
	p.must(err)
	_, err = configs.PublishConfigVersion(p.t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: created.GetConfig().GetId(), Version: 1})
	p.must(err)
	return created.GetConfig().GetId()
}

// only waits for the one agent there is, until it has told what it can do and its delivery has the state.
func (p *program) only(state amporav1.DeliveryState) string {
	p.t.Helper()
	var id string
	p.await("the agent to be "+state.String(), func() error {
		agents := amporav1connect.NewAgentServiceClient(p.client)
		list, err := agents.ListAgents(p.t.Context(), &amporav1.ListAgentsRequest{})
		if err != nil || len(list.GetAgents()) != 1 {
			return fmt.Errorf("%d agents, %w", len(list.GetAgents()), err)
		}
		id = list.GetAgents()[0].GetId()
		got, err := agents.GetAgent(p.t.Context(), &amporav1.GetAgentRequest{Id: id})
		if err != nil {
			return err
		}
		agent := got.GetAgent()
		if len(agent.GetCapabilities()) == 0 {
			return errors.New("it has told nothing yet")
		}
		if got := agent.GetConfigDelivery().GetState(); got != state {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	return id
}

// TestOneTrace: from a call of the API over rows, the bus and the agent, and back to the engine, it is one trace; and of
// what nobody asked to record, nothing is recorded.
func TestOneTrace(t *testing.T) {
	p := startProgram(t, "AMPORA_TRACE_RATIO=0")
	a := p.agent()
	id := p.only(amporav1.DeliveryState_DELIVERY_STATE_NONE)
	config := p.published("exporters: {debug: {password: hunter2}}\n")
	_, err := amporav1connect.NewAssignmentServiceClient(p.client).Assign(t.Context(), &amporav1.AssignRequest{
		ConfigId: config, Target: &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: id}},
	})
	p.must(err)
	offer := a.offer()
	a.status(offer, protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING)
	p.only(amporav1.DeliveryState_DELIVERY_STATE_APPLYING)
	a.status(offer, protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED)
	p.only(amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	audited := p.auditedTrace("assignment.")
	// By itself the agent says more, of the same hash too.
	a.status(offer, protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED)
	if code := p.stop(); code != 0 { // which sends what is left
		t.Errorf("ampora ended with %d", code)
	}
	checkTrace(t, p.receiver.Spans())
	assign := find(t, p.receiver.Spans(), story[0], "rpc.response.status_code", "ok")
	if id := hex.EncodeToString(assign.GetTraceId()); id != audited {
		t.Errorf("the audit log names the trace %q, it is %s", audited, id)
	}
	if len(p.receiver.Metrics()) == 0 || len(p.receiver.Logs()) == 0 {
		t.Errorf("%d metrics and %d log records came", len(p.receiver.Metrics()), len(p.receiver.Logs()))
	}
	for _, secret := range append(p.secrets, "hunter2", "PRIVATE KEY") {
		if strings.Contains(p.receiver.Text(), secret) {
			t.Errorf("telemetry shows a secret that begins with %.12s", secret)
		}
	}
}

// auditedTrace is the trace of the newest audit event whose action begins so.
func (p *program) auditedTrace(action string) string {
	p.t.Helper()
	list, err := amporav1connect.NewAuditServiceClient(p.client).ListAuditEvents(p.t.Context(), &amporav1.ListAuditEventsRequest{})
	p.must(err)
	for _, e := range list.GetEvents() {
		if strings.HasPrefix(e.GetAction(), action) {
			return e.GetTraceId()
		}
	}
	p.t.Fatalf("no %s is in the audit log", action)
	return ""
}

// story is the trace as names under names, the last being what settled the grant.
var story = []string{
	"ampora.v1.AssignmentService/Assign", "engine step", "outbox send", "gateway downlink", "gateway deliver config",
	"gateway report", "inbox record", "engine step",
}

func checkTrace(t *testing.T, spans []otlptest.Span) {
	t.Helper()
	byID := map[string]otlptest.Span{}
	for _, s := range spans {
		byID[string(s.GetSpanId())] = s
	}
	settled := find(t, spans, "engine step", "ampora.grant.state", "met")
	var names []string
	for _, s := range otlptest.Lineage(spans, settled) {
		names = append(names, s.GetName())
	}
	if !slices.Equal(names, story) {
		t.Errorf("the settled grant stands on\n%s\nwant\n%s", strings.Join(names, " > "), strings.Join(story, " > "))
	}
	counts := map[string]int{}
	for _, s := range spans {
		switch {
		case bytes.Equal(s.GetTraceId(), settled.GetTraceId()):
			counts[s.GetName()]++
		case !strings.HasPrefix(s.GetName(), "ampora.v1."): // other changes through the API, and what follows from them
			t.Errorf("%s is recorded in another trace", s.GetName())
		}
	}
	// Delivery, APPLYING and APPLIED are three records; what the agent said by itself is none.
	for name, want := range map[string]int{"gateway report": 2, "inbox record": 3, "gateway deliver config": 1, "outbox send": 1} {
		if counts[name] != want {
			t.Errorf("%d spans %s, want %d", counts[name], name, want)
		}
	}
	fetch := find(t, spans, "ampora.internal.v1.GatewayService/FetchBody", "rpc.response.status_code", "ok")
	if byID[string(fetch.GetParentSpanId())].GetName() == "" || !bytes.Equal(fetch.GetTraceId(), settled.GetTraceId()) {
		t.Error("the configuration was fetched in no trace, or in another one")
	}
}

// find returns the span of a name with an attribute.
func find(t *testing.T, spans []otlptest.Span, name, key, value string) otlptest.Span {
	t.Helper()
	for _, s := range spans {
		if s.GetName() == name && otlptest.Attribute(s.GetAttributes(), key).GetStringValue() == value {
			return s
		}
	}
	var names []string
	for _, s := range spans {
		names = append(names, s.GetName())
	}
	t.Fatalf("there is no span %s with %s=%s among %v", name, key, value, names)
	return otlptest.Span{}
}
