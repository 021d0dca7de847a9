// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// joined makes a gateway of these tenants, of all if none, by the operator's word.
func (w *world) joined(id fleet.GatewayID, scope ...fleet.TenantID) fleet.Gateway {
	w.t.Helper()
	operator, token := fleet.System("", w.now()), newID[fleet.TokenID]()
	t := fleet.JoinToken{
		ID: token, Hash: identity.NewToken(identity.GatewayToken).Hash(), Gateway: id, Scope: fleet.ScopeOf(scope...), CreatedBy: "test",
		CreatedAt: w.now(), ExpiresAt: w.now().Add(time.Hour),
	}
	t.Scope.Every = scope == nil
	if err := w.store.IssueJoinToken(w.t.Context(), operator, t); err != nil {
		w.t.Fatal(err)
	}
	return w.join(t, "5e")
}

func (w *world) join(t fleet.JoinToken, serial fleet.Serial) fleet.Gateway {
	w.t.Helper()
	g, err := w.store.Join(w.t.Context(), store.Joining{
		Token: t.ID, PublicKey: [32]byte{1}, Serial: serial, NotAfter: w.now().AddDate(0, 1, 0), At: w.now(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func TestJoinTokens(t *testing.T) {
	w := newWorld(t)
	c, viewer := w.as(fleet.RoleAdmin), w.as(fleet.RoleViewer)
	issued := must(c.joinTokens.IssueJoinToken(t.Context(), &amporav1.IssueJoinTokenRequest{GatewayId: "edge-1"}))(t)
	secret, err := identity.ParseToken(identity.GatewayToken, issued.GetSecret())
	if err != nil {
		t.Fatal(err)
	}
	stored, err := w.store.JoinTokenByHash(t.Context(), secret.Hash())
	if err != nil || string(stored.ID) != issued.GetToken().GetId() || stored.Gateway != "edge-1" || !stored.Scope.Alone(tenant) ||
		stored.Tenant != tenant || stored.ExpiresAt != w.now().Add(24*time.Hour) {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if strings.Contains(w.log.String(), issued.GetSecret()) {
		t.Error("the secret is in the log")
	}
	if trust, err := w.authority.ControlTrust(t.Context(), w.now()); err != nil || !bytes.Equal(trust.PEM, issued.GetControlCaPem()) {
		t.Errorf("the control plane is to be trusted by %s, %v", issued.GetControlCaPem(), err)
	}

	w.join(stored, "5e")
	revoked := must(c.joinTokens.IssueJoinToken(t.Context(), &amporav1.IssueJoinTokenRequest{GatewayId: "edge-1"}))(t)
	revoke := &amporav1.RevokeJoinTokenRequest{Id: revoked.GetToken().GetId()}
	must(c.joinTokens.RevokeJoinToken(t.Context(), revoke))(t)
	_, err = c.joinTokens.RevokeJoinToken(t.Context(), revoke)
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
	short := must(c.joinTokens.IssueJoinToken(t.Context(), &amporav1.IssueJoinTokenRequest{GatewayId: "edge-2", Ttl: durationpb.New(15 * time.Minute)}))(t)
	w.pass(15 * time.Minute)
	states := map[string]amporav1.TokenState{}
	for _, listed := range must(c.joinTokens.ListJoinTokens(t.Context(), &amporav1.ListJoinTokensRequest{}))(t).GetTokens() {
		states[listed.GetId()] = listed.GetState()
	}
	for id, want := range map[string]amporav1.TokenState{
		issued.GetToken().GetId():  amporav1.TokenState_TOKEN_STATE_REDEEMED,
		revoked.GetToken().GetId(): amporav1.TokenState_TOKEN_STATE_REVOKED,
		short.GetToken().GetId():   amporav1.TokenState_TOKEN_STATE_EXPIRED,
	} {
		if len(states) != 3 || states[id] != want {
			t.Errorf("states are %v, want %v of %s", states, want, id)
		}
	}
	gateway := must(viewer.gateways.GetGateway(t.Context(), &amporav1.GetGatewayRequest{Id: "edge-1"}))(t).GetGateway()
	if gateway.GetState() != amporav1.GatewayState_GATEWAY_STATE_JOINED || gateway.GetShared() || gateway.GetSerial() != "5e" ||
		gateway.GetStartedAt() != nil || gateway.GetJoinedAt().AsTime() != stored.CreatedAt {
		t.Errorf("the gateway is %v", gateway)
	}
}

func TestGatewaysOfOthersAreNotDecidedOver(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleAdmin)
	w.joined("theirs", "other")
	w.joined("both", tenant, "other")
	w.joined("every")
	for _, id := range []string{"theirs", "both", "every"} {
		_, err := c.joinTokens.IssueJoinToken(t.Context(), &amporav1.IssueJoinTokenRequest{GatewayId: id})
		refused(t, err, connect.CodePermissionDenied, api.ReasonShared)
	}
	for _, id := range []string{"both", "every"} {
		_, err := c.gateways.RevokeGateway(t.Context(), &amporav1.RevokeGatewayRequest{Id: id})
		refused(t, err, connect.CodePermissionDenied, api.ReasonShared)
		if g := must(c.gateways.GetGateway(t.Context(), &amporav1.GetGatewayRequest{Id: id}))(t).GetGateway(); !g.GetShared() || g.GetRevokedAt() != nil {
			t.Errorf("%s is %v", id, g)
		}
	}
	_, err := c.gateways.GetGateway(t.Context(), &amporav1.GetGatewayRequest{Id: "theirs"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = c.gateways.RevokeGateway(t.Context(), &amporav1.RevokeGatewayRequest{Id: "theirs"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestGateways(t *testing.T) {
	w := newWorld(t)
	w.connect(w.agent(), nil) // at the gateway that did not join
	w.joined("edge-1", tenant)
	w.joined("edge-2", tenant, "other")
	w.joined("theirs", "other")
	viewer, admin := w.as(fleet.RoleViewer), w.as(fleet.RoleAdmin)
	var ids []string
	request := &amporav1.ListGatewaysRequest{PageSize: 2}
	for {
		page := must(viewer.gateways.ListGateways(t.Context(), request))(t)
		for _, g := range page.GetGateways() {
			ids = append(ids, g.GetId())
			if one := must(viewer.gateways.GetGateway(t.Context(), &amporav1.GetGatewayRequest{Id: g.GetId()}))(t).GetGateway(); one.String() != g.String() {
				t.Errorf("listed is %v, by itself it is %v", g, one)
			}
		}
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
	}
	if want := []string{"edge-1", "edge-2", "gateway"}; strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("listed are %v, want %v", ids, want)
	}
	own := must(viewer.gateways.GetGateway(t.Context(), &amporav1.GetGatewayRequest{Id: "gateway"}))(t).GetGateway()
	if own.GetState() != amporav1.GatewayState_GATEWAY_STATE_ONLINE || own.GetSessions() != 1 || own.GetJoinedAt() != nil || !own.GetShared() {
		t.Errorf("the gateway that did not join is %v", own)
	}
	revoke := &amporav1.RevokeGatewayRequest{Id: "edge-1"}
	if g := must(admin.gateways.RevokeGateway(t.Context(), revoke))(t).GetGateway(); g.GetState() != amporav1.GatewayState_GATEWAY_STATE_REVOKED {
		t.Errorf("revoked it is %v", g)
	}
	_, err := admin.gateways.RevokeGateway(t.Context(), revoke)
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
}
