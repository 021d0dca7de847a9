// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// BenchmarkPublishReadTrim carries messages of 300 bytes through all partitions: a gateway
// publishes in batches, readers of a control replica read and trim. One operation is one
// message.
func BenchmarkPublishReadTrim(b *testing.B) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			gateway, control := benchmarkBuses(b)
			done := make(chan int)
			var begun [bus.Partitions]bus.Position
			for partition := range begun {
				begun[partition] = start(b, control, partition)
			}
			ctx, stop := context.WithCancel(b.Context())
			defer stop()
			for partition, after := range begun {
				go drain(ctx, control, partition, after, done)
			}
			b.ReportAllocs()
			b.ResetTimer()
			go fill(ctx, gateway, b.N, batch)
			for read := 0; read < b.N; {
				read += <-done
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// benchmarkBuses are those of a gateway and of a control replica, on the server of all tests.
func benchmarkBuses(b *testing.B) (gateway, control *Bus) {
	url := os.Getenv("AMPORA_TEST_REDIS_URL")
	if url == "" {
		b.Fatal("AMPORA_TEST_REDIS_URL is not set: infra/dev/services.sh up and env")
	}
	options := Options{Prefix: "bench-" + strings.ToLower(rand.Text())}
	var buses [2]*Bus
	for i := range buses {
		var err error
		if buses[i], err = Open(url, options); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = buses[i].Close() })
	}
	b.Cleanup(func() {
		for partition := range bus.Partitions {
			buses[0].line.Load().client.Del(context.Background(), buses[0].names.uplink(partition).key)
		}
	})
	return buses[0], buses[1]
}

func fill(ctx context.Context, b *Bus, count, batch int) {
	payload := bytes.Repeat([]byte("x"), 300)
	for sent := 0; sent < count && ctx.Err() == nil; {
		messages := make([]bus.Outgoing, min(batch, count-sent))
		for i := range messages {
			messages[i] = bus.Outgoing{Partition: (sent + i) % bus.Partitions, Payload: payload}
		}
		err := b.Publish(ctx, messages...)
		switch {
		case err == nil:
			sent += len(messages)
		case !errors.Is(err, bus.ErrFull):
			return
		}
	}
}

func drain(ctx context.Context, b *Bus, partition int, after bus.Position, done chan<- int) {
	for {
		batch, err := b.Read(ctx, partition, after, 500)
		if err != nil || b.Trim(ctx, partition, batch.Next) != nil {
			return
		}
		after = batch.Next
		select {
		case done <- len(batch.Messages):
		case <-ctx.Done():
		}
	}
}

// BenchmarkLatency is the time from Publish to the return of a Read that waited for it.
func BenchmarkLatency(b *testing.B) {
	gateway, control := benchmarkBuses(b)
	after := start(b, control, 0)
	read := make(chan time.Time)
	go func() {
		for range b.N {
			batch, err := control.Read(b.Context(), 0, after, 10)
			if err != nil {
				return
			}
			after = batch.Next
			read <- time.Now()
		}
	}()
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		time.Sleep(2 * time.Millisecond) // the reader is to wait
		began := time.Now()
		if err := gateway.Publish(b.Context(), bus.Outgoing{Payload: []byte("x")}); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-read).Sub(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}
