// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/conf"
)

// TestTheOperatorsGateways lets a gateway join with the operator's token, and revokes it.
func TestTheOperatorsGateways(t *testing.T) {
	database := Database{URL: conf.NewSecret("sqlite:" + filepath.Join(t.TempDir(), "ampora.db"))}
	log, now := slog.New(slog.DiscardHandler), time.Now().UTC().Truncate(time.Microsecond)
	if _, err := Migrate(t.Context(), database, log); err != nil {
		t.Fatal(err)
	}
	key := keys(newMasterKey())
	if _, err := BootstrapAdmin(t.Context(), Bootstrap{Database: database, Keys: key, Tenant: "default", Name: "x", Now: now, Log: log}); err != nil {
		t.Fatal(err)
	}
	j := JoinToken{
		Database: database, Keys: key, PKI: PKI{TrustDomain: "example.org", PublicURL: "http://127.0.0.1:1"}, Gateway: "edge-1", Now: now, Log: log,
	}
	secret, ca, err := IssueJoinToken(t.Context(), j)
	if err != nil || !strings.HasPrefix(string(ca), "-----BEGIN CERTIFICATE-----") {
		t.Fatalf("%q, %v", ca, err)
	}
	db, err := openStore(t.Context(), database, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	token, err := db.JoinTokenByHash(t.Context(), secret.Hash())
	if err != nil || !token.Scope.Every || token.Tenant != "" || !token.ExpiresAt.Equal(now.Add(24*time.Hour)) {
		t.Errorf("the token is %+v, %v", token, err)
	}
	revoke := func() error {
		return RevokeGateway(t.Context(), Revocation{Database: database, Gateway: "edge-1", Now: now, Log: log})
	}
	if err := revoke(); err == nil {
		t.Error("a gateway was revoked that did not join")
	}
	if _, err := db.Join(t.Context(), store.Joining{Token: token.ID, PublicKey: [32]byte{1}, Serial: "5e", NotAfter: now.Add(time.Hour), At: now}); err != nil {
		t.Fatal(err)
	}
	if err := revoke(); err != nil {
		t.Error(err)
	}
	if g, err := db.Gateway(t.Context(), "edge-1"); err != nil || g.State(now) != fleet.GatewayRevoked {
		t.Errorf("it is %+v, %v", g, err)
	}
	if err := revoke(); err == nil {
		t.Error("it was revoked twice")
	}
	j.Tenants = []string{"default", "default"}
	if secret, _, err = IssueJoinToken(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if token, err = db.JoinTokenByHash(t.Context(), secret.Hash()); err != nil || !reflect.DeepEqual(token.Scope, fleet.ScopeOf("default")) {
		t.Errorf("the scope is %+v, %v", token.Scope, err)
	}
}
