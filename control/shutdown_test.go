// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/run"
)

// held is a store in which creating a group takes as long as the test likes.
type held struct {
	store.Store
	begun, released chan struct{}
}

func (h held) CreateGroup(ctx context.Context, by fleet.By, g fleet.Group) (fleet.Group, error) {
	close(h.begun)
	<-h.released
	return h.Store.CreateGroup(ctx, by, g)
}

// heard is a log from which a test learns where the API listens.
type heard struct {
	slog.Handler
	address chan string
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }

func (h heard) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "address" {
			h.address <- a.Value.String()
		}
		return true
	})
	return nil
}

// TestACallUnderWayOutlivesTheStop: a stop in the middle of a call lets it end well, and does not wait for streams.
func TestACallUnderWayOutlivesTheStop(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		h := held{Store: db, begun: make(chan struct{}), released: make(chan struct{})}
		config := Config{Keys: keys(newMasterKey()), Tenant: "default", EventRetention: time.Hour, ImmediateLimit: fleet.ImmediateLimit}
		config.PKI.TrustDomain, config.PKI.PublicURL, config.API.Addr = "example.org", "http://127.0.0.1:1", "127.0.0.1:0"
		log := heard{slog.DiscardHandler, make(chan string, 1)}
		c, err := assemble(t.Context(), config, Deps{
			Mode: Development, Bus: newBus(t), Log: slog.New(log), Meter: noop.Meter{}, Now: time.Now, DevelopmentLogin: true,
		}, h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- run.All(ctx, c.Intake()...) }()
		client := connect.NewClient(connecthttp.NewTransport(http.DefaultClient, "http://"+<-log.address))
		retry(t, "a stream", func(ctx context.Context) error {
			_, err := amporav1connect.NewEventServiceClient(client).WatchEvents(ctx, &amporav1.WatchEventsRequest{})
			return err
		})
		answered := make(chan error, 1)
		go func() {
			_, err := amporav1connect.NewGroupServiceClient(client).CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge"})
			answered <- err
		}()
		select {
		case <-h.begun:
		case err := <-answered:
			t.Fatalf("answered too early: %v", err)
		}
		stop()
		<-c.stopping
		began := time.Now()
		close(h.released)
		if err := <-answered; err != nil {
			t.Errorf("the call failed: %v", err)
		}
		if err := <-stopped; err != nil || time.Since(began) > shutdownTimeout/2 {
			t.Errorf("stopped after %s with %v", time.Since(began), err)
		}
	})
}
