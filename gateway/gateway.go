// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the half of Ampora that agents talk to: it ends their TLS, knows
// who they are, speaks OpAMP with them and relays between them and the control plane.
//
// It holds no truth and writes no disk. It can be killed at any moment: sessions are
// claimed from the control plane, reports are idempotent state on the bus, and what was
// on its way is asked for again; how far it has heard its agents stands on the bus, so most
// need not say anything again. Agents that poll may come to any gateway, each time to another.
// Asked to stop, it drains: it admits nobody, closes its connections spread over time and
// publishes what it still holds.
package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/opamp"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/keypair"
	"gitlab.com/ampora/ampora/shared/run"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// Deps is what a gateway works with. All but the last three are required.
type Deps struct {
	Control internalv1connect.GatewayServiceClient
	Bus     bus.Bus
	Log     *slog.Logger
	Meter   metric.Meter
	Clock   func() time.Time
	// Tracer makes the spans; nil: nothing is traced.
	Tracer trace.Tracer
	// Version is shown to the control plane.
	Version string

	// Certificate gives the server's certificate, in place of the configured files.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ServerCA is what agents verify it with, in PEM, in place of the configured file.
	ServerCA []byte
	// Other answers requests for paths that are not the gateway's, where it shares its
	// port.
	Other http.Handler
}

// Gateway is one gateway process. Make one with [New].
type Gateway struct {
	config   Config
	listener net.Listener

	trust     *edge.Trust
	stapler   *edge.Stapler
	server    *edge.Server
	opamp     *opamp.Server
	claims    *session.Claims
	bodies    *relay.Bodies
	told      *relay.Registration
	lease     *relay.Lease
	downlinks *relay.Downlinks
	publisher *relay.Publisher
	marks     *relay.Marks
}

// New wires a gateway and binds its address; nothing runs yet.
func New(config Config, deps Deps) (*Gateway, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	deps.Tracer = tracing.OrNone(deps.Tracer)
	g := &Gateway{config: config, told: relay.NewRegistration(deps.Clock)}
	origin := relay.Origin{Gateway: identity.GatewayID(config.GatewayID), BootID: newBootID()}

	rejections, err := edge.NewRejections(deps.Log, deps.Meter, deps.Clock)
	if err != nil {
		return nil, err
	}
	if g.publisher, err = relay.NewPublisher(origin, deps.Bus, g.told, deps.Log, deps.Meter); err != nil {
		return nil, err
	}
	onEnd, err := countEnds(deps.Meter, g.publisher.Ended)
	if err != nil {
		return nil, err
	}
	registry := session.NewRegistry(onEnd)
	g.claims = session.NewClaims(deps.Control, origin.Gateway, origin.BootID, registry)
	g.bodies = relay.NewBodies(deps.Control)
	g.trust = edge.NewTrust(edge.TrustConfig{
		Control: deps.Control, Log: deps.Log, Clock: deps.Clock, Limit: config.TrustMaxAge,
		OnNew: func(snapshot *edge.Snapshot) { cutRevoked(registry, snapshot) },
	})
	g.lease = relay.NewLease(relay.LeaseConfig{
		Origin: origin, Version: deps.Version, Control: deps.Control, Log: deps.Log, Clock: deps.Clock,
		Registration: g.told, BusLost: g.publisher.Lost, Trust: g.trust.Generation,
		OnLost: func(ctx context.Context) { g.opamp.Reclaim(ctx) },
	})
	g.downlinks, err = relay.NewDownlinks(relay.DownlinksConfig{
		Origin: origin, Bus: deps.Bus, Registry: registry, Bodies: g.bodies, Publisher: g.publisher,
		Log: deps.Log, Tracer: deps.Tracer, Clock: deps.Clock, Registration: g.told, Keys: g.downlinkKeys, Render: opamp.RenderConfig,
	}, deps.Meter)
	if err != nil {
		return nil, err
	}
	g.marks = relay.NewMarks(relay.MarksConfig{
		Origin: origin, Bus: deps.Bus, Registry: registry, Publisher: g.publisher, Registration: g.told, Log: deps.Log,
	})
	if err := errors.Join(g.openDoors(deps, origin.Gateway, registry, rejections), g.measure(deps.Meter, registry)); err != nil {
		return nil, err
	}
	if g.listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", config.Addr); err != nil {
		return nil, fmt.Errorf("AMPORA_OPAMP_ADDR: %w", err)
	}
	return g, nil
}

// openDoors wires what agents meet: the edge, OpAMP and EST.
func (g *Gateway) openDoors(deps Deps, id identity.GatewayID, registry *session.Registry, rejections *edge.Rejections) error {
	certificate, serverCA, err := credentials(g.config, deps)
	if err != nil {
		return err
	}
	g.stapler = edge.NewStapler(certificate, deps.Log, deps.Clock)
	mask, err := opamp.ParseMask(g.config.AllowedCapabilities)
	if err != nil {
		return err
	}
	admission := edge.NewAdmission(edge.AdmissionConfig{
		Gateway: id, Control: deps.Control, Trust: g.trust, Box: edge.NewBox(), Rejections: rejections, Clock: deps.Clock,
		Max: g.config.MaxSessions, Ready: g.takesAgents,
	})
	enrolment, err := edge.NewEnrolment(id, deps.Control, deps.Log, deps.Meter)
	if err != nil {
		return err
	}
	g.opamp, err = opamp.NewServer(opamp.Config{
		Admission: admission, Rejections: rejections, Enrolment: enrolment, Registry: registry, Claims: g.claims,
		Publisher: g.publisher, Downlinks: g.downlinks, Polls: relay.NewPolls(deps.Bus, g.told, g.config.IdleTimeout),
		Bodies: g.bodies, Log: deps.Log, Tracer: deps.Tracer, Clock: deps.Clock,
		Endpoint: opamp.Endpoint{URL: g.config.Endpoint(), ServerCA: serverCA}, Mask: mask, Limits: g.config.limits(),
	}, deps.Meter)
	if err != nil {
		return err
	}
	g.server, err = edge.NewServer(edge.ServerConfig{
		Handler: routes(g.opamp, edge.NewEST(admission, g.trust, enrolment), deps.Other),
		Trust:   g.trust, Rejections: rejections, Log: deps.Log, Certificate: g.stapler.Certificate, Handshakes: g.config.MaxHandshakes,
		Connections: g.config.MaxSessions + max(minUnadmitted, g.config.MaxSessions/4),
	}, deps.Meter)
	return err
}

// Addr is the address that agents connect to.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// Ready says why the gateway would turn agents away now; nil if it would not.
func (g *Gateway) Ready(context.Context) error {
	if _, err := g.trust.Current(); err != nil {
		return fault.New(fault.Unavailable, "NO_TRUST", "there is no fresh trust snapshot of the control plane").WithCause(err)
	}
	if !g.lease.Held() {
		return fault.New(fault.Unavailable, "NO_LEASE", "there is no lease from the control plane")
	}
	if g.publisher.Full() {
		return fault.New(fault.Unavailable, "BUS_BEHIND", "the bus does not take what agents say")
	}
	return nil
}

// Run serves until the context ends or a part fails, and then drains: first agents are
// let go, then what answers them stops, and last what was published on their behalf is
// flushed. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	return run.Phases(ctx,
		[]run.Task{{Name: "agents", Run: g.serve}},
		[]run.Task{
			{Name: "downlinks", Run: g.downlinks.Run},
			{Name: "marks", Run: g.marks.Run},
			{Name: "polling sessions", Run: g.opamp.Run},
			{Name: "claims", Run: g.claims.Run},
			{Name: "bodies", Run: g.bodies.Run},
			{Name: "trust", Run: g.trust.Run},
			{Name: "OCSP staple", Run: g.stapler.Run},
			{Name: "lease", Run: g.lease.Run},
		},
		[]run.Task{{Name: "uplinks", Run: g.publisher.Run}},
	)
}

// serve accepts agents until the context ends, and returns when the last has gone.
func (g *Gateway) serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- g.server.Serve(g.listener) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.config.DrainDuration+shutdownTime)
	defer cancel()
	requests := make(chan struct{})
	go func() {
		defer close(requests)
		if g.server.Shutdown(closing) != nil {
			_ = g.server.Close()
		}
	}()
	g.opamp.Drain(g.config.DrainDuration)
	<-requests
	g.opamp.DrainPolling()
	return err
}

// minUnadmitted is how many connections there may be beside MaxSessions, at least: those
// in a handshake, those that are turned away, and those that wait between two polls.
const minUnadmitted = 1024

// shutdownTime is what polls under way get to finish, beyond the drain.
const shutdownTime = 5 * time.Second

// takesAgents says whether what an agent says can be passed on.
func (g *Gateway) takesAgents() bool { return g.lease.Held() && !g.publisher.Full() }

func (g *Gateway) downlinkKeys() (map[string]ed25519.PublicKey, error) {
	snapshot, err := g.trust.Current()
	if err != nil {
		return nil, err
	}
	return snapshot.DownlinkKeys, nil
}

// cutRevoked ends the sessions whose certificate a new snapshot revokes, or what signed it.
func cutRevoked(registry *session.Registry, snapshot *edge.Snapshot) {
	for s := range registry.All() {
		if snapshot.Revoked(s.Key.Tenant, s.Serial) {
			s.Link.Close(s, session.Revoked)
		} else if !snapshot.Issues(s.Key.Tenant, s.Issuer) {
			s.Link.Close(s, session.KeyRetired)
		}
	}
}

func routes(agents http.Handler, est *edge.EST, other http.Handler) http.Handler {
	ours := http.NewServeMux()
	ours.Handle(opamp.Path, agents)
	est.Register(ours)
	bounded := edge.Bounded(ours)
	if other == nil {
		return bounded
	}
	mux := http.NewServeMux()
	mux.Handle(opamp.Path, bounded)
	mux.Handle(edge.ESTPath, bounded)
	mux.Handle("/", other)
	return mux
}

// credentials returns the server's certificate and what agents verify it with.
func credentials(config Config, deps Deps) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), []byte, error) {
	certificate, serverCA := deps.Certificate, deps.ServerCA
	if certificate == nil {
		if config.TLSCertFile == "" {
			return nil, nil, errors.New("AMPORA_OPAMP_TLS_CERT_FILE and AMPORA_OPAMP_TLS_KEY_FILE are required: agents are served over TLS alone")
		}
		files, err := keypair.Open(config.TLSCertFile, config.TLSKeyFile, deps.Clock, deps.Log)
		if err != nil {
			return nil, nil, err
		}
		certificate = files.Certificate
	}
	if len(serverCA) == 0 && config.ServerCA != "" {
		var err error
		if serverCA, err = os.ReadFile(config.ServerCA); err != nil {
			return nil, nil, fmt.Errorf("AMPORA_OPAMP_SERVER_CA_FILE: %w", err)
		}
	}
	return certificate, serverCA, nil
}

// newBootID is random, and never 0, which the contract keeps for "none".
func newBootID() uint64 {
	var random [8]byte
	rand.Read(random[:])
	return binary.LittleEndian.Uint64(random[:]) | 1
}
