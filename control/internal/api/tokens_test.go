// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

func TestBootstrapTokens(t *testing.T) {
	w := newWorld(t)
	c := w.as(fleet.RoleOperator)
	issued := must(c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{Description: "rack 7"}))(t)
	token, err := identity.ParseToken(identity.BootstrapToken, issued.GetSecret())
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.store.BootstrapTokensByHash(t.Context(), token.Hash())
	stored := found[token.Hash()]
	if err != nil || string(stored.ID) != issued.GetToken().GetId() || stored.ExpiresAt != w.now().Add(24*time.Hour) {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if strings.Contains(w.log.String(), issued.GetSecret()) {
		t.Error("the secret is in the log")
	}
	_, err = c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{GroupId: string(newID[fleet.GroupID]())})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)

	short := must(c.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{Ttl: durationpb.New(15 * time.Minute)}))(t)
	w.pass(15 * time.Minute)
	list := must(c.bootstrapTokens.ListBootstrapTokens(t.Context(), &amporav1.ListBootstrapTokensRequest{}))(t).GetTokens()
	states := map[string]amporav1.TokenState{}
	for _, listed := range list {
		states[listed.GetId()] = listed.GetState()
	}
	if states[issued.GetToken().GetId()] != amporav1.TokenState_TOKEN_STATE_LIVE || states[short.GetToken().GetId()] != amporav1.TokenState_TOKEN_STATE_EXPIRED {
		t.Errorf("states are %v", states)
	}
	revoke := &amporav1.RevokeBootstrapTokenRequest{Id: issued.GetToken().GetId()}
	if revoked := must(c.bootstrapTokens.RevokeBootstrapToken(t.Context(), revoke))(t); revoked.GetToken().GetState() != amporav1.TokenState_TOKEN_STATE_REVOKED {
		t.Errorf("revoked %v", revoked)
	}
	_, err = c.bootstrapTokens.RevokeBootstrapToken(t.Context(), revoke)
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
}

// TestAWayBack: a token for an identity is an Operator's where that has nothing that is good, and else an Admin's.
func TestAWayBack(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	id := string(w.agent())
	ask := func(replace bool) *amporav1.IssueBootstrapTokenRequest {
		return &amporav1.IssueBootstrapTokenRequest{AgentId: strings.ToUpper(id), Replace: replace}
	}
	_, err := operator.bootstrapTokens.IssueBootstrapToken(t.Context(), ask(false))
	refused(t, err, connect.CodeFailedPrecondition, fleet.RefusedHasCertificate)
	_, err = operator.bootstrapTokens.IssueBootstrapToken(t.Context(), ask(true))
	if metadata := refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow); metadata["needed"] != "admin" {
		t.Errorf("metadata %v", metadata)
	}
	token := must(admin.bootstrapTokens.IssueBootstrapToken(t.Context(), ask(true)))(t).GetToken()
	if token.GetForAgentId() != id || !token.GetReplace() || token.GetAgentId() != "" {
		t.Errorf("the token is %v", token)
	}
	must(admin.certificates.RevokeCertificates(t.Context(), &amporav1.RevokeCertificatesRequest{AgentIds: []string{id}}))(t)
	_, err = operator.bootstrapTokens.IssueBootstrapToken(t.Context(), ask(false))
	refused(t, err, connect.CodeFailedPrecondition, fleet.RefusedWasRevoked)
	listed := must(operator.bootstrapTokens.ListBootstrapTokens(t.Context(), &amporav1.ListBootstrapTokensRequest{}))(t).GetTokens()
	if len(listed) == 0 || listed[0].GetId() != token.GetId() || listed[0].GetState() != amporav1.TokenState_TOKEN_STATE_REVOKED {
		t.Errorf("tokens are %v", listed)
	}
	w.pass(366 * 24 * time.Hour)
	operator = w.as(fleet.RoleOperator)
	token = must(operator.bootstrapTokens.IssueBootstrapToken(t.Context(), ask(false)))(t).GetToken()
	if token.GetForAgentId() != id || token.GetReplace() {
		t.Errorf("the token is %v", token)
	}
	for _, malformed := range []*amporav1.IssueBootstrapTokenRequest{
		{AgentId: "web-17"}, {AgentId: id, GroupId: string(newID[fleet.GroupID]())}, {Replace: true},
	} {
		_, err := operator.bootstrapTokens.IssueBootstrapToken(t.Context(), malformed)
		refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	}
	_, err = operator.bootstrapTokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{AgentId: string(newID[fleet.AgentID]())})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestAPITokens(t *testing.T) {
	w := newWorld(t)
	admin := w.as(fleet.RoleAdmin)
	created := must(admin.apiTokens.CreateApiToken(t.Context(), &amporav1.CreateApiTokenRequest{Name: "ci", Role: amporav1.Role_ROLE_VIEWER}))(t)
	if left := created.GetToken().GetExpiresAt().AsTime().Sub(w.now()); left != 90*24*time.Hour {
		t.Errorf("lives for %v", left)
	}
	made := w.with(created.GetSecret())
	system := must(made.system.GetSystem(t.Context(), &amporav1.GetSystemRequest{}))(t)
	if system.GetPrincipal() != "ci" || system.GetRole() != amporav1.Role_ROLE_VIEWER || system.GetDatabase() != "sqlite" ||
		system.GetVersion() != "1.2.3" || system.GetTrustDomain() != "fleet.example.com" || system.GetOpampUrl() == "" {
		t.Errorf("the system says %v", system)
	}
	_, err := admin.apiTokens.CreateApiToken(t.Context(), &amporav1.CreateApiTokenRequest{Name: "ci", Role: amporav1.Role_ROLE_VIEWER})
	refused(t, err, connect.CodeAlreadyExists, auth.ReasonAlreadyExists)
	if list := must(admin.apiTokens.ListApiTokens(t.Context(), &amporav1.ListApiTokensRequest{}))(t).GetTokens(); len(list) != 2 {
		t.Errorf("tokens are %v", list)
	}
	must(admin.apiTokens.RevokeApiToken(t.Context(), &amporav1.RevokeApiTokenRequest{Id: created.GetToken().GetId()}))(t)
	_, err = made.system.GetSystem(t.Context(), &amporav1.GetSystemRequest{})
	refused(t, err, connect.CodeUnauthenticated, auth.ReasonTokenInvalid)
}

func TestRequestsAreValidated(t *testing.T) {
	w := newWorld(t)
	admin := w.as(fleet.RoleAdmin)
	ctx := t.Context()
	for field, call := range map[string]func() error{
		"id": func() error { _, err := admin.agents.GetAgent(ctx, &amporav1.GetAgentRequest{Id: "1"}); return err },
		"page_size": func() error {
			_, err := admin.agents.ListAgents(ctx, &amporav1.ListAgentsRequest{PageSize: 1001})
			return err
		},
		"page_token": func() error {
			_, err := admin.agents.ListAgents(ctx, &amporav1.ListAgentsRequest{PageToken: strings.Repeat("a", 513)})
			return err
		},
		"name": func() error {
			_, err := admin.groups.CreateGroup(ctx, &amporav1.CreateGroupRequest{Name: "Edge"})
			return err
		},
		"ttl": func() error {
			_, err := admin.bootstrapTokens.IssueBootstrapToken(ctx, &amporav1.IssueBootstrapTokenRequest{Ttl: durationpb.New(time.Minute)})
			return err
		},
		"role": func() error {
			_, err := admin.apiTokens.CreateApiToken(ctx, &amporav1.CreateApiTokenRequest{Name: "x"})
			return err
		},
		"target": func() error {
			_, err := admin.assignments.Unassign(ctx, &amporav1.UnassignRequest{})
			return err
		},
		"target.target": func() error {
			_, err := admin.assignments.Unassign(ctx, &amporav1.UnassignRequest{Target: &amporav1.Target{}})
			return err
		},
		"agent_ids[1]": func() error {
			_, err := admin.groups.AddGroupMembers(ctx, &amporav1.AddGroupMembersRequest{
				Id: string(newID[fleet.GroupID]()), AgentIds: []string{string(newID[fleet.AgentID]()), "x"},
			})
			return err
		},
	} {
		about := refused(t, call(), connect.CodeInvalidArgument, auth.ReasonInvalidField)
		if _, named := about[field]; !named {
			t.Errorf("%s is not named in %v", field, about)
		}
	}
}

// PostgreSQL's text cannot hold U+0000, so that no request may bring it anywhere.
func TestTextWithoutNUL(t *testing.T) {
	w := newWorld(t)
	admin := w.as(fleet.RoleAdmin)
	ctx := t.Context()
	for field, call := range map[string]func() error{
		"description": func() error {
			_, err := admin.groups.CreateGroup(ctx, &amporav1.CreateGroupRequest{Name: "edge", Description: "a\x00b"})
			return err
		},
		"config": func() error {
			_, err := admin.configs.GetConfig(ctx, &amporav1.GetConfigRequest{Config: "\x00"})
			return err
		},
		"note": func() error {
			_, err := admin.configs.CreateConfig(ctx, &amporav1.CreateConfigRequest{Name: "edge", Note: "\x00", Body: []byte("a: b\n")})
			return err
		},
		"filter.name_prefix": func() error {
			_, err := admin.agents.ListAgents(ctx, &amporav1.ListAgentsRequest{Filter: &amporav1.AgentFilter{NamePrefix: "\x00"}})
			return err
		},
		`filter.labels["a"]`: func() error {
			_, err := admin.agents.ListAgents(ctx, &amporav1.ListAgentsRequest{Filter: &amporav1.AgentFilter{Labels: map[string]string{"a": "\x00"}}})
			return err
		},
		`filter.labels["\x00"]`: func() error {
			_, err := admin.agents.ListAgents(ctx, &amporav1.ListAgentsRequest{Filter: &amporav1.AgentFilter{Labels: map[string]string{"\x00": "a"}}})
			return err
		},
		"entity_id": func() error {
			_, err := admin.audit.ListAuditEvents(ctx, &amporav1.ListAuditEventsRequest{EntityId: "\x00"})
			return err
		},
	} {
		about := refused(t, call(), connect.CodeInvalidArgument, auth.ReasonInvalidField)
		if len(about) != 1 || about[strings.ReplaceAll(field, "\x00", `\x00`)] == "" {
			t.Errorf("%q is not named in %v", field, about)
		}
	}
	// Bodies are bytes, not text.
	must(admin.configs.CreateConfig(ctx, &amporav1.CreateConfigRequest{Name: "edge", Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE, Body: []byte{0}}))(t)
}

func TestNamesThatReadAsIDsAreRefused(t *testing.T) {
	w := newWorld(t)
	c, id := w.as(fleet.RoleOperator), string(newID[fleet.GroupID]())
	_, err := c.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: id})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	_, err = c.configs.CreateConfig(t.Context(), &amporav1.CreateConfigRequest{Name: id})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
}

func TestUndecodableRequests(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleViewer})
	for name, body := range map[string]string{"no json": "{", "unknown field": `{"nothing": 1}`, "another type": `{"id": {}}`} {
		if code, _ := w.send("/ampora.v1.AgentService/GetAgent", secret, body); code != "invalid_argument" {
			t.Errorf("%s: %s", name, code)
		}
	}
	// Whoever is not known learns nothing of how a request is read.
	if code, _ := w.send("/ampora.v1.AgentService/GetAgent", "", "{"); code != "unauthenticated" {
		t.Errorf("without a token: %s", code)
	}
}
