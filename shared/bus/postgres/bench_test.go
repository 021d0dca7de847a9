// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// BenchmarkUplinks has gateways that publish as they do under load, a hundred messages
// of 300 bytes at a time spread over all partitions, and a reader for each partition
// that trims what it read.
func BenchmarkUplinks(b *testing.B) {
	for _, gateways := range []int{1, 4} {
		b.Run(fmt.Sprintf("gateways=%d", gateways), func(b *testing.B) {
			const each = 100
			p := newParties(b, newDatabase(b), "")
			ctx, stop := context.WithCancel(b.Context())
			var read atomic.Int64
			readers := followAll(ctx, b, p, &read)
			var publishers sync.WaitGroup
			var calls atomic.Int64
			for g := range gateways {
				gateway := p.gateway(identity.GatewayID(fmt.Sprint("gateway", g)))
				publishers.Go(func() {
					for call := calls.Add(1); call <= int64(b.N); call = calls.Add(1) {
						if err := gateway.Publish(ctx, spread(int(call), each)...); err != nil {
							b.Errorf("Publish: %v", err)
						}
					}
				})
			}
			publishers.Wait()
			for read.Load() < int64(b.N*each) {
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
			stop()
			readers.Wait()
		})
	}
}

// BenchmarkLatency is the time from a message's publishing to its being read, on a bus
// where nothing else happens.
func BenchmarkLatency(b *testing.B) {
	p := newParties(b, newDatabase(b), "")
	batch, err := p.Read(b.Context(), 0, "", 1)
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	read := make(chan time.Time)
	next := batch.Next
	for b.Loop() {
		go func() {
			batch, err := p.Read(b.Context(), 0, next, 1)
			if err != nil || batch.Lost {
				b.Error(batch.Lost, err)
			}
			next = batch.Next
			read <- time.Now()
		}()
		time.Sleep(5 * time.Millisecond) // the reader waits
		start := time.Now()
		if err := p.Publish(b.Context(), bus.Outgoing{Payload: make([]byte, 300)}); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-read).Sub(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkDownlinks sends a gateway twenty downlinks of 2 KiB at a time, which it
// receives, and gives its receipt with the next.
func BenchmarkDownlinks(b *testing.B) {
	const each = 20
	p := newParties(b, newDatabase(b), "")
	payloads := slices.Repeat([][]byte{make([]byte, 2048)}, each)
	batch, err := p.Receive(b.Context(), publisher, "", 1)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := p.Send(b.Context(), publisher, time.Minute, payloads...); err != nil {
			b.Fatal(err)
		}
		if batch, err = p.Receive(b.Context(), publisher, batch.Next, each); err != nil || batch.Lost {
			b.Fatal(batch.Lost, err)
		}
	}
	b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "messages/s")
}

func spread(seed, count int) []bus.Outgoing {
	messages := make([]bus.Outgoing, count)
	for i := range messages {
		messages[i] = bus.Outgoing{Partition: (seed*31 + i*7) % bus.Partitions, Payload: make([]byte, 300)}
	}
	return messages
}

// followAll reads and trims all partitions until ctx ends.
func followAll(ctx context.Context, b *testing.B, from bus.Uplinks, read *atomic.Int64) *sync.WaitGroup {
	var readers, ready sync.WaitGroup
	for partition := range bus.Partitions {
		ready.Add(1)
		readers.Go(func() {
			batch, err := from.Read(ctx, partition, "", 1)
			ready.Done()
			for err == nil {
				read.Add(int64(len(batch.Messages)))
				if err = from.Trim(ctx, partition, batch.Next); err == nil {
					batch, err = from.Read(ctx, partition, batch.Next, 500)
				}
				if batch.Lost {
					b.Error("a loss")
				}
			}
			if ctx.Err() == nil {
				b.Errorf("partition %d: %v", partition, err)
			}
		})
	}
	ready.Wait()
	return &readers
}
