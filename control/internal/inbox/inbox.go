// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package inbox records what gateways send: it reads the bus's uplink partitions, turns each message into the
// vocabulary, and writes its effects together with the position they were read at.
//
// Each partition has one reader at a time, for as long as its process holds its lease as a replica; the replicas that live
// share them. Effects happen once and in order, because the position is committed with them and an epoch fences a reader
// whose partition was taken over. What the bus lost is noticed (a lost position, a hole in a gateway's counters) and
// asked for again from the agents concerned. What does not carry the seal of the gateway process it names is counted and
// dropped: whoever controls the bus, and every other gateway, can make nobody say anything.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/replica"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/run"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Timing of the loop.
const (
	// lookPause is how often a reader looks again whether a partition is its own to read, readPause how often it looks up
	// from one that is quiet.
	lookPause  = time.Second
	readPause  = 5 * time.Second
	retryPause = time.Second
	// resyncPause is the least time between two resyncs of a partition for one reason.
	resyncPause = 30 * time.Second
	// complaintPause is the least time between two complaints of a standstill.
	complaintPause = 10 * time.Second
	batchLimit     = 500
	// atOnce is how many partitions are written at a time. A transaction costs far more than a report in it, so what comes
	// while others write is better gathered than written by one and one.
	atOnce = 2
	// leaveTime bounds what a reader does after it was told to stop, lastRead how long it waits for a last message.
	leaveTime = 5 * time.Second
	lastRead  = 50 * time.Millisecond
)

// Deps is what an Inbox needs.
type Deps struct {
	Store  store.Inbox
	Bus    bus.Uplinks
	Bodies Bodies
	// Key is that with which a gateway process seals what it says.
	Key func(gateway fleet.GatewayID, boot uint64) uplink.Key
	// Replica is this process as a holder of partitions.
	Replica *replica.Replica
	// Way is held while a crowd is sent something. What agents say meanwhile waits, and is mostly about just that; nil: it
	// waits for nothing.
	Way    *run.Way
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	Now    func() time.Time
}

// Inbox reads and records the partitions that fall to this replica.
type Inbox struct {
	d       Deps
	metrics *metrics
	// turns has room for the readers that may write at a time.
	turns chan struct{}
	// complained is when a standstill was last told.
	complained atomic.Pointer[time.Time]
}

// New returns an Inbox; Run does the work.
func New(d Deps) (*Inbox, error) {
	m, err := newMetrics(d.Meter, d.Now)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &Inbox{d: d, metrics: m, turns: make(chan struct{}, atOnce)}, nil
}

// Run reads until ctx is done.
func (in *Inbox) Run(ctx context.Context) error {
	tasks := make([]run.Task, bus.Partitions)
	for n := range tasks {
		r := &reader{in: in, partition: n, log: in.d.Log.With("partition", n), owed: map[fleet.GatewayID]debt{}, lastResync: map[fleet.GatewayID]time.Time{}}
		tasks[n] = run.Task{Name: fmt.Sprintf("inbox partition %d", n), Run: r.run}
	}
	return run.All(ctx, tasks...)
}

// reader is the one reader of a partition, while it holds the lease.
type reader struct {
	in        *Inbox
	partition int
	log       *slog.Logger

	lease      store.PartitionLease
	counters   map[fleet.GatewayID]store.Counter
	owed       map[fleet.GatewayID]debt
	lastResync map[fleet.GatewayID]time.Time
	// heard is when the gateways got the messages of the batch under way.
	heard span
}

// span is a time from the oldest of something to the newest.
type span struct{ oldest, newest time.Time }

// with is the span with one more.
func (s span) with(at time.Time) span {
	if s.oldest.IsZero() || at.Before(s.oldest) {
		s.oldest = at
	}
	if at.After(s.newest) {
		s.newest = at
	}
	return s
}

// debt is a resync of a gateway's agents (of all, under the empty id) that is still to be asked for: it may have to wait
// its turn, or the database may fail. Until it is paid, the counter on record stays before the loss, so that a reader
// that takes over finds the hole again.
type debt struct {
	reason string
	before store.Counter
}

// run takes the lease and reads, over and over; only the end of ctx ends it. It then reads what the gateways said last
// and gives the lease back, so that another replica goes on at once.
func (r *reader) run(ctx context.Context) error {
	defer r.leave(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		changed := r.in.d.Replica.Changed()
		err := r.acquire(ctx)
		r.delay().hold(err == nil)
		for err == nil {
			err = r.turn(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errElsewhere):
			r.leave(ctx)
			wait(ctx, changed)
		case errors.Is(err, store.ErrLeaseLost):
			r.delay().hold(false)
			wait(ctx, changed)
		default:
			r.in.complain(ctx, r.partition, err)
			_ = run.Sleep(ctx, retryPause)
		}
	}
	return nil
}

// delay is where it is noted how far behind the reader is.
func (r *reader) delay() *delay { return &r.in.metrics.delays[r.partition] }

// errElsewhere: another replica that lives should read the partition.
var errElsewhere = errors.New("another replica reads it")

// wait returns when the replicas change, or after a while.
func wait(ctx context.Context, changed <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, lookPause)
	defer cancel()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// complain tells of readers that stand still: once in a while for all partitions, because they fail together.
func (in *Inbox) complain(ctx context.Context, partition int, err error) {
	now, last := in.d.Now(), in.complained.Load()
	if last != nil && now.Sub(*last) < complaintPause || !in.complained.CompareAndSwap(last, &now) {
		return
	}
	in.d.Log.WarnContext(ctx, "inbox stopped reading for a moment, maybe other partitions too", "partition", partition, "error", err)
}

// leave records what stands in the partition now and ends the lease. What it cannot do it leaves to the next reader.
func (r *reader) leave(ctx context.Context) {
	if r.lease.Holder == "" {
		return
	}
	defer r.delay().hold(false)
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	for {
		reading, done := context.WithTimeout(ctx, lastRead)
		batch, err := r.in.d.Bus.Read(reading, r.partition, bus.Position(r.lease.Position), batchLimit)
		done()
		if err != nil || r.record(ctx, batch) != nil {
			break
		}
	}
	if err := r.in.d.Store.ReleasePartition(ctx, r.lease); err != nil {
		r.log.WarnContext(ctx, "inbox could not give its partition back; it is free when the lease of this replica ends", "error", err)
	}
	r.lease = store.PartitionLease{}
}

// acquire takes the partition, and with it position and counters.
func (r *reader) acquire(ctx context.Context) (err error) {
	self := r.in.d.Replica
	switch {
	case !self.Holds():
		return store.ErrLeaseLost
	case !r.in.reads(r.partition):
		return errElsewhere
	}
	if r.lease, err = r.in.d.Store.AcquirePartition(ctx, r.partition, self.ID(), self.Clock()); err != nil {
		return fmt.Errorf("acquire: %w", err)
	}
	list, err := r.in.d.Store.Counters(ctx, r.partition)
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	r.counters = make(map[fleet.GatewayID]store.Counter, len(list))
	for _, c := range list {
		r.counters[c.Gateway] = c
	}
	return nil
}

// turn reads once and records what it read, if the process still holds its lease.
func (r *reader) turn(ctx context.Context) error {
	if err := r.payResyncs(ctx); err != nil {
		return err
	}
	reading, cancel := context.WithTimeout(ctx, readPause)
	defer cancel()
	batch, err := r.in.d.Bus.Read(reading, r.partition, bus.Position(r.lease.Position), batchLimit)
	switch quiet := reading.Err() != nil && ctx.Err() == nil; {
	case !r.in.d.Replica.Holds():
		return store.ErrLeaseLost
	case !r.in.reads(r.partition):
		return errElsewhere
	case quiet:
		r.delay().end(time.Time{}, r.in.d.Now()) // nobody said anything
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	}
	if batch, err = r.gather(ctx, batch); err != nil {
		return err
	}
	defer r.yield()
	return r.record(ctx, batch)
}

// gather waits until the reader may write, and then reads again if it had to wait: what came meanwhile goes along. If
// there is no error, the reader must yield.
func (r *reader) gather(ctx context.Context, batch bus.Batch) (bus.Batch, error) {
	waited, err := r.in.d.Way.Wait(ctx)
	if err != nil {
		return batch, err
	}
	select {
	case r.in.turns <- struct{}{}:
	default:
		waited = true
		select {
		case r.in.turns <- struct{}{}:
		case <-ctx.Done():
			return batch, ctx.Err()
		}
	}
	if !waited {
		return batch, nil
	}
	batch, err = r.in.d.Bus.Read(ctx, r.partition, bus.Position(r.lease.Position), batchLimit)
	if err != nil {
		r.yield()
		return batch, fmt.Errorf("read: %w", err)
	}
	return batch, nil
}

func (r *reader) yield() { <-r.in.turns }

// record writes a batch and asks again for what was lost.
func (r *reader) record(ctx context.Context, batch bus.Batch) error {
	if batch.Lost && r.lease.Position != "" {
		r.owe("", debt{reason: "lost"})
	}
	r.heard = span{}
	uplinks, err := r.decode(ctx, batch.Messages)
	r.delay().begin(r.heard.oldest)
	if err != nil {
		return err
	}
	began := r.in.d.Now()
	end := r.traced(ctx, uplinks)
	err = r.write(ctx, uplinks, batch.Next)
	end(err)
	if err != nil {
		return err
	}
	now := r.in.d.Now()
	r.delay().end(r.heard.newest, now)
	r.in.metrics.took.Took(ctx, now.Sub(began))
	r.in.metrics.sizes.Record(ctx, float64(len(batch.Messages)))
	if err := r.in.d.Bus.Trim(ctx, r.partition, batch.Next); err != nil {
		// The next trim covers this one.
		r.log.WarnContext(ctx, "inbox could not trim the bus", "error", err)
	}
	return r.payResyncs(ctx)
}

// write records uplinks and moves the position. If the database refuses the batch as such, its messages are written one
// by one, so that a single one it cannot take does not stop the partition for ever.
func (r *reader) write(ctx context.Context, uplinks []fleet.Uplink, next bus.Position) error {
	rec := store.Record{Lease: r.lease, Position: string(next), Counters: r.counterList(), Uplinks: uplinks, At: r.in.d.Now()}
	done, err := r.in.d.Store.Record(ctx, rec)
	if err == nil {
		r.lease.Position = string(next)
		r.count(ctx, done)
		return nil
	}
	if len(uplinks) == 0 || retryable(err) || ctx.Err() != nil {
		return fmt.Errorf("record: %w", err)
	}
	for i := range uplinks {
		rec.Uplinks = uplinks[i : i+1]
		rec.Position = r.lease.Position
		done, err := r.in.d.Store.Record(ctx, rec)
		switch {
		case err == nil:
			r.count(ctx, done)
		case retryable(err) || ctx.Err() != nil:
			return fmt.Errorf("record one: %w", err)
		default:
			r.log.ErrorContext(ctx, "inbox dropped a message that the database refuses", "agent", agentOf(uplinks[i]), "error", err)
			r.in.metrics.uplinks.Add(ctx, 1, "poison")
		}
	}
	rec.Uplinks, rec.Position = nil, string(next)
	if _, err := r.in.d.Store.Record(ctx, rec); err != nil {
		return fmt.Errorf("record position: %w", err)
	}
	r.lease.Position = string(next)
	return nil
}

// retryable reports whether the same record may succeed later. One whose fate is unknown may be on record already: the
// position, read again with the lease, says what is left of it.
func retryable(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown) ||
		errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrContended)
}

func (r *reader) count(ctx context.Context, done store.Recorded) {
	for outcome, n := range map[string]int{"applied": done.Applied, "stale": done.Stale, "unknown_body": done.Unknown} {
		if n > 0 {
			r.in.metrics.uplinks.Add(ctx, int64(n), outcome)
		}
	}
}

// counterList is what is to be put on record: see debt.
func (r *reader) counterList() []store.Counter {
	list := make([]store.Counter, 0, len(r.counters))
	_, all := r.owed[""]
	for gateway, c := range r.counters {
		if d, owed := r.owed[gateway]; owed {
			c = d.before
		} else if all {
			c.Value = 0
		}
		list = append(list, c)
	}
	return list
}

// owe notes a debt; the first of a gateway stands for those that follow.
func (r *reader) owe(gateway fleet.GatewayID, d debt) {
	if _, owed := r.owed[gateway]; !owed {
		r.owed[gateway] = d
	}
}

// payResyncs asks for what is owed, of each gateway at most once in a while.
func (r *reader) payResyncs(ctx context.Context) error {
	for gateway, d := range r.owed {
		now := r.in.d.Now()
		if last, ok := r.lastResync[gateway]; ok && now.Sub(last) < resyncPause {
			continue
		}
		if err := r.resync(ctx, gateway, d.reason, now); err != nil {
			return err
		}
		r.lastResync[gateway] = now
		delete(r.owed, gateway)
	}
	return nil
}

func (r *reader) resync(ctx context.Context, gateway fleet.GatewayID, reason string, now time.Time) error {
	agents, err := r.in.d.Store.Resync(ctx, r.partition, gateway, now)
	if err != nil {
		return fmt.Errorf("resync: %w", err)
	}
	if agents > 0 {
		r.log.InfoContext(ctx, "the bus lost messages; asking agents for their full state", "reason", reason, "gateway", gateway, "agents", agents)
	}
	r.in.metrics.resyncs.Add(ctx, 1, reason)
	return nil
}

func agentOf(u fleet.Uplink) fleet.AgentID {
	switch {
	case u.Report != nil:
		return u.Report.Agent
	case u.Ended != nil:
		return u.Ended.Agent
	case u.Delivery != nil:
		return u.Delivery.Agent
	default:
		return ""
	}
}
