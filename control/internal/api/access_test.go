// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// procedure is one procedure of the API and the role it declares, or that it is for the secret of a pool.
type procedure struct {
	name   string
	role   fleet.Role
	stream bool
	pool   bool
}

func procedures(t *testing.T) (all []procedure) {
	protoregistry.GlobalFiles.RangeFilesByPackage("ampora.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				access, _ := auth.Declared(method)
				name := "/" + string(service.FullName()) + "/" + string(method.Name())
				all = append(all, procedure{name, auth.RoleFrom(access.GetRole()), method.IsStreamingServer(), access.GetPoolSecret()})
			}
		}
		return true
	})
	if len(all) < 30 {
		t.Fatalf("only %d procedures", len(all))
	}
	return all
}

// raw calls a procedure with an empty message, as JSON, and returns the code and the reason it was answered with. Both
// are empty for success.
func (w *world) raw(p procedure, adjust ...func(*http.Request)) (code, reason string) {
	contentType, body := "application/json", "{}"
	if p.stream {
		contentType, body = "application/connect+json", "\x00\x00\x00\x00\x02{}"
	}
	request := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, p.name, strings.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	for _, change := range adjust {
		change(request)
	}
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, request)
	return w.answerOf(recorder.Body.Bytes(), p.stream)
}

// answerOf reads the error out of an answer of the Connect protocol, whose streams end with an envelope of their own.
func (w *world) answerOf(body []byte, stream bool) (code, reason string) {
	type failure struct {
		Code    string
		Details []struct{ Value string }
	}
	var answer struct {
		failure
		Error failure
	}
	if stream {
		body = body[bytes.LastIndexByte(body, '\x02')+5:]
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		w.t.Fatalf("%v in %q", err, body)
	}
	if stream {
		answer.failure = answer.Error
	}
	if len(answer.Details) == 0 {
		return answer.Code, ""
	}
	value, err := base64.RawStdEncoding.DecodeString(answer.Details[0].Value)
	if err != nil {
		w.t.Fatal(err)
	}
	var info amporav1.ErrorInfo
	if err := proto.Unmarshal(value, &info); err != nil {
		w.t.Fatal(err)
	}
	return answer.Code, info.GetReason()
}

func withSecret(secret string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
}

func TestEveryProcedureRefusesWhoeverIsBelowItsRole(t *testing.T) {
	w := newWorld(t)
	secrets := map[fleet.Role]string{}
	for role := fleet.RoleViewer; role <= fleet.RoleAdmin; role++ {
		secrets[role], _ = w.token(fleet.APIToken{Role: role, Name: role.String()})
	}
	for _, p := range procedures(t) {
		if code, reason := w.raw(p); code != "unauthenticated" || reason != auth.ReasonTokenMissing {
			t.Errorf("%s without a token: %s %s", p.name, code, reason)
		}
		for role := fleet.RoleViewer; role <= fleet.RoleAdmin; role++ {
			if p.stream && role >= p.role {
				continue // it would go on for ever; see TestWatch…
			}
			code, reason := w.raw(p, withSecret(secrets[role]))
			if p.pool {
				if code != "unauthenticated" || reason != auth.ReasonTokenInvalid {
					t.Errorf("%s as %v: %s %s", p.name, role, code, reason)
				}
				continue
			}
			denied := code == "permission_denied" && reason == auth.ReasonRoleTooLow
			if denied != (role < p.role) || code == "unauthenticated" {
				t.Errorf("%s as %v: %s %s", p.name, role, code, reason)
			}
		}
	}
	w.expectRefusals(auth.ReasonRoleTooLow)
}

// expectRefusals checks that each procedure above viewer was recorded as refused to the viewer.
func (w *world) expectRefusals(reason string) {
	w.t.Helper()
	list, _, err := w.store.AuditRecords(w.t.Context(), tenant, "", fleet.Page{Size: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	refused := map[string]int{}
	for _, r := range list {
		if r.RefusalReason == reason {
			refused[r.ActorName]++
		}
	}
	want := map[string]int{}
	for _, p := range procedures(w.t) {
		for role := fleet.RoleViewer; role < p.role; role++ {
			want[role.String()]++
		}
	}
	for name, n := range want {
		if refused[name] != n {
			w.t.Errorf("%d refusals of %s are recorded, %d were made", refused[name], name, n)
		}
	}
}

func TestTokenLimitedToProcedures(t *testing.T) {
	w := newWorld(t)
	secret, id := w.token(fleet.APIToken{Role: fleet.RoleAdmin, Procedures: []string{"/ampora.v1.GroupService/ListGroups"}})
	limited := w.with(secret)
	if _, err := limited.groups.ListGroups(t.Context(), &amporav1.ListGroupsRequest{}); err != nil {
		t.Error(err)
	}
	for range 2 {
		_, err := limited.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "a"})
		refused(t, err, connect.CodePermissionDenied, auth.ReasonProcedureNotAllowed)
	}
	log := must(w.as(fleet.RoleAdmin).audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{}))(t)
	newest := log.GetEvents()[0]
	for _, e := range log.GetEvents() {
		if e.GetRefusalReason() != "" {
			newest = e
		}
	}
	if newest.GetRefusalReason() != auth.ReasonProcedureNotAllowed || newest.GetCount() != 2 || newest.GetAction() != "group.create" ||
		newest.GetActor() != string(id) || newest.GetSourceAddress() != "127.0.0.1" {
		t.Errorf("the refusals are recorded as %v", newest)
	}
}

func TestTokensThatAreNotGood(t *testing.T) {
	w := newWorld(t)
	good, _ := w.token(fleet.APIToken{Role: fleet.RoleViewer})
	expired, _ := w.token(fleet.APIToken{Role: fleet.RoleViewer, ExpiresAt: w.now().Add(time.Minute)})
	revoked, id := w.token(fleet.APIToken{Role: fleet.RoleViewer})
	if _, err := w.store.RevokeAPIToken(t.Context(), w.by(), id); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	system := procedure{name: "/ampora.v1.SystemService/GetSystem"}
	for name, c := range map[string]struct{ header, reason, log string }{
		"good":            {"Bearer " + good, "", ""},
		"scheme in small": {"bearer " + good, "", ""},
		"nothing":         {"", auth.ReasonTokenMissing, ""},
		"expired":         {"Bearer " + expired, auth.ReasonTokenInvalid, "has expired"},
		"revoked":         {"Bearer " + revoked, auth.ReasonTokenInvalid, "was revoked"},
		"unknown":         {"Bearer " + identity.NewToken(identity.APIToken).Reveal(), auth.ReasonTokenInvalid, "no such token"},
		"truncated":       {"Bearer " + good[:len(good)-3], auth.ReasonTokenInvalid, "damaged copy"},
		"bootstrap":       {"Bearer " + identity.NewToken(identity.BootstrapToken).Reveal(), auth.ReasonTokenInvalid, "not a token of this kind"},
		"basic":           {"Basic " + good, auth.ReasonTokenInvalid, "not one bearer token"},
		"bare":            {good, auth.ReasonTokenInvalid, "not one bearer token"},
		"empty":           {"Bearer ", auth.ReasonTokenInvalid, "not a token of this kind"},
		"two blanks":      {"Bearer  " + good, auth.ReasonTokenInvalid, "not a token of this kind"},
	} {
		before := len(w.log.String())
		code, reason := w.raw(system, func(r *http.Request) {
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
		})
		if reason != c.reason || (code == "unauthenticated") != (c.reason != "") {
			t.Errorf("%s: %s %s", name, code, reason)
		}
		if said := w.log.String()[before:]; !strings.Contains(said, c.log) {
			t.Errorf("%s: the log says %q", name, said)
		}
	}
	for _, secret := range []string{good, expired, revoked} {
		if strings.Contains(w.log.String(), strings.Split(secret, ".")[1][:20]) {
			t.Error("a secret is in the log")
		}
	}
}

func TestTokenOpensItsOwnTenantOnly(t *testing.T) {
	w := newWorld(t)
	created := must(w.as(fleet.RoleOperator).groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "a"}))(t)
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin, Tenant: "other"})
	stranger := w.with(secret)
	_, err := stranger.groups.GetGroup(t.Context(), &amporav1.GetGroupRequest{Group: created.GetGroup().GetId()})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	if list := must(stranger.groups.ListGroups(t.Context(), &amporav1.ListGroupsRequest{}))(t); len(list.GetGroups()) != 0 {
		t.Errorf("the other tenant sees %v", list)
	}
}

func TestTokensCannotMakeStrongerOnes(t *testing.T) {
	w := newWorld(t)
	const create, list = "/ampora.v1.ApiTokenService/CreateApiToken", "/ampora.v1.GroupService/ListGroups"
	limited, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin, Procedures: []string{create, list}})
	for name, c := range map[string]struct {
		procedures []string
		reason     string
	}{
		"a part of its own": {[]string{list}, ""},
		"all of its own":    {[]string{create, list}, ""},
		"another":           {[]string{list, "/ampora.v1.GroupService/CreateGroup"}, api.ReasonExceedsOwn},
		"no limit":          {nil, api.ReasonExceedsOwn},
		"no procedure":      {[]string{"/ampora.v1.GroupService/Nothing"}, auth.ReasonInvalidField},
		"no path":           {[]string{"ListGroups"}, auth.ReasonInvalidField},
		"a message":         {[]string{"/ampora.v1/Group"}, auth.ReasonInvalidField},
	} {
		request := &amporav1.CreateApiTokenRequest{Name: name, Role: amporav1.Role_ROLE_ADMIN, Procedures: c.procedures}
		_, err := w.with(limited).apiTokens.CreateApiToken(t.Context(), request)
		switch c.reason {
		case "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case api.ReasonExceedsOwn:
			refused(t, err, connect.CodePermissionDenied, c.reason)
		default:
			refused(t, err, connect.CodeInvalidArgument, c.reason)
		}
	}
}
