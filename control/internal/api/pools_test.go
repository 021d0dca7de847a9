// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// pool makes a token pool and returns it with its secret.
func (w *world) pool(r *amporav1.CreateTokenPoolRequest) (pool *amporav1.TokenPool, secret string) {
	w.t.Helper()
	created := must(w.as(fleet.RoleOperator).tokenPools.CreateTokenPool(w.t.Context(), r))(w.t)
	return created.GetPool(), created.GetSecret()
}

// draw draws a token with a pool's secret.
func (w *world) draw(secret string) (*amporav1.DrawTokenResponse, error) {
	return w.with(secret).tokenPools.DrawToken(w.t.Context(), &amporav1.DrawTokenRequest{Description: "i-0abc"})
}

func TestAPoolHandsOutTokens(t *testing.T) {
	w := newWorld(t)
	group := must(w.as(fleet.RoleOperator).groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "web"}))(t).GetGroup()
	pool, secret := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg", GroupId: group.GetId()})
	if _, err := identity.ParseToken(identity.PoolToken, secret); err != nil {
		t.Fatalf("the secret: %v", err)
	}
	if pool.GetTtl().AsDuration() != time.Hour || pool.GetPerHour() != 60 || pool.GetBurst() != 10 || pool.GetLiveLimit() != 0 {
		t.Errorf("created %v", pool)
	}
	drawn := must(w.draw(secret))(t)
	token, err := identity.ParseToken(identity.BootstrapToken, drawn.GetSecret())
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.store.BootstrapTokensByHash(t.Context(), token.Hash())
	stored := found[token.Hash()]
	if err != nil || string(stored.ID) != drawn.GetTokenId() || stored.Group != fleet.GroupID(group.GetId()) ||
		!drawn.GetExpiresAt().AsTime().Equal(w.now().Add(time.Hour)) || drawn.GetOpampUrl() != "wss://fleet.example.com/v1/opamp" {
		t.Errorf("drawn %v, stored %+v, %v", drawn, stored, err)
	}
	c := w.as(fleet.RoleViewer)
	listed := must(c.bootstrapTokens.ListBootstrapTokens(t.Context(), &amporav1.ListBootstrapTokensRequest{}))(t).GetTokens()
	if len(listed) != 1 || listed[0].GetPool() != "asg" || listed[0].GetPoolId() != pool.GetId() || listed[0].GetDescription() != "i-0abc" {
		t.Errorf("listed %v", listed)
	}
	if got := must(c.tokenPools.GetTokenPool(t.Context(), &amporav1.GetTokenPoolRequest{Pool: "asg"}))(t).GetPool(); got.GetLive() != 1 {
		t.Errorf("got %v", got)
	}
	log := must(w.as(fleet.RoleAdmin).audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{EntityId: drawn.GetTokenId()}))(t).GetEvents()
	if len(log) != 1 || log[0].GetActor() != "asg" || log[0].GetActorKind() != "token_pool" || log[0].GetSourceAddress() != "127.0.0.1" ||
		log[0].GetAction() != "bootstrap_token.issue" || !strings.Contains(log[0].GetAfter(), `"pool":"asg"`) {
		t.Errorf("audited %v", log)
	}
	for _, shown := range []string{secret, drawn.GetSecret()} {
		if strings.Contains(w.log.String(), shown) {
			t.Error("a secret is in the log")
		}
	}
}

// TestAPoolsSecretOpensNothingElse: who steals it can draw tokens, within the limits, and nothing more.
func TestAPoolsSecretOpensNothingElse(t *testing.T) {
	w := newWorld(t)
	_, secret := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg"})
	for _, p := range procedures(t) {
		code, reason := w.raw(p, withSecret(secret))
		if p.pool {
			if code != "" {
				t.Errorf("%s: %s %s", p.name, code, reason)
			}
			continue
		}
		if code != "unauthenticated" || reason != auth.ReasonTokenInvalid {
			t.Errorf("%s: %s %s", p.name, code, reason)
		}
	}
}

// TestStrangersLearnNothingOfPools: every secret that opens nothing gets the same answer, byte for byte.
func TestStrangersLearnNothingOfPools(t *testing.T) {
	w := newWorld(t)
	pool, former := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg"})
	gone, deleted := w.pool(&amporav1.CreateTokenPoolRequest{Name: "gone"})
	operator := w.as(fleet.RoleOperator)
	must(operator.tokenPools.RotateTokenPoolSecret(t.Context(), &amporav1.RotateTokenPoolSecretRequest{Id: pool.GetId()}))(t)
	must(operator.tokenPools.DeleteTokenPool(t.Context(), &amporav1.DeleteTokenPoolRequest{Id: gone.GetId()}))(t)
	apiToken, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin})
	answers := map[string][]string{}
	for name, secret := range map[string]string{
		"unknown": identity.NewToken(identity.PoolToken).Reveal(), "former": former, "deleted": deleted, "truncated": former[:20],
		"an API token": apiToken, "nonsense": "x",
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ampora.v1.TokenPoolService/DrawToken", strings.NewReader("{}"))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+secret)
		recorder := httptest.NewRecorder()
		w.handler.ServeHTTP(recorder, request)
		body, err := io.ReadAll(recorder.Body)
		if err != nil || recorder.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d %v", name, recorder.Code, err)
		}
		answers[string(body)] = append(answers[string(body)], name)
	}
	if len(answers) != 1 {
		t.Errorf("they are answered differently: %v", answers)
	}
	if code, reason := w.raw(procedure{name: "/ampora.v1.TokenPoolService/DrawToken"}); code != "unauthenticated" || reason != auth.ReasonTokenMissing {
		t.Errorf("without a secret: %s %s", code, reason)
	}
	// The tenant sees that a secret of its own was tried that is good no more.
	log := must(w.as(fleet.RoleAdmin).audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{}))(t).GetEvents()
	for _, actor := range []string{"asg", "gone"} {
		if !slices.ContainsFunc(log, func(e *amporav1.AuditEvent) bool {
			return e.GetActor() == actor && e.GetRefusalReason() == auth.ReasonTokenInvalid
		}) {
			t.Errorf("nothing in the audit log of the secret of %s", actor)
		}
	}
}

func TestAPoolKeepsItsRate(t *testing.T) {
	w := newWorld(t)
	pool, secret := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg", PerHour: 60, Burst: 2})
	must(w.draw(secret))(t)
	must(w.draw(secret))(t)
	_, err := w.draw(secret)
	about := refused(t, err, connect.CodeResourceExhausted, fleet.RefusedPoolRateLimited)
	if about["retry_after_seconds"] != "60" {
		t.Errorf("metadata %v", about)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ampora.v1.TokenPoolService/DrawToken", strings.NewReader("{}"))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+secret)
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusTooManyRequests || recorder.Header().Get("Retry-After") != "60" {
		t.Errorf("answered %d, Retry-After %q", recorder.Code, recorder.Header().Get("Retry-After"))
	}
	w.pass(time.Minute)
	must(w.draw(secret))(t)
	refusals := must(w.as(fleet.RoleAdmin).audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{EntityId: pool.GetId()}))(t).GetEvents()
	if refusals[0].GetRefusalReason() != fleet.RefusedPoolRateLimited || refusals[0].GetCount() != 2 {
		t.Errorf("audited %v", refusals)
	}
}

func TestWhatAnOperatorDoesWithAPool(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleOperator).tokenPools
	pool, secret := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg", LiveLimit: 1})
	_, err := c.CreateTokenPool(t.Context(), &amporav1.CreateTokenPoolRequest{Name: "asg"})
	refused(t, err, connect.CodeAlreadyExists, auth.ReasonAlreadyExists)
	must(w.draw(secret))(t)
	_, err = w.draw(secret)
	refused(t, err, connect.CodeResourceExhausted, fleet.RefusedPoolExhausted)

	update := func(change *amporav1.UpdateTokenPoolRequest) *amporav1.TokenPool {
		t.Helper()
		change.Id = pool.GetId()
		return must(c.UpdateTokenPool(t.Context(), change))(t).GetPool()
	}
	changed := update(&amporav1.UpdateTokenPoolRequest{LiveLimit: proto.Int32(0), Ttl: durationpb.New(2 * time.Hour), Disabled: proto.Bool(true)})
	if changed.GetLiveLimit() != 0 || changed.GetTtl().AsDuration() != 2*time.Hour || !changed.GetDisabled() || changed.GetPerHour() != 60 {
		t.Errorf("changed to %v", changed)
	}
	_, err = w.draw(secret)
	refused(t, err, connect.CodeFailedPrecondition, fleet.RefusedPoolDisabled)
	update(&amporav1.UpdateTokenPoolRequest{Disabled: proto.Bool(false)})
	must(w.draw(secret))(t)

	rotated := must(c.RotateTokenPoolSecret(t.Context(), &amporav1.RotateTokenPoolSecretRequest{Id: pool.GetId(), Overlap: durationpb.New(time.Hour)}))(t)
	if !rotated.GetPool().GetFormerSecretUntil().AsTime().Equal(w.now().Add(time.Hour)) {
		t.Errorf("rotated %v", rotated.GetPool())
	}
	must(w.draw(secret))(t)
	must(w.draw(rotated.GetSecret()))(t)
	w.pass(time.Hour)
	_, err = w.draw(secret)
	refused(t, err, connect.CodeUnauthenticated, auth.ReasonTokenInvalid)
	got := must(c.GetTokenPool(t.Context(), &amporav1.GetTokenPoolRequest{Pool: pool.GetId()}))(t).GetPool()
	if got.GetFormerSecretUntil() != nil || got.GetLive() != 3 {
		t.Errorf("got %v", got)
	}

	if done := must(c.DeleteTokenPool(t.Context(), &amporav1.DeleteTokenPoolRequest{Id: pool.GetId()}))(t); done.GetRevokedTokens() != 3 {
		t.Errorf("deleted %v", done)
	}
	_, err = w.draw(rotated.GetSecret())
	refused(t, err, connect.CodeUnauthenticated, auth.ReasonTokenInvalid)
	if list := must(c.ListTokenPools(t.Context(), &amporav1.ListTokenPoolsRequest{}))(t).GetPools(); len(list) != 0 {
		t.Errorf("listed %v", list)
	}
}

func TestAPoolIsOfItsTenant(t *testing.T) {
	w := newWorld(t)
	pool, _ := w.pool(&amporav1.CreateTokenPoolRequest{Name: "asg"})
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin, Tenant: "other"})
	c := w.with(secret).tokenPools
	for _, key := range []string{pool.GetId(), "asg"} {
		_, err := c.GetTokenPool(t.Context(), &amporav1.GetTokenPoolRequest{Pool: key})
		refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	}
	_, err := c.UpdateTokenPool(t.Context(), &amporav1.UpdateTokenPoolRequest{Id: pool.GetId(), Disabled: proto.Bool(true)})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = c.RotateTokenPoolSecret(t.Context(), &amporav1.RotateTokenPoolSecretRequest{Id: pool.GetId()})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = c.DeleteTokenPool(t.Context(), &amporav1.DeleteTokenPoolRequest{Id: pool.GetId()})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)

	theirs := must(c.CreateTokenPool(t.Context(), &amporav1.CreateTokenPoolRequest{Name: "asg"}))(t)
	drawn := must(w.draw(theirs.GetSecret()))(t)
	token, err := identity.ParseToken(identity.BootstrapToken, drawn.GetSecret())
	if err != nil {
		t.Fatal(err)
	}
	if found, err := w.store.BootstrapTokensByHash(t.Context(), token.Hash()); err != nil || found[token.Hash()].Tenant != "other" {
		t.Errorf("stored %+v, %v", found, err)
	}
}
