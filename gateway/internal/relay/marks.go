// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// How marks are written.
const (
	// MarkInterval is how far marks are behind, at most twice, while the bus keeps up.
	MarkInterval = 250 * time.Millisecond
	markLife     = 10 * time.Minute
	markBatch    = 512
	markTime     = 5 * time.Second
)

// Marks notes on the bus how far agents were heard over their connections, a moment
// behind: what the control plane goes by when this process dies, and how it sees that
// whoever holds a session lives. Only sessions that changed cost anything.
//
// A mark covers nothing that is not on the bus yet: it waits until everything is
// published that was queued when it was taken.
type Marks struct {
	MarksConfig
	sealer  *uplink.Sealer
	late    []mark // of the round before, whose lane was behind
	failing bool
	body    relayv1.Mark // of one after the other
	bytes   []byte
}

// MarksConfig is what [Marks] need.
type MarksConfig struct {
	Origin       Origin
	Bus          bus.Registers
	Registry     *session.Registry
	Publisher    *Publisher
	Registration *Registration
	Log          *slog.Logger
}

// mark is what is to be noted of a session, once the bus has so many of its partition's
// messages.
type mark struct {
	of        *session.Session
	progress  session.Progress
	partition int
	after     uint64
}

// NewMarks returns marks that [Marks.Run] writes.
func NewMarks(c MarksConfig) *Marks {
	m := &Marks{MarksConfig: c}
	m.body.BootId, m.body.LastSeenAt = c.Origin.BootID, new(timestamppb.Timestamp)
	return m
}

// Run writes until the context ends. What is not written by then is not missed: the
// ends of sessions say the same.
func (m *Marks) Run(ctx context.Context) error {
	if !m.Registration.Await(ctx) {
		return nil
	}
	m.sealer = m.Registration.Key().Sealer()
	ticker := time.NewTicker(MarkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			m.round(ctx)
		}
	}
}

// round writes what waited in the round before, and what has changed since. What is
// still behind then begins anew with the round that follows.
func (m *Marks) round(ctx context.Context) {
	for _, behind := range m.write(ctx, m.late) {
		behind.of.Remind()
	}
	m.late = m.write(ctx, m.taken())
}

func (m *Marks) taken() []mark {
	changed := m.Registry.Changed()
	marks := make([]mark, 0, len(changed))
	for _, s := range changed {
		if progress, told := s.Progress(); told {
			partition := bus.PartitionOf(s.Key.Agent)
			marks = append(marks, mark{s, progress, partition, m.Publisher.Accepted(partition)})
		}
	}
	return marks
}

// write writes the marks that may be written, and returns those that may not yet.
func (m *Marks) write(ctx context.Context, marks []mark) (behind []mark) {
	due := make([]mark, 0, len(marks))
	for _, next := range marks {
		switch {
		case next.of.Ended():
		case !m.Publisher.Published(next.partition, next.after):
			behind = append(behind, next)
		default:
			due = append(due, next)
		}
	}
	for batch := range slices.Chunk(due, markBatch) {
		m.set(ctx, batch)
	}
	return behind
}

// set writes one batch. Of a failure nothing comes but a delay.
func (m *Marks) set(ctx context.Context, batch []mark) {
	ctx, cancel := context.WithTimeout(ctx, markTime)
	defer cancel()
	registers := make([]bus.Register, len(batch))
	for i, next := range batch {
		registers[i] = m.register(next)
	}
	err := m.Bus.Set(ctx, bus.Marks(m.Origin.Gateway), markLife, registers...)
	if err != nil && !m.failing {
		m.Log.WarnContext(ctx, "the bus does not take marks", "error", err, "marks", len(batch))
	}
	if m.failing = err != nil; m.failing {
		for _, next := range batch {
			next.of.Remind()
		}
	}
}

func (m *Marks) register(next mark) bus.Register {
	name := uplink.Register(next.of.Key.Tenant, next.of.Key.Agent)
	seen := m.Registration.There(next.progress.LastSeen)
	m.body.Epoch, m.body.Sequence, m.body.Whole = next.progress.Epoch, next.progress.Sequence, next.progress.Whole
	m.body.LastSeenAt.Seconds, m.body.LastSeenAt.Nanos = seen.Unix(), int32(seen.Nanosecond()) //nolint:gosec // below 1e9
	m.bytes, _ = proto.MarshalOptions{}.MarshalAppend(m.bytes[:0], &m.body)                    // numbers alone cannot fail
	seal := func(dst, body []byte) []byte { return m.sealer.AppendMark(dst, name, body) }
	return bus.Register{Name: name, Value: sealed(m.bytes, nil, seal)}
}
