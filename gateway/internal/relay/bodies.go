// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/gather"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Hash is the SHA-256 of a body.
type Hash [sha256.Size]byte

// bodyKey: bodies are content-addressed per tenant, so that one tenant cannot learn by
// a hash what another one has.
type bodyKey struct {
	tenant identity.TenantID
	hash   Hash
}

// Bounds of the caches.
const (
	fetchedBytes = 64 << 20
	knownHashes  = 65536
)

// Bodies moves content-addressed bodies between the gateway and the control plane,
// each once.
type Bodies struct {
	control internalv1connect.GatewayServiceClient
	fetches singleflight.Group
	fetched *cache[[]byte]
	stored  *cache[struct{}]
	puts    *gather.Gatherer[put, struct{}]
}

type put struct {
	key  bodyKey
	body []byte
}

// NewBodies makes empty caches.
func NewBodies(control internalv1connect.GatewayServiceClient) *Bodies {
	b := &Bodies{control: control, fetched: newCache[[]byte](fetchedBytes), stored: newCache[struct{}](knownHashes)}
	bound := gather.Bound{Waiting: 4096, Size: 64, Parallel: 4, Moment: 3 * time.Millisecond, Timeout: 10 * time.Second}
	b.puts = gather.New(bound, b.store)
	return b
}

// Run stores bodies until the context ends.
func (b *Bodies) Run(ctx context.Context) error { return b.puts.Run(ctx) }

// Put makes sure that the control plane has a body, and returns its hash. It asks only
// if it has not been told so lately.
func (b *Bodies) Put(ctx context.Context, tenant identity.TenantID, body []byte) (Hash, error) {
	key := bodyKey{tenant, sha256.Sum256(body)}
	if _, known := b.stored.get(key); known {
		return key.hash, nil
	}
	_, err := b.puts.Do(ctx, put{key: key, body: body})
	return key.hash, err
}

// callBytes is how much of bodies one call carries, unless one alone is larger.
const callBytes = 2 << 20

// store makes as few calls as tenants and sizes allow.
func (b *Bodies) store(ctx context.Context, puts []put) ([]struct{}, error) {
	for _, request := range requests(puts) {
		if _, err := b.control.PutBodies(ctx, request); err != nil {
			return nil, fmt.Errorf("storing %d bodies: %w", len(request.GetBodies()), err)
		}
	}
	for _, p := range puts {
		b.stored.put(p.key, struct{}{}, 1)
	}
	return make([]struct{}, len(puts)), nil
}

// requests sorts the bodies by tenant, each once, into calls of a bounded size.
func requests(puts []put) []*internalv1.PutBodiesRequest {
	type call struct {
		request *internalv1.PutBodiesRequest
		size    int
	}
	var all []*internalv1.PutBodiesRequest
	open := make(map[identity.TenantID]call)
	seen := make(map[bodyKey]struct{}, len(puts))
	for _, p := range puts {
		if _, again := seen[p.key]; again {
			continue
		}
		seen[p.key] = struct{}{}
		c := open[p.key.tenant]
		if c.request == nil || c.size+len(p.body) > callBytes {
			c = call{request: &internalv1.PutBodiesRequest{Tenant: string(p.key.tenant)}}
			all = append(all, c.request)
		}
		c.request.Bodies = append(c.request.Bodies, p.body)
		c.size += len(p.body)
		open[p.key.tenant] = c
	}
	return all
}

var errWrongBody = errors.New("the body does not match its hash")

// Fetch returns the body with the hash. Callers share it and do not change it.
func (b *Bodies) Fetch(ctx context.Context, tenant identity.TenantID, hash Hash) ([]byte, error) {
	key := bodyKey{tenant, hash}
	if body, known := b.fetched.get(key); known {
		return body, nil
	}
	fetched, err, _ := b.fetches.Do(string(tenant)+"/"+string(hash[:]), func() (any, error) { return b.fetch(ctx, key) })
	if err != nil {
		return nil, err
	}
	return fetched.([]byte), nil
}

func (b *Bodies) fetch(ctx context.Context, key bodyKey) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	response, err := b.control.FetchBody(ctx, &internalv1.FetchBodyRequest{Tenant: string(key.tenant), Hash: key.hash[:]})
	if err != nil {
		return nil, fmt.Errorf("fetching a body: %w", err)
	}
	body := response.GetBody()
	if sha256.Sum256(body) != key.hash {
		return nil, errWrongBody
	}
	b.fetched.put(key, body, len(body))
	return body, nil
}

// cache keeps what was used lately, up to a total weight.
type cache[V any] struct {
	mu      sync.Mutex
	bound   int
	weight  int
	entries map[bodyKey]*list.Element
	order   *list.List
}

type entry[V any] struct {
	key    bodyKey
	value  V
	weight int
}

func newCache[V any](bound int) *cache[V] {
	return &cache[V]{bound: bound, entries: make(map[bodyKey]*list.Element), order: list.New()}
}

func (c *cache[V]) get(key bodyKey) (value V, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.entries[key]
	if element == nil {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*entry[V]).value, true
}

// put adds a value unless it alone outweighs the cache.
func (c *cache[V]) put(key bodyKey, value V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[key] != nil || weight > c.bound {
		return
	}
	c.entries[key] = c.order.PushFront(&entry[V]{key, value, weight})
	for c.weight += weight; c.weight > c.bound; {
		oldest := c.order.Back()
		e := c.order.Remove(oldest).(*entry[V])
		delete(c.entries, e.key)
		c.weight -= e.weight
	}
}
