// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// metrics is what is measured of the recording.
type metrics struct {
	uplinks instrument.Counter
	resyncs instrument.Counter
	sizes   instrument.Histogram
	took    instrument.Histogram
	delays  [bus.Partitions]delay
}

// delay is how far behind the reader of a partition is. Nothing is known of a partition that is read elsewhere.
type delay struct {
	held atomic.Bool
	// since is when the gateway got the oldest message that is read and not recorded, in nanoseconds; 0 if there is none.
	since atomic.Int64
	// last is how old the message recorded last was then, in nanoseconds.
	last atomic.Int64
}

// now is the delay at now: of what is waiting, or else of what was recorded last.
func (d *delay) now(now time.Time) time.Duration {
	if since := d.since.Load(); since != 0 {
		return max(0, now.Sub(time.Unix(0, since)))
	}
	return time.Duration(d.last.Load())
}

// hold notes whether the partition is read here. What was noted of an earlier batch counts no more.
func (d *delay) hold(held bool) {
	d.since.Store(0)
	d.last.Store(0)
	d.held.Store(held)
}

// begin notes the oldest message of a batch.
func (d *delay) begin(at time.Time) {
	if !at.IsZero() {
		d.since.Store(at.UnixNano())
	}
}

// end notes that a batch is recorded, whose newest message the gateway got at the time; zero: there was none.
func (d *delay) end(newest, now time.Time) {
	d.since.Store(0)
	if newest.IsZero() {
		d.last.Store(0)
		return
	}
	d.last.Store(int64(max(0, now.Sub(newest))))
}

func newMetrics(meter metric.Meter, now func() time.Time) (*metrics, error) {
	made := instrument.On(meter)
	m := &metrics{
		uplinks: made.Counter("ampora_control_uplinks", "{message}",
			"Messages of gateways by what became of them: stale ones came from a gateway that does not hold the agent, forged ones do not carry the seal of the gateway that they name, poison is what the database refuses.",
			instrument.By("outcome", "applied", "stale", "unknown_body", "malformed", "forged", "poison")),
		resyncs: made.Counter("ampora_control_resyncs", "{resync}", "Resyncs of partitions, because messages of a gateway are missing or the bus lost some.",
			instrument.By("reason", "hole", "lost")),
		sizes: made.Histogram("ampora_control_inbox_batch_size", "{message}", "Messages recorded at once.", instrument.Sizes),
		took:  made.Histogram("ampora_control_inbox_batch_duration", "s", "Time to record what was read at once, in one transaction.", instrument.Seconds),
	}
	partitions := make([]string, bus.Partitions)
	for n := range partitions {
		partitions[n] = strconv.Itoa(n)
	}
	made.Gauge("ampora_control_inbox_partitions", "{partition}", "Partitions of the bus that this process reads; all processes together read 64.",
		func(observe instrument.Observe) {
			held := 0
			for n := range m.delays {
				if m.delays[n].held.Load() {
					held++
				}
			}
			observe(float64(held))
		})
	made.Gauge("ampora_control_inbox_lag", "s", "Age of the message that is recorded next, or was recorded last: how far behind the agents the database is.",
		func(observe instrument.Observe) {
			for n := range m.delays {
				if m.delays[n].held.Load() {
					observe(m.delays[n].now(now()).Seconds(), partitions[n])
				}
			}
		}, instrument.By("partition", partitions...))
	return m, made.Err()
}
