// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package control is the control plane as a value: Open wires it top to bottom, Run runs it until its context ends.
//
// It is the place where concrete things meet: the database behind the store, the bus, the certificate authority, the
// API and the loops. Nothing else knows more than the part it needs.
package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectinprocess"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/drift"
	"gitlab.com/ampora/ampora/control/internal/engine"
	"gitlab.com/ampora/ampora/control/internal/enrolment"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/gateways"
	"gitlab.com/ampora/ampora/control/internal/groups"
	"gitlab.com/ampora/ampora/control/internal/inbox"
	"gitlab.com/ampora/ampora/control/internal/outbox"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/render"
	"gitlab.com/ampora/ampora/control/internal/replica"
	"gitlab.com/ampora/ampora/control/internal/revocation"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/upkeep"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/run"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// Deps is what the control plane is given by the program it runs in.
type Deps struct {
	Mode  Mode
	Bus   bus.Bus
	Log   *slog.Logger
	Meter metric.Meter
	Now   func() time.Time
	// Process names this process in leases; empty: a new [ProcessName].
	Process string
	// Tracer makes the spans; nil: nothing is traced.
	Tracer trace.Tracer
	// Version of the program, OpAMPURL where agents connect: for the API to show.
	Version  string
	OpAMPURL string
	// KeyServices are those that certificate authorities can be kept in; a program without has them in the database.
	KeyServices []kms.Driver
	// DevelopmentLogin admits callers of this machine without a token. Only ampora, in development, sets it.
	DevelopmentLogin bool
	// SharedPort says that the API is served on the gateway's TLS port, through Handler.
	SharedPort bool
}

// Control is a control plane that is ready to run.
type Control struct {
	deps   Deps
	config Config

	store     store.Store
	replica   *replica.Replica
	ring      *seal.Keyring
	authority *pki.Authority
	// keyServices have keys of the authority; pending says that one has still to make the first.
	keyServices *kms.Services
	pending     bool
	enrolment   *enrolment.Enrolment
	inbox       *inbox.Inbox
	engine      *engine.Engine
	waves       *engine.Rollouts
	outbox      *outbox.Outbox
	backlog     *backlog
	lists       *revocation.Lists
	answers     *revocation.Answers
	keys        *signingKeys
	keeper      *upkeep.Keeper
	watcher     *drift.Watcher
	placer      *groups.Placer
	rollouts    *rollouts.Rollouts
	// local is the internal service for a gateway in this process, remote that for gateways of others.
	local, remote *connect.Server
	handler       http.Handler
	// stopping is closed when the intake stops.
	stopping chan struct{}
}

// Open opens the database (which must have this program's schema), makes what a first start makes, and wires the parts.
func Open(ctx context.Context, config Config, d Deps) (*Control, error) {
	if err := config.Check(d.Mode, d.SharedPort); err != nil {
		return nil, err
	}
	db, err := openStore(ctx, config.Database, d.Log)
	if err != nil {
		return nil, err
	}
	c, err := assemble(ctx, config, d, db)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return c, nil
}

// assemble wires the parts around an open database.
func assemble(ctx context.Context, config Config, d Deps, opened store.Store) (*Control, error) {
	d.Tracer = tracing.OrNone(d.Tracer)
	db := ringing{Store: opened, engine: run.NewBell(), outbox: run.NewBell(), rollouts: run.NewBell()}
	ring, err := openKeyring(ctx, config.Keys, db)
	if err != nil {
		return nil, err
	}
	if err := fixTrustDomain(ctx, db, config.PKI.TrustDomain); err != nil {
		return nil, err
	}
	bodies, err := openContent(ctx, config, db, ring, d.Now())
	if err != nil {
		return nil, err
	}
	authority, services, pending, err := openAuthority(ctx, config, d, db, ring)
	if err != nil {
		return nil, err
	}
	signer, err := openSigner(ctx, db, ring)
	if err != nil {
		return nil, err
	}
	uplinks, err := openUplinks(ctx, db, ring)
	if err != nil {
		return nil, err
	}

	c := &Control{deps: d, config: config, store: db, replica: newReplica(d, db), ring: ring, authority: authority, keyServices: services, pending: pending, stopping: make(chan struct{})}
	if err := c.openLoops(db, bodies, signer, uplinks); err != nil {
		return nil, err
	}
	observe, err := c.observe()
	if err != nil {
		return nil, err
	}

	if err := c.openInternal(ctx, db, bodies, signer, uplinks, observe); err != nil {
		return nil, err
	}
	c.handler, err = c.openAPI(bodies, observe.public)
	return c, err
}

// openAPI makes the public API, with its callers measured as told.
func (c *Control) openAPI(bodies *content.Content, observe connect.ServerInterceptor) (http.Handler, error) {
	d, config := c.deps, c.config
	callers, err := auth.NewInterceptor(auth.Config{
		Tokens: c.store, Log: d.Log, Now: d.Now, Development: d.DevelopmentLogin, DevelopmentTenant: fleet.TenantID(config.Tenant),
	})
	if err != nil {
		return nil, err
	}
	builds, err := config.Validator.open(d.Log)
	if err != nil {
		return nil, err
	}
	public := connect.NewServer(observe, callers)
	err = api.Register(public, api.Deps{
		Store: c.store, Content: bodies, Authority: c.authority, Rollouts: c.rollouts, Now: c.replica.Clock, Version: d.Version, TrustDomain: config.PKI.TrustDomain, OpAMPURL: d.OpAMPURL,
		Validator: builds, ImmediateLimit: config.ImmediateLimit, Stopping: c.stopping, Meter: d.Meter,
	})
	return api.NewHandler(public, config.API.CORSOrigins), err
}

// openInternal makes the service for gateways, of this process and of others.
func (c *Control) openInternal(ctx context.Context, db ringing, bodies *content.Content, signer *outbox.Signer, uplinks uplinks, observe observers) error {
	d, config := c.deps, c.config
	line, err := fixLine(ctx, db)
	if err != nil {
		return err
	}
	answers, err := auth.NewInternalInterceptor(d.Log)
	if err != nil {
		return err
	}
	c.enrolment = enrolment.New(db, c.authority, d.Log, d.Now)
	service := gateways.New(gateways.Deps{
		Store: db, Gateways: db, Enrolment: c.enrolment, Authority: c.authority, Content: bodies,
		Signer: signer, Bus: d.Bus, Log: d.Log, UplinkKey: uplinks.key, TrustDomain: config.PKI.TrustDomain, Line: line, Now: c.replica.Clock,
	})
	gate := gateways.NewGate(db, c.authority, config.PKI.TrustDomain, d.Now)
	c.local = connect.NewServer(observe.local, answers, gateways.InProcess)
	c.remote = connect.NewServer(observe.remote, answers, gate.Interceptor)
	internalv1connect.RegisterGatewayServiceHandler(c.local, service)
	internalv1connect.RegisterGatewayServiceHandler(c.remote, service)
	return nil
}

// openContent opens the store of bodies, with the installation's tenant.
func openContent(ctx context.Context, config Config, db store.Store, ring *seal.Keyring, now time.Time) (*content.Content, error) {
	bodies := content.New(db, ring)
	_, err := bodies.EnsureTenant(ctx, fleet.TenantID(config.Tenant), now)
	return bodies, err //nolint:wrapcheck // says what it is about
}

func newReplica(d Deps, db store.Store) *replica.Replica {
	return replica.New(replica.Deps{Store: db, ID: cmp.Or(d.Process, ProcessName()), Version: d.Version, Log: d.Log, Now: d.Now})
}

// What is sent to a crowd goes before what agents say, as long as that waits for no longer than people notice.
const (
	wayCrowd   = 100
	wayMoment  = 500 * time.Millisecond
	wayLongest = 2 * time.Second
)

// openLoops makes what records, decides, sends and lists. Like all that judges leases or sets times that other processes
// will judge, it goes by the database's clock.
func (c *Control) openLoops(db ringing, bodies *content.Content, signer *outbox.Signer, keys uplinks) (err error) {
	d, now := c.deps, c.replica.Clock
	way := &run.Way{Crowd: wayCrowd, Moment: wayMoment, Longest: wayLongest}
	if c.inbox, err = inbox.New(inbox.Deps{Store: db, Bus: d.Bus, Bodies: bodies, Key: keys.key, Replica: c.replica, Way: way, Log: d.Log, Meter: d.Meter, Tracer: d.Tracer, Now: now}); err != nil {
		return err
	}
	if c.engine, err = engine.New(engine.Deps{Store: db, Log: d.Log, Meter: d.Meter, Tracer: d.Tracer, Now: now, Bell: db.engine, Way: way, Render: render.New(db, bodies, now).Offers}); err != nil {
		return err
	}
	if c.waves, err = engine.NewRollouts(engine.RolloutsDeps{Store: db, Log: d.Log, Meter: d.Meter, Now: now, Bell: db.rollouts}); err != nil {
		return err
	}
	if c.outbox, err = outbox.New(outbox.Deps{Store: db, Bus: d.Bus, Signer: signer, Log: d.Log, Meter: d.Meter, Tracer: d.Tracer, Now: now, Bell: db.outbox, Way: way}); err != nil {
		return err
	}
	c.keys = &signingKeys{store: db, authority: c.authority, log: d.Log, now: now, trusted: c.config.PKI.Trusted}
	tenant := fleet.TenantID(c.config.Tenant)
	if c.lists, err = revocation.New(revocation.Deps{Store: db, Authority: c.authority, Tenant: tenant, Log: d.Log, Meter: d.Meter, Now: now}); err != nil {
		return err
	}
	policy := upkeep.Policy{Before: c.config.PKI.RenewBefore, Window: c.config.PKI.RotationWindow}
	if c.keeper, err = upkeep.New(upkeep.Deps{Store: db, Policy: policy, Log: d.Log, Meter: d.Meter, Now: now}); err != nil {
		return err
	}
	if c.watcher, err = drift.New(drift.Deps{Store: db, Content: bodies, Log: d.Log, Meter: d.Meter, Now: now}); err != nil {
		return err
	}
	if c.placer, err = groups.New(groups.Deps{Store: db, Limit: c.config.ImmediateLimit, Log: d.Log, Meter: d.Meter, Now: now}); err != nil {
		return err
	}
	c.rollouts = rollouts.New(rollouts.Deps{Store: db, Content: bodies, Limit: c.config.ImmediateLimit, Log: d.Log, Now: now})
	c.answers, err = revocation.NewAnswers(revocation.AnswersDeps{
		Store: db, Authority: c.authority, Tenant: tenant, Nonces: c.config.PKI.Nonces, Log: d.Log, Meter: d.Meter, Now: now,
	})
	return err
}

// Gateways is a client of the internal service for a gateway in this process, with the interceptors that it wants.
func (c *Control) Gateways(interceptors ...connect.ClientInterceptor) internalv1connect.GatewayServiceClient {
	return internalv1connect.NewGatewayServiceClient(connect.NewClient(connectinprocess.New(c.local), interceptors...))
}

// Handler serves the public API.
func (c *Control) Handler() http.Handler { return c.handler }

// Ready fails while the control plane cannot work, with a reason that operators may be shown.
func (c *Control) Ready(ctx context.Context) error {
	if err := c.store.Ping(ctx); err != nil {
		return fault.New(fault.Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be used").WithCause(err)
	}
	return nil
}

// Close closes the database. Call it after Run.
func (c *Control) Close() error {
	c.keyServices.Close()
	return c.store.Close() //nolint:wrapcheck // shown as it is
}

// Intake is what must stop first: the streams of events, which would otherwise hold up whoever serves them, and the
// API's own listener, if it has one. Run it once.
func (c *Control) Intake() []run.Task {
	tasks := []run.Task{{Name: "event streams", Run: c.endStreams}}
	if !c.deps.SharedPort {
		tasks = append(tasks, run.Task{Name: "api", Run: c.serveAPI})
	}
	if c.config.PKI.Addr != "" {
		tasks = append(tasks, run.Task{Name: "revocation lists", Run: c.servePKI})
	}
	return tasks
}

func (c *Control) endStreams(ctx context.Context) error {
	<-ctx.Done()
	close(c.stopping)
	return nil
}

// Loops are what records, decides and sends; they stop after the intake. The lease under which they do it alone is given
// back when the last of them has stopped.
func (c *Control) Loops() []run.Task {
	loops := []run.Task{
		{Name: "enrolment", Run: c.enrolment.Run},
		{Name: "inbox", Run: c.inbox.Run},
		{Name: "engine", Run: c.engine.Run},
		{Name: "rollouts", Run: c.waves.Run},
		{Name: "outbox", Run: c.outbox.Run},
		{Name: "backlog", Run: c.backlog.run},
		{Name: "signing keys", Run: c.keys.run},
		{Name: "certificate authority", Run: c.makeAuthority},
		c.replica.Duty("event retention", time.Hour, c.pruneEvents),
		c.replica.Duty("bootstrap token retention", time.Hour, c.sweepTokens),
		c.replica.Duty("lost sessions", lostPause, c.endLost),
		c.replica.Duty("revocation lists", revocation.Pause, c.lists.Renew),
		c.replica.Duty("trusted signing keys", time.Hour, c.keys.retire),
		c.replica.Duty("drift", drift.Pause, c.watcher.Look),
		c.replica.Duty("certificate upkeep", upkeep.Pause, c.keeper.Look),
		c.replica.Duty("dynamic groups", groups.Pause, c.placer.Look),
		c.replica.Duty("agents that wait", rollouts.Rest, c.rollouts.CatchUp),
		c.replica.Duty("rollbacks", rollouts.Rest, c.rollouts.UndoBreached),
		c.replica.Duty("OCSP responders", revocation.Pause, c.answers.Renew),
	}
	lease := []run.Task{{Name: "replica lease", Run: c.replica.Run}}
	return []run.Task{{Name: "control", Run: func(ctx context.Context) error { return run.Phases(ctx, loops, lease) }}}
}

// lostPause is how often it is looked for sessions whose gateway is gone.
const lostPause = 15 * time.Second

// endLost ends the sessions of gateways that are gone for so long that their agents would be back.
func (c *Control) endLost(ctx context.Context) error {
	now := c.replica.Clock()
	ended, err := c.store.EndLost(ctx, now.Add(-fleet.MoveGrace), now)
	if err == nil && ended > 0 {
		c.deps.Log.WarnContext(ctx, "agents of gateways that are gone did not come back", "agents", ended)
	}
	return err //nolint:wrapcheck // logged as what the duty failed of
}

// sweepBatch is how many tokens are swept at once.
const sweepBatch = 1000

// sweepTokens forgets bootstrap tokens that enrolled nobody and ended long ago.
func (c *Control) sweepTokens(ctx context.Context) error {
	for {
		n, err := c.store.SweepBootstrapTokens(ctx, c.replica.Clock().Add(-fleet.TokenRetention), sweepBatch)
		if err != nil || n < sweepBatch {
			return err //nolint:wrapcheck // logged as what the duty failed of
		}
	}
}

// pruneBatch is how many events are pruned at once: what else is to be written does not wait for long.
const pruneBatch = 5000

// pruneEvents forgets old events.
func (c *Control) pruneEvents(ctx context.Context) error {
	for {
		n, err := c.store.PruneEvents(ctx, c.replica.Clock().Add(-c.config.EventRetention), pruneBatch)
		if err != nil || n < pruneBatch {
			return err //nolint:wrapcheck // logged as what the duty failed of
		}
	}
}

// ProcessName is a name that no other process has: the host for people, random bytes for uniqueness.
func ProcessName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + hex.EncodeToString(b[:])
}
