// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/gateways"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/calls"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
)

// backlogInterval is how often the queues are measured, backlogLife how long what was measured is shown.
const (
	backlogInterval = 10 * time.Second
	backlogLife     = time.Minute
)

// backlog is what was last measured of the database's queues.
type backlog struct {
	store store.Queues
	now   func() time.Time
	last  atomic.Pointer[measured]
}

type measured struct {
	store.Backlog
	at time.Time
}

// run measures until ctx is done. Any replica may: they measure the same. A database that is away is told of by those
// who need it.
func (b *backlog) run(ctx context.Context) error {
	return run.Loop(ctx, run.Pace{Idle: backlogInterval, Failed: backlogInterval}, func(ctx context.Context) (int, error) {
		now := b.now()
		got, err := b.store.Backlog(ctx, now)
		if err == nil {
			b.last.Store(&measured{got, now})
		}
		return 0, err //nolint:wrapcheck // not told
	}, func(error) {})
}

// queue returns what is shown of one queue: nothing, if nothing was measured lately.
func (b *backlog) queue(of func(store.Backlog) store.Queue) (q store.Queue, age time.Duration, known bool) {
	last, now := b.last.Load(), b.now()
	if last == nil || now.Sub(last.at) > backlogLife {
		return store.Queue{}, 0, false
	}
	if q = of(last.Backlog); !q.Oldest.IsZero() {
		age = max(0, now.Sub(q.Oldest))
	}
	return q, age, true
}

// declare declares the two gauges of a queue.
func (b *backlog) declare(made *instrument.Set, name, unit, what string, of func(store.Backlog) store.Queue) {
	made.Gauge(name, unit, what+" that are due and not done, up to 100000, whichever process does them.", func(observe instrument.Observe) {
		if q, _, known := b.queue(of); known {
			observe(float64(q.Due))
		}
	})
	made.Gauge(name+"_age", "s", what+": since when the oldest is due that is not done; 0 if there is none.", func(observe instrument.Observe) {
		if _, age, known := b.queue(of); known {
			observe(age.Seconds())
		}
	})
}

// rollouts tells how many are in which state.
func (b *backlog) rollouts(observe instrument.Observe) {
	last := b.last.Load()
	if last == nil || b.now().Sub(last.at) > backlogLife {
		return
	}
	observe(float64(last.InProgress), "in_progress")
	observe(float64(last.Paused), "paused")
	observe(float64(last.RollingBack), "rolling_back")
}

// measure declares what is measured of the database.
func measure(meter metric.Meter, db store.Store, b *backlog) error {
	made := instrument.On(meter)
	b.declare(made, "ampora_control_engine_backlog", "{agent}", "Agents to be looked at", func(b store.Backlog) store.Queue { return b.Work })
	b.declare(made, "ampora_control_outbox_backlog", "{target}", "Messages to agents", func(b store.Backlog) store.Queue { return b.Outbox })
	made.Gauge("ampora_control_rollouts", "{rollout}", "Rollouts that were started and are not over, by where they stand.", b.rollouts,
		instrument.By("state", "in_progress", "paused", "rolling_back"))
	made.Gauge("ampora_control_database_connections", "{connection}", "Connections to the database.", func(observe instrument.Observe) {
		p := db.Pool()
		observe(float64(p.Used), "used")
		observe(float64(p.Idle), "idle")
	}, instrument.By("state", "used", "idle"))
	made.Gauge("ampora_control_database_connections_max", "{connection}", "Connections to the database that there may be.",
		func(observe instrument.Observe) { observe(float64(db.Pool().Max)) })
	made.Total("ampora_control_database_waits", "{wait}", "How often all connections to the database were in use when one was needed.",
		func(observe instrument.Observe) { observe(float64(db.Pool().Waits)) })
	made.Total("ampora_control_database_wait", "s", "Time spent waiting for a connection to the database.",
		func(observe instrument.Observe) { observe(db.Pool().Waited.Seconds()) })
	return made.Err()
}

// observers are the interceptors that measure the calls of each service.
type observers struct{ public, local, remote connect.ServerInterceptor }

// observe declares what is measured of the database and of calls.
func (c *Control) observe() (observers, error) {
	d := c.deps
	c.backlog = &backlog{store: c.store, now: c.replica.Clock}
	if err := measure(d.Meter, c.store, c.backlog); err != nil {
		return observers{}, err
	}
	made := instrument.On(d.Meter)
	made.Gauge("ampora_control_signing_key_remaining", "s", "Time until the first signing key ends that signs for agents, of the tenants that this process knows.",
		func(observe instrument.Observe) {
			if ends, known := c.authority.Ends(); known {
				observe(ends.Sub(c.replica.Clock()).Seconds())
			}
		})
	api := calls.Duration(made, "ampora_control_api_request_duration", "Calls of the public API.", "ampora.v1")
	internal := calls.Duration(made, "ampora_control_internal_request_duration", "Calls of gateways.", "ampora.internal.v1")
	return observers{
		public: calls.Server(d.Tracer, api, calls.Anybody.All), local: calls.Server(d.Tracer, internal, calls.Ours.All),
		remote: calls.Server(d.Tracer, internal, gateways.Origin),
	}, made.Err()
}
