// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Count is what happened to a swarm. All of it grows, and may be read at any time.
type Count struct {
	Messages        atomic.Int64 // to the server
	Bytes           atomic.Int64 // of those, without frames
	Answers         atomic.Int64 // messages of the server
	FullStateAsked  atomic.Int64
	ComponentsAsked atomic.Int64
	Offers          atomic.Int64 // of configurations
	OffersRepeated  atomic.Int64 // of the configuration that the agent has, or is at
	Applied         atomic.Int64
	Failed          atomic.Int64
	Certificates    atomic.Int64 // taken from the server
	Flips           atomic.Int64 // of health
	Relabels        atomic.Int64

	Connect Latency // from dialling to the upgrade, a TLS handshake included
	Answer  Latency // from a message to its answer
	Receipt Latency // of a configuration, after the first agent of the swarm had it

	online atomic.Int64

	mu     sync.Mutex
	faults map[string]int64
	errors map[string]int64
}

// Online is how many agents are connected.
func (c *Count) Online() int64 { return c.online.Load() }

// Faults is how many faults were injected, by kind.
func (c *Count) Faults() map[string]int64 { return c.copyOf(c.faults) }

// Errors is how often which error was met, by a few words. Those that a fault provokes
// are among them.
func (c *Count) Errors() map[string]int64 { return c.copyOf(c.errors) }

func (c *Count) copyOf(m map[string]int64) map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(m)
}

func (c *Count) fault(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[kind]++
}

// maxKinds bounds the kinds of error: their words are the server's.
const maxKinds = 200

func (c *Count) error(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.errors[kind]; !known && len(c.errors) >= maxKinds {
		kind = "others"
	}
	c.errors[kind]++
}

// failed counts the end of a connection, or of an attempt at one.
func (c *Count) failed(err error, dialling bool) {
	own := errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) // it was cut, or frozen
	if dialling || !own {
		c.error(kindOf(err))
	}
}

func kindOf(err error) string {
	if closed, ok := errors.AsType[*rawopamp.CloseError](err); ok {
		return fmt.Sprintf("closed with %d: %s", closed.Code, closed.Text)
	}
	if status, ok := errors.AsType[*rawopamp.StatusError](err); ok {
		return fmt.Sprintf("answered %d", status.Status)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "ended without a close frame"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "dialling took too long"
	default:
		return err.Error()
	}
}

// Latency counts durations in buckets an eighth of an octave wide: its percentiles are
// right within a tenth. It may be used from many goroutines.
type Latency struct {
	buckets [64 * 8]atomic.Int64
	longest atomic.Int64
}

func (l *Latency) add(d time.Duration) {
	ns := uint64(max(d, 1))
	octave := bits.Len64(ns) - 1
	eighth := 0
	if octave >= 3 {
		eighth = int(ns>>(octave-3)) & 7 //nolint:gosec // three bits
	}
	l.buckets[octave*8+eighth].Add(1)
	for {
		longest := l.longest.Load()
		if int64(d) <= longest || l.longest.CompareAndSwap(longest, int64(d)) {
			return
		}
	}
}

// Percentiles are some of a distribution. Times are in seconds in JSON.
type Percentiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_s"`
	P90   float64 `json:"p90_s"`
	P99   float64 `json:"p99_s"`
	Max   float64 `json:"max_s"`
}

// Percentiles reads the distribution.
func (l *Latency) Percentiles() Percentiles {
	var counts [len(l.buckets)]int64
	p := Percentiles{Max: time.Duration(l.longest.Load()).Seconds()}
	for i := range l.buckets {
		counts[i] = l.buckets[i].Load()
		p.Count += counts[i]
	}
	at := func(share float64) float64 {
		rank := int64(share * float64(p.Count))
		for i, n := range counts {
			if rank -= n; rank < 0 {
				octave, eighth := i/8, i%8
				top := float64(uint64(1)<<octave) * (1 + (float64(eighth)+1)/8)
				return min(p.Max, top/1e9)
			}
		}
		return p.Max
	}
	p.P50, p.P90, p.P99 = at(0.5), at(0.9), at(0.99)
	return p
}
