// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/revocation"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/identity"
)

const tenant fleet.TenantID = "acme"

// away is a store that cannot be read while it is away.
type away struct {
	*sqlite.Store
	away bool
}

func (a *away) Tenants(ctx context.Context) ([]fleet.Tenant, error) {
	if a.away {
		return nil, store.ErrUnavailable
	}
	return a.Store.Tenants(ctx)
}

func (a *away) Certificate(ctx context.Context, tenant fleet.TenantID, serial fleet.Serial) (fleet.Certificate, error) {
	if a.away {
		return fleet.Certificate{}, store.ErrUnavailable
	}
	return a.Store.Certificate(ctx, tenant, serial)
}

func (a *away) Responder(ctx context.Context, key fleet.KeyID) (fleet.Responder, error) {
	if a.away {
		return fleet.Responder{}, store.ErrUnavailable
	}
	return a.Store.Responder(ctx, key)
}

func (a *away) RevocationList(ctx context.Context, key fleet.KeyID) (fleet.RevocationList, error) {
	if a.away {
		return fleet.RevocationList{}, store.ErrUnavailable
	}
	return a.Store.RevocationList(ctx, key)
}

type world struct {
	testing.TB
	db      *away
	ring    *seal.Keyring
	lists   *revocation.Lists
	answers *revocation.Answers
	handler http.Handler
	// authority is that of the tenant, and key signs for it.
	authority *pki.Authority
	key       fleet.KeyID
	now       time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ampora.db")
	w := &world{TB: t, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)}
	_, err := migrations.Apply(t.Context(), "sqlite:"+path)
	w.must(err)
	db, err := sqlite.Open(t.Context(), path)
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	w.db = &away{Store: db}
	_, err = db.EnsureTenant(t.Context(), fleet.Tenant{ID: tenant, CreatedAt: w.now, WrappedDataKey: []byte("k")})
	w.must(err)
	w.ring = seal.NewKeyring(seal.NewMasterKey(), nil)
	authority, err := pki.Open(t.Context(), policy, db, w.ring)
	w.must(err)
	w.must(authority.EnsureTenant(t.Context(), tenant, w.now))
	w.key, err = authority.ActiveKey(t.Context(), tenant)
	w.must(err)
	w.lists = w.of(authority)
	w.answers, err = revocation.NewAnswers(revocation.AnswersDeps{
		Store: w.db, Authority: authority, Tenant: tenant, Nonces: true, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return w.now },
	})
	w.must(err)
	w.authority, w.handler = authority, revocation.Handler(w.lists, w.answers)
	return w
}

var policy = pki.Config{TrustDomain: "fleet.example", PublicURL: "http://pki.example"}

// of returns the lists of an authority on the world's store.
func (w *world) of(authority *pki.Authority) *revocation.Lists {
	w.Helper()
	lists, err := revocation.New(revocation.Deps{
		Store: w.db, Authority: authority, Tenant: tenant, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return w.now },
	})
	w.must(err)
	return lists
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// revoke makes a certificate of the key that is revoked.
func (w *world) revoke(serial fleet.Serial) {
	w.Helper()
	w.revokeAgent(w.enrol(serial))
}

func (w *world) revokeAgent(agent fleet.AgentID) {
	w.Helper()
	_, err := w.db.RevokeCertificates(w.Context(), fleet.System(tenant, w.now), fleet.Revocation{Agents: []fleet.AgentID{agent}, Reason: fleet.ReasonKeyCompromise})
	w.must(err)
}

// enrol records a certificate of the key.
func (w *world) enrol(serial fleet.Serial) fleet.AgentID {
	w.Helper()
	by, agent := fleet.System(tenant, w.now), fleet.AgentID(identity.NewAgentID())
	secret, token := identity.NewToken(identity.BootstrapToken), fleet.TokenID(identity.NewAgentID())
	w.must(w.db.IssueBootstrapToken(w.Context(), by, fleet.BootstrapToken{ID: token, Tenant: tenant, Hash: secret.Hash(), CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour)}))
	w.must(errors.Join(w.db.Redeem(w.Context(), []store.Redemption{{By: by, Token: token, Agent: agent, Method: fleet.EnrolledByEST, Certificate: fleet.Certificate{
		Tenant: tenant, Serial: serial, Fingerprint: fleet.Fingerprint(agent), Agent: agent, Key: w.key, NotBefore: w.now, NotAfter: w.now.AddDate(1, 0, 0),
		DER: []byte("der"), ChainPEM: []byte("pem"), CreatedAt: w.now,
	}}})...))
	return agent
}

// get asks for a path, with a header or two.
func (w *world) get(path string, header ...string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

// names is how many serials the list names that is handed out, and its number.
func (w *world) names() (entries int, number int64) {
	w.Helper()
	list, err := x509.ParseRevocationList(w.get("/pki/" + string(w.key) + "/crl.der").Body.Bytes())
	w.must(err)
	return len(list.RevokedCertificateEntries), list.Number.Int64()
}

func (w *world) wantNames(entries int, number int64) {
	w.Helper()
	if e, n := w.names(); e != entries || n != number {
		w.Errorf("list %d names %d, want list %d with %d", n, e, number, entries)
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t)
	w.must(w.lists.Renew(t.Context()))
	w.must(w.lists.Renew(t.Context())) // once
	w.wantNames(0, 1)
	w.revoke("5e")
	w.revoke("6f")
	w.must(w.lists.Renew(t.Context()))
	w.wantNames(0, 1) // as it was a moment ago
	w.now = w.now.Add(2 * time.Second)
	w.wantNames(2, 2) // one list for both
	w.now = w.now.Add(revocation.Renewal)
	w.must(w.lists.Renew(t.Context()))
	w.now = w.now.Add(2 * time.Second)
	w.wantNames(2, 3)
}

func TestHandler(t *testing.T) {
	w := newWorld(t)
	path := "/pki/" + string(w.key) + "/crl.der"
	if got := w.get(path); got.Code != http.StatusNotFound {
		t.Errorf("before the first list: %d", got.Code)
	}
	w.must(w.lists.Renew(t.Context()))
	der := w.get(path)
	if der.Code != http.StatusOK || der.Header().Get("Content-Type") != "application/pkix-crl" || !strings.Contains(der.Header().Get("Cache-Control"), "max-age=60") {
		t.Errorf("answered %d %v", der.Code, der.Header())
	}
	if got := w.get(path, "If-None-Match", der.Header().Get("ETag")); got.Code != http.StatusNotModified {
		t.Errorf("who has it gets %d", got.Code)
	}
	for _, alias := range []string{"/pki/crl.pem", "/pki/" + string(w.key) + "/crl.pem"} {
		block, _ := pem.Decode(w.get(alias).Body.Bytes())
		if block == nil || block.Type != "X509 CRL" || string(block.Bytes) != der.Body.String() {
			t.Errorf("%s is another list", alias)
		}
	}
	if got := w.get("/pki/crl.der"); got.Body.String() != der.Body.String() {
		t.Error("the list of the key that signs is another one")
	}
	roots, err := x509.ParseCertificate(func() []byte { block, _ := pem.Decode(w.get("/pki/trust-bundle.pem").Body.Bytes()); return block.Bytes }())
	if err != nil || !roots.IsCA {
		t.Errorf("the bundle begins with %v, %v", roots, err)
	}
	for _, unknown := range []string{"/", "/pki/", "/pki/none/crl.der", "/pki/" + string(w.key), "/pki/" + string(w.key) + "/key.pem", "/pki/" + strings.Repeat("k", 65) + "/crl.der"} {
		if got := w.get(unknown); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d", unknown, got.Code)
		}
	}
	// The list of before is better than none.
	w.now = w.now.Add(time.Hour)
	w.db.away = true
	if got := w.get(path); got.Code != http.StatusOK || got.Body.String() != der.Body.String() {
		t.Errorf("without a database: %d", got.Code)
	}
	if got := w.get("/pki/other/crl.der"); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") == "" {
		t.Errorf("another one without a database: %d", got.Code)
	}
}

// BenchmarkList hands out a list that exists, to many at once.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	w.revoke("5e")
	w.must(w.lists.Renew(b.Context()))
	path := "/pki/" + string(w.key) + "/crl.der"
	b.ReportAllocs()
	b.RunParallel(func(each *testing.PB) {
		for each.Next() {
			if got := w.get(path); got.Code != http.StatusOK {
				b.Error(got.Code)
			}
		}
	})
}
