// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// backends are the databases every test of this package runs on.
var backends = map[string]func(t *testing.T) store.Store{
	"sqlite": func(t *testing.T) store.Store {
		path := filepath.Join(t.TempDir(), "ampora.db")
		if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	},
	"postgres": func(t *testing.T) store.Store { return postgrestest.Open(t) },
}

// onBackends runs a test on each.
func onBackends(t *testing.T, test func(t *testing.T, db store.Store)) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

// plane is a control plane that runs, with its public API over HTTP.
type plane struct {
	*Control
	stop func()

	agents  amporav1connect.AgentServiceClient
	configs amporav1connect.ConfigServiceClient
	assign  amporav1connect.AssignmentServiceClient
	groups  amporav1connect.GroupServiceClient
	tokens  amporav1connect.BootstrapTokenServiceClient
	pools   amporav1connect.TokenPoolServiceClient
	web     *httptest.Server
	system  amporav1connect.SystemServiceClient
}

func start(t testing.TB, db store.Store, b bus.Bus, masterKey string) *plane {
	t.Helper()
	return startAt(t, db, b, masterKey, time.Now)
}

// startAt starts a control plane with a clock of the test's, and what else the test wants of its own.
func startAt(t testing.TB, db store.Store, b bus.Bus, masterKey string, now func() time.Time, own ...func(*Deps)) *plane {
	t.Helper()
	return startAs(t, testConfig(keys(masterKey)), db, b, now, own...)
}

func testConfig(k Keys) Config {
	config := Config{Keys: k, Tenant: "default", EventRetention: time.Hour, ImmediateLimit: fleet.ImmediateLimit}
	config.PKI.TrustDomain, config.PKI.PublicURL, config.API.Addr = "example.org", "http://127.0.0.1:1", "127.0.0.1:0"
	return config
}

// startAs is startAt with a configuration of the test's.
func startAs(t testing.TB, config Config, db store.Store, b bus.Bus, now func() time.Time, own ...func(*Deps)) *plane {
	t.Helper()
	deps := Deps{
		Mode: Development, Bus: b, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: now, SharedPort: true, DevelopmentLogin: true,
	}
	for _, own := range own {
		own(&deps)
	}
	c, err := assemble(t.Context(), config, deps, db)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run.All(ctx, c.Loops()...) }()
	web := httptest.NewServer(c.Handler())
	p := &plane{Control: c, web: web}
	p.stop = sync.OnceFunc(func() {
		web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the control plane stopped with %v", err)
		}
	})
	t.Cleanup(p.stop)
	client := connect.NewClient(connecthttp.NewTransport(web.Client(), web.URL))
	p.agents, p.configs = amporav1connect.NewAgentServiceClient(client), amporav1connect.NewConfigServiceClient(client)
	p.assign, p.groups = amporav1connect.NewAssignmentServiceClient(client), amporav1connect.NewGroupServiceClient(client)
	p.tokens, p.system = amporav1connect.NewBootstrapTokenServiceClient(client), amporav1connect.NewSystemServiceClient(client)
	p.pools = amporav1connect.NewTokenPoolServiceClient(client)
	return p
}

// published makes a configuration with one published version, of bytes that mean nothing, and returns its id.
func (p *plane) published(t *testing.T, name, body string) string {
	t.Helper()
	created, err := p.configs.CreateConfig(t.Context(), &amporav1.CreateConfigRequest{
		Name: name, Body: []byte(body), Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: created.GetConfig().GetId(), Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	return created.GetConfig().GetId()
}

// next publishes a further version.
func (p *plane) next(t *testing.T, config, body string) {
	t.Helper()
	v, err := p.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: config, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: config, Version: v.GetVersion().GetVersion()})
	if err != nil {
		t.Fatal(err)
	}
}

// crowd is a gateway with agents, as control sees them: it speaks the internal service and the bus, and its agents
// answer offers at once. It stands at the process boundary; the real gateway is exercised by loadtest/e2e.
type crowd struct {
	t       *testing.T
	control internalv1connect.GatewayServiceClient
	bus     bus.Bus
	boot    uint64
	key     uplink.Key

	mu      sync.Mutex
	counter map[int]uint64
	agents  map[string]*simulated
}

type simulated struct {
	id       string
	uid      [16]byte
	epoch    uint64
	sequence uint64
	current  string          // offer hash it holds
	broken   map[string]bool // offers it cannot run, by hash
	offered  []string        // offers it was given, in order
	asked    int             // how often it was asked for its full state
	pinged   int             // how often it was asked for a sign of life
	closed   int             // how often its session was to end
	claimed  *internalv1.Claim
}

func newCrowd(t *testing.T, p *plane, b bus.Bus, n int) *crowd {
	t.Helper()
	c := &crowd{t: t, control: p.Gateways(), bus: b, boot: 42, counter: map[int]uint64{}, agents: map[string]*simulated{}}
	retry(t, "register", func(ctx context.Context) error {
		registered, err := c.control.Register(ctx, &internalv1.RegisterRequest{GatewayId: "g", BootId: c.boot})
		if err == nil {
			c.key, err = uplink.ParseKey(registered.GetUplinkKey())
		}
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { c.receive(ctx) })
	working.Go(func() { c.keepLease(ctx) })
	t.Cleanup(func() { cancel(); working.Wait() })
	for i := range n {
		c.join(p, byte(i+1))
	}
	return c
}

// keepLease renews the lease as a gateway does; a renewal that fails is made up for by the next.
func (c *crowd) keepLease(ctx context.Context) {
	for run.Sleep(ctx, 2*time.Second) == nil {
		_, _ = c.control.RenewLease(ctx, &internalv1.RenewLeaseRequest{GatewayId: "g", BootId: c.boot})
	}
}

// join enrols an agent, claims its session and sends its first report.
func (c *crowd) join(p *plane, n byte) *simulated {
	c.t.Helper()
	var secret string
	retry(c.t, "issue a token", func(ctx context.Context) error {
		issued, err := p.tokens.IssueBootstrapToken(ctx, &amporav1.IssueBootstrapTokenRequest{})
		secret = issued.GetSecret()
		return err
	})
	csr := newCSR(c.t)
	var enrolled *internalv1.EnrollResponse
	retry(c.t, "enrol", func(ctx context.Context) (err error) {
		enrolled, err = c.control.Enroll(ctx, &internalv1.EnrollRequest{Token: secret, CsrPem: csr, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST})
		return err
	})
	a := &simulated{id: enrolled.GetAgentId(), uid: [16]byte{15: n}, broken: map[string]bool{}}
	c.claim(a, enrolled.GetCertificateChainPem())
	c.mu.Lock()
	c.agents[a.id] = a
	c.mu.Unlock()
	c.report(a, &protobufs.AgentToServer{
		Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus | protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig),
		AgentDescription: &protobufs.AgentDescription{IdentifyingAttributes: []*protobufs.KeyValue{{
			Key: "service.name", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: fmt.Sprintf("agent-%d", n)}},
		}}},
		Health: &protobufs.ComponentHealth{Healthy: true},
	})
	return a
}

func (c *crowd) claim(a *simulated, chain []byte) {
	c.t.Helper()
	block, _ := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.t.Fatal(err)
	}
	claim := &internalv1.Claim{
		Tenant: "default", AgentId: a.id, Serial: string(identity.SerialOf(leaf.SerialNumber)),
		Fingerprint: string(identity.FingerprintOf(leaf.Raw)), InstanceUid: a.uid[:], Takeover: internalv1.Takeover_TAKEOVER_RESTART,
	}
	a.claimed = claim
	retry(c.t, "claim", func(ctx context.Context) error {
		got, err := c.control.ClaimSessions(ctx, &internalv1.ClaimSessionsRequest{GatewayId: "g", BootId: c.boot, Claims: []*internalv1.Claim{claim}})
		if err != nil {
			return err
		}
		result := got.GetResults()[0]
		if result.GetOutcome() == internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD {
			claim.HolderEpoch = result.GetHolderEpoch()
			return errors.New("it is held")
		}
		if result.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED {
			c.t.Fatalf("claim: %v", result)
		}
		a.epoch = result.GetEpoch()
		return nil
	})
}

// report publishes a message of an agent.
func (c *crowd) report(a *simulated, m *protobufs.AgentToServer) {
	a.sequence++
	m.InstanceUid, m.SequenceNum = a.uid[:], a.sequence
	raw, err := proto.Marshal(m)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.publish(a, &relayv1.Uplink{Event: &relayv1.Uplink_Report{Report: &relayv1.Report{Sequence: a.sequence, AgentToServer: raw}}})
}

func (c *crowd) publish(a *simulated, u *relayv1.Uplink) {
	partition := bus.PartitionOf(identity.AgentID(a.id))
	c.mu.Lock()
	c.counter[partition]++
	u.GatewayId, u.BootId, u.Counter, u.Tenant, u.AgentId, u.InstanceUid = "g", c.boot, c.counter[partition], "default", a.id, a.uid[:]
	u.Epoch, u.ReceivedAt = a.epoch, timestamppb.Now()
	c.mu.Unlock()
	body, err := proto.Marshal(u)
	if err != nil {
		c.t.Error(err)
		return
	}
	payload, err := proto.Marshal(&relayv1.Sealed{Body: body, Seal: c.key.SealUplink(body)})
	if err == nil {
		err = c.bus.Publish(context.Background(), bus.Outgoing{Partition: partition, Payload: payload})
	}
	if err != nil {
		c.t.Errorf("publish: %v", err)
	}
}

// receive answers downlinks as agents would.
func (c *crowd) receive(ctx context.Context) {
	var at bus.Position
	for ctx.Err() == nil {
		batch, err := c.bus.Receive(ctx, "g", at, 100)
		if err != nil {
			return
		}
		at = batch.Next
		for _, m := range batch.Messages {
			var signed relayv1.SignedDownlink
			var down relayv1.Downlink
			if proto.Unmarshal(m.Payload, &signed) != nil || proto.Unmarshal(signed.GetDownlink(), &down) != nil {
				c.t.Error("a downlink that cannot be read")
				continue
			}
			for _, target := range down.GetTargets() {
				c.deliver(&down, target)
			}
		}
	}
}

func (c *crowd) deliver(down *relayv1.Downlink, target *relayv1.Target) {
	c.mu.Lock()
	a := c.agents[target.GetAgentId()]
	c.mu.Unlock()
	if a == nil || a.epoch != target.GetEpoch() {
		return
	}
	if down.GetKind() != relayv1.Downlink_KIND_CONFIG {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch down.GetKind() {
		case relayv1.Downlink_KIND_FULL_STATE:
			a.asked++
		case relayv1.Downlink_KIND_PING:
			a.pinged++
		case relayv1.Downlink_KIND_CLOSE:
			a.closed++
		default:
			c.t.Errorf("an unknown downlink: %v", down)
		}
		return
	}
	c.publish(a, &relayv1.Uplink{Event: &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{
		Outcome: relayv1.Delivery_OUTCOME_DELIVERED, Kind: down.GetKind(), Hash: down.GetHash(), Generation: target.GetGeneration(),
	}}})
	if !c.take(a, string(down.GetHash())) {
		return // Real agents say nothing to the hash they have.
	}
	say := func(s protobufs.RemoteConfigStatuses, words string) {
		c.report(a, &protobufs.AgentToServer{RemoteConfigStatus: &protobufs.RemoteConfigStatus{LastRemoteConfigHash: down.GetHash(), Status: s, ErrorMessage: words}})
	}
	say(protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING, "")
	c.mu.Lock()
	broken := a.broken[string(down.GetHash())]
	c.mu.Unlock()
	if broken {
		say(protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED, "cannot run it")
		return
	}
	say(protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED, "")
}

// take makes the agent hold an offer, unless it does already.
func (c *crowd) take(a *simulated, offer string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.current == offer {
		return false
	}
	a.current = offer
	a.offered = append(a.offered, offer)
	return true
}

// holds waits until the agent holds the offer of a body.
func (c *crowd) holds(a *simulated, body string) {
	c.t.Helper()
	eventually(c.t, "agent "+a.id+" holds the configuration", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if a.current != offerOf(body) {
			return errors.New("not yet")
		}
		return nil
	})
}

// offers counts how often the agent was given a body that it did not hold.
func (c *crowd) offers(a *simulated, body string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, o := range a.offered {
		if o == offerOf(body) {
			n++
		}
	}
	return n
}

func (c *crowd) breaks(a *simulated, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.broken[offerOf(body)] = true
}

func newCSR(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func newMasterKey() string { return seal.NewMasterKey().Base64() }

func keys(master string) Keys { return Keys{Master: conf.NewSecret(master)} }

func newBus(t testing.TB) bus.Bus {
	b := inproc.New(inproc.Options{})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// retry does what a client does while the database is away.
func retry(t *testing.T, what string, do func(ctx context.Context) error) {
	t.Helper()
	eventually(t, what, func() error { return do(t.Context()) })
}

// eventually waits for a condition, generously: these machines are busy.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
