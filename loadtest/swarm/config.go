// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// bodies are the remote configurations that were offered to anybody, by hash.
type bodies struct {
	mu     sync.Mutex
	byHash map[string]*body
}

func (b *bodies) of(offer *protobufs.AgentRemoteConfig, now time.Time) *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.byHash[string(offer.GetConfigHash())]
	if known == nil {
		known = bodyOf(offer, now)
		b.byHash[string(known.hash)] = known
	}
	return known
}

// offered takes a configuration up, unless it is the one it has. It says whether there
// is something to report.
func (a *agent) offered(offer *protobufs.AgentRemoteConfig, now time.Time) (news bool) {
	b := a.swarm.bodies.of(offer, now)
	a.swarm.count.Offers.Add(1)
	a.swarm.count.Receipt.add(now.Sub(b.first))
	if told := a.swarm.config.OnOffer; told != nil {
		told(a.index, b.hash, now)
	}
	const failed = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED
	if a.lastOffer != nil && bytes.Equal(a.lastOffer.hash, b.hash) && a.outcome != failed {
		a.swarm.count.OffersRepeated.Add(1)
		return false
	}
	a.lastOffer, a.words = b, ""
	a.spared = b.offered.Add(1) <= a.swarm.config.FailAfter
	a.outcome = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING
	a.owed |= ofConfigStatus
	a.attempt++
	attempt := a.attempt
	a.swarm.applying.Add(1)
	time.AfterFunc(a.swarm.config.applyTime(), func() { a.applied(b, attempt) })
	return true
}

// applied ends an attempt, unless there is a later one.
func (a *agent) applied(b *body, attempt int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.swarm.applying.Add(-1)
	if attempt != a.attempt {
		return
	}
	a.owed |= ofConfigStatus
	if a.fails(b) {
		a.swarm.count.Failed.Add(1)
		a.outcome = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED
		a.words = fmt.Sprintf("cannot start pipelines of %s: exporter %q of %.8s is not known here", a.name, "otlp/missing", hex.EncodeToString(b.hash))
	} else {
		a.swarm.count.Applied.Add(1)
		a.outcome = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
		a.running = b
		a.owed |= ofEffective
	}
	a.flush()
	if told := a.swarm.config.OnApplied; told != nil && a.running == b {
		told(a.index, b.hash, time.Now())
	}
}

// fails decides the same for an agent and a configuration each time.
func (a *agent) fails(b *body) bool {
	if a.spared || !bytes.Contains(b.bytes, []byte(a.swarm.config.FailText)) {
		return false
	}
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%d ", a.index)
	_, _ = hash.Write(b.hash) // never fails
	return float64(hash.Sum32())/(1<<32) < a.swarm.config.FailFraction
}

// applyTime is how long the next attempt takes.
func (c Config) applyTime() time.Duration {
	return c.ApplyDelay[0] + rand.N(c.ApplyDelay[1]-c.ApplyDelay[0]+1)
}
