// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
	"gitlab.com/ampora/ampora/gateway/internal/session"
)

// Config is what a [Server] needs. All fields are required.
type Config struct {
	Admission  *edge.Admission
	Rejections *edge.Rejections
	Enrolment  *edge.Enrolment
	Registry   *session.Registry
	Claims     *session.Claims
	Publisher  *relay.Publisher
	Downlinks  *relay.Downlinks
	Polls      *relay.Polls
	Bodies     *relay.Bodies
	Log        *slog.Logger
	Tracer     trace.Tracer
	Clock      func() time.Time
	Endpoint   Endpoint
	Mask       Mask
	Limits     Limits
}

// Server is the handler of the OpAMP path.
type Server struct {
	Config
	metrics  metrics
	ownOffer *recent
	inFlight *inFlight
	// replacing holds a place for each certificate that is being replaced.
	replacing chan struct{}

	// The life of connections, which outlive the requests they came with.
	life     context.Context
	endLife  context.CancelFunc
	draining atomic.Bool
	running  sync.WaitGroup
	mu       sync.Mutex
	sockets  map[*socket]struct{}
}

// NewServer makes a server and its instruments on the meter.
func NewServer(c Config, meter metric.Meter) (*Server, error) {
	metrics, err := newMetrics(meter)
	if err != nil {
		return nil, err
	}
	s := &Server{Config: c, metrics: metrics, ownOffer: newRecent(), inFlight: newInFlight(), replacing: make(chan struct{}, replaceParallel), sockets: make(map[*socket]struct{})}
	s.life, s.endLife = context.WithCancel(context.Background())
	return s, nil
}

// ServeHTTP takes a WebSocket upgrade or a poll.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case s.draining.Load():
		edge.Busy(w, edge.RetryAfter(time.Second))
	case r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		s.upgrade(w, r)
	case r.Method == http.MethodPost && media == "application/x-protobuf":
		s.poll(w, r)
	case r.Method == http.MethodPost:
		http.Error(w, "OpAMP over HTTP is application/x-protobuf", http.StatusUnsupportedMediaType)
	default:
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "OpAMP is spoken over WebSocket or by POST", http.StatusUpgradeRequired)
	}
}

// upgrade turns the request into a WebSocket. The connection gets a goroutine of its
// own, so that net/http's, with its deep stack, its buffers and the request, is free.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	caller, ok := s.Admission.Admit(w, r)
	if !ok || !s.Admission.Reserve(w, r, caller) {
		return
	}
	conn, buffered, _, err := ws.HTTPUpgrader{Timeout: s.Limits.WriteTime}.Upgrade(r, w)
	if err != nil {
		s.Admission.Release(caller)
		s.Rejections.Reject(r.Context(), edge.Malformed, err, edge.Known(caller)...)
		if conn != nil {
			_ = conn.Close()
		}
		return
	}
	ahead := make([]byte, buffered.Reader.Buffered())
	_, _ = io.ReadFull(buffered.Reader, ahead)
	c := &socket{conn: conn, ahead: ahead, limits: s.Limits, clock: s.Clock, heard: s.Clock(), onSign: func() {}}
	if !s.add(c) {
		s.Admission.Release(caller)
		_ = conn.Close()
		return
	}
	go s.serve(c, caller)
}

// serve is the life of one WebSocket.
func (s *Server) serve(c *socket, caller edge.Caller) {
	defer s.remove(c)
	defer s.Admission.Release(caller)
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	end := s.converse(ctx, c, caller)
	if end.reject != "" {
		s.Rejections.Reject(ctx, end.reject, end, edge.Known(caller)...)
	}
	if end.reject != "" || end.punish {
		s.Admission.Punish(caller)
	}
	c.finish(end)
}

// converse talks with the peer until the connection ends. A mistake of ours that panics ends this connection alone: the
// others belong to agents that have nothing to do with it.
func (s *Server) converse(ctx context.Context, c *socket, caller edge.Caller) (end *ending) {
	defer func() {
		if mistake := recover(); mistake != nil {
			s.Log.ErrorContext(ctx, "a connection panicked", "panic", mistake, "stack", string(debug.Stack()), "peer", caller.Peer)
			end = &ending{code: ws.StatusInternalServerError, text: "internal error", reason: session.Closed, punish: true}
		}
	}()
	if caller.Enrolling() {
		return s.enrolOver(ctx, c, caller)
	}
	return newLink(s, c, caller).run(ctx)
}

func (s *Server) add(c *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.sockets[c] = struct{}{}
	s.running.Add(1)
	return true
}

func (s *Server) remove(c *socket) {
	s.mu.Lock()
	delete(s.sockets, c)
	s.mu.Unlock()
	s.running.Done()
}

var endDrained = &ending{code: ws.StatusGoingAway, text: "the gateway is stopping", reason: session.Drained}

// farewellTime is what peers get to take their close frame once all were told to go.
const farewellTime = 2 * time.Second

// Drain admits nobody any more and ends all connections, spread over the duration so
// that other gateways do not get them all at once. It returns when all have ended: a
// peer that does not read is cut off, and nobody makes it take much longer.
func (s *Server) Drain(duration time.Duration) {
	s.mu.Lock()
	s.draining.Store(true)
	sockets := slices.Collect(maps.Keys(s.sockets))
	s.mu.Unlock()
	rand.Shuffle(len(sockets), func(i, j int) { sockets[i], sockets[j] = sockets[j], sockets[i] })
	for c := range spread(sockets, duration) {
		c.end(endDrained)
		s.metrics.drained.Add(context.Background(), 1)
	}
	s.endLife()
	late := time.AfterFunc(farewellTime, func() {
		for _, c := range sockets {
			c.cut()
		}
	})
	defer late.Stop()
	s.running.Wait()
}

// DrainPolling lets go of the sessions of agents that poll. It comes after the last poll
// has been answered, which may have begun one. No end is told: the agents go on at another
// gateway, and the control plane ends what nobody serves.
func (s *Server) DrainPolling() {
	for _, polling := range s.Registry.AllPolling() {
		s.Registry.Forget(polling)
		s.metrics.drained.Add(context.Background(), 1)
	}
}

// spread yields the items evenly over the duration, the last before its end. Each has a
// moment of its own, so pauses that last too long do not add up.
func spread[T any](items []T, duration time.Duration) iter.Seq[T] {
	return func(yield func(T) bool) {
		began := time.Now()
		for i, item := range items {
			moment := time.Duration(float64(duration) * float64(i) / float64(len(items)))
			time.Sleep(time.Until(began.Add(moment)))
			if !yield(item) {
				return
			}
		}
	}
}

// recent remembers for a minute whom this gateway gave a certificate with its key.
type recent struct {
	mu     sync.Mutex
	offers map[session.Key]time.Time
}

// Bounds of what is remembered.
const (
	recentTime = time.Minute
	recentSize = 4096
)

func newRecent() *recent { return &recent{offers: make(map[session.Key]time.Time)} }

func (r *recent) remember(key session.Key, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, at := range r.offers {
		if len(r.offers) < recentSize {
			break
		}
		if now.Sub(at) > recentTime {
			delete(r.offers, key)
		}
	}
	if len(r.offers) < recentSize {
		r.offers[key] = now
	}
}

// forget says whether the key was remembered, and forgets it.
func (r *recent) forget(key session.Key, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, found := r.offers[key]
	delete(r.offers, key)
	return found && now.Sub(at) <= recentTime
}
