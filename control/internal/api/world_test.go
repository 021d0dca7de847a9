// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

const tenant = fleet.TenantID("default")

// limit is how many agents one act may change; another than by default, so that it shows where it is used.
const limit = 7

// world is the API over a database of its own, with a clock that only the test moves.
type world struct {
	t         *testing.T
	store     store.Store
	content   *content.Content
	authority *pki.Authority
	rollouts  *rollouts.Rollouts
	handler   http.Handler
	url       string
	log       *logs

	clock   atomic.Int64 // nanoseconds since 1970
	mu      sync.Mutex
	changed chan struct{}
}

func newWorld(t *testing.T, adjust ...func(*auth.Config)) *world {
	t.Helper()
	return newWorldOn(t, openSQLite(t), adjust...)
}

func openSQLite(t *testing.T) store.Store {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := migrations.Apply(t.Context(), "sqlite:"+file); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newWorldOn(t *testing.T, db store.Store, adjust ...func(*auth.Config)) *world {
	t.Helper()
	var err error
	w := &world{t: t, store: db, log: &logs{}, changed: make(chan struct{})}
	w.clock.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	w.content = content.New(db, ring)
	w.authority, err = pki.Open(t.Context(), pki.Config{TrustDomain: "fleet.example.com", PublicURL: "http://pki.example.com"}, db, ring)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []fleet.TenantID{tenant, "other"} {
		if _, err := w.content.EnsureTenant(t.Context(), id, w.now()); err != nil {
			t.Fatal(err)
		}
	}
	w.rollouts = rollouts.New(rollouts.Deps{Store: db, Content: w.content, Limit: limit, Log: slog.New(slog.DiscardHandler), Now: w.now})
	w.serve(adjust)
	return w
}

func (w *world) serve(adjust []func(*auth.Config)) {
	w.register(func(server *connect.Server) {
		err := api.Register(server, api.Deps{
			Store: w.store, Content: w.content, Authority: w.authority, Rollouts: w.rollouts, Now: w.now, Changed: w.waitForChange,
			Version: "1.2.3", TrustDomain: "fleet.example.com", OpAMPURL: "wss://fleet.example.com/v1/opamp",
			ImmediateLimit: limit, Meter: noop.Meter{},
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}, adjust...)
}

// register serves other services in place of those before.
func (w *world) register(services func(*connect.Server), adjust ...func(*auth.Config)) {
	config := auth.Config{Tokens: w.store, Log: slog.New(slog.NewJSONHandler(w.log, nil)), Now: w.now}
	for _, change := range adjust {
		change(&config)
	}
	gate, err := auth.NewInterceptor(config)
	if err != nil {
		w.t.Fatal(err)
	}
	server := connect.NewServer(gate)
	services(server)
	w.handler = api.NewHandler(server, []string{"https://ui.example.com"})
	listener := httptest.NewServer(w.handler)
	w.t.Cleanup(listener.Close)
	w.url = listener.URL
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

// pass lets time go by, and wakes the streams.
func (w *world) pass(d time.Duration) {
	w.clock.Add(int64(d))
	w.wake()
}

func (w *world) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) waitForChange() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// by is the author of what a test puts into the database directly.
func (w *world) by() fleet.By { return fleet.System(tenant, w.now()) }

// token makes an API token and returns its secret and its id.
func (w *world) token(t fleet.APIToken) (secret string, id fleet.TokenID) {
	w.t.Helper()
	minted := identity.NewToken(identity.APIToken)
	t.ID, t.Hash, t.CreatedBy, t.CreatedAt = newID[fleet.TokenID](), minted.Hash(), "test", w.now()
	if t.Tenant == "" {
		t.Tenant = tenant
	}
	if t.Name == "" {
		t.Name = string(t.ID)
	}
	if t.ExpiresAt.IsZero() {
		t.ExpiresAt = w.now().Add(24 * time.Hour)
	}
	if err := w.store.CreateAPIToken(w.t.Context(), fleet.System(t.Tenant, w.now()), t); err != nil {
		w.t.Fatal(err)
	}
	return minted.Reveal(), t.ID
}

// as returns clients that call with a new token of the role.
func (w *world) as(role fleet.Role) clients {
	secret, _ := w.token(fleet.APIToken{Role: role})
	return w.with(secret)
}

// with returns clients that call with the secret, or with nothing.
func (w *world) with(secret string) clients {
	c := connect.NewClient(connecthttp.NewTransport(
		&http.Client{Transport: bearer(secret)}, w.url, connecthttp.WithReadMaxBytes(api.MaxRequestBytes)))
	return clients{
		agents:          amporav1connect.NewAgentServiceClient(c),
		bulk:            amporav1connect.NewBulkServiceClient(c),
		groups:          amporav1connect.NewGroupServiceClient(c),
		configs:         amporav1connect.NewConfigServiceClient(c),
		configRules:     amporav1connect.NewConfigRuleServiceClient(c),
		schedules:       amporav1connect.NewScheduleServiceClient(c),
		budgets:         amporav1connect.NewBudgetServiceClient(c),
		rollouts:        amporav1connect.NewRolloutServiceClient(c),
		assignments:     amporav1connect.NewAssignmentServiceClient(c),
		certificates:    amporav1connect.NewCertificateServiceClient(c),
		signingKeys:     amporav1connect.NewSigningKeyServiceClient(c),
		bootstrapTokens: amporav1connect.NewBootstrapTokenServiceClient(c),
		apiTokens:       amporav1connect.NewApiTokenServiceClient(c),
		tokenPools:      amporav1connect.NewTokenPoolServiceClient(c),
		gateways:        amporav1connect.NewGatewayServiceClient(c),
		joinTokens:      amporav1connect.NewJoinTokenServiceClient(c),
		events:          amporav1connect.NewEventServiceClient(c),
		audit:           amporav1connect.NewAuditServiceClient(c),
		system:          amporav1connect.NewSystemServiceClient(c),
	}
}

type clients struct {
	agents          amporav1connect.AgentServiceClient
	bulk            amporav1connect.BulkServiceClient
	groups          amporav1connect.GroupServiceClient
	configs         amporav1connect.ConfigServiceClient
	configRules     amporav1connect.ConfigRuleServiceClient
	schedules       amporav1connect.ScheduleServiceClient
	budgets         amporav1connect.BudgetServiceClient
	rollouts        amporav1connect.RolloutServiceClient
	assignments     amporav1connect.AssignmentServiceClient
	certificates    amporav1connect.CertificateServiceClient
	signingKeys     amporav1connect.SigningKeyServiceClient
	bootstrapTokens amporav1connect.BootstrapTokenServiceClient
	apiTokens       amporav1connect.ApiTokenServiceClient
	tokenPools      amporav1connect.TokenPoolServiceClient
	gateways        amporav1connect.GatewayServiceClient
	joinTokens      amporav1connect.JoinTokenServiceClient
	events          amporav1connect.EventServiceClient
	audit           amporav1connect.AuditServiceClient
	system          amporav1connect.SystemServiceClient
}

// bearer sends a secret with each request, unless it is empty.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+string(b))
	}
	return http.DefaultTransport.RoundTrip(r)
}

// logs collects lines of log.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newID[ID ~string]() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// refused checks the code and the reason of an error and returns its metadata.
func refused(t *testing.T, err error, code connect.Code, reason string) map[string]string {
	t.Helper()
	if err == nil || connect.CodeOf(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	info, err := infoOf(err)
	if err != nil {
		t.Fatal(err)
	}
	if info.GetReason() != reason {
		t.Fatalf("got reason %s %v, want %s", info.GetReason(), info.GetMetadata(), reason)
	}
	return info.GetMetadata()
}

func infoOf(err error) (*amporav1.ErrorInfo, error) {
	var answer *connect.Error
	if !errors.As(err, &answer) || len(answer.Details()) != 1 {
		return nil, fmt.Errorf("%w has not one detail", err)
	}
	message, err := connectproto.UnmarshalErrorDetail(answer.Details()[0])
	if err != nil {
		return nil, err
	}
	info, ok := message.(*amporav1.ErrorInfo)
	if !ok {
		return nil, fmt.Errorf("the detail is a %T", message)
	}
	return info, nil
}

// must returns the answer of a call that has to succeed.
func must[T any](answer T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}
