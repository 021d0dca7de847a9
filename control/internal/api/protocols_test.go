// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/fault"
)

// All three protocols carry principal, peer and error details alike; the development login needs Host, too.
func TestProtocols(t *testing.T) {
	w := newWorld(t, developing)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	listener := httptest.NewUnstartedServer(w.handler)
	listener.Config.Protocols = &protocols
	listener.Start()
	t.Cleanup(listener.Close)

	var onlyHTTP2 http.Protocols
	onlyHTTP2.SetUnencryptedHTTP2(true)
	http2 := &http.Client{Transport: &http.Transport{Protocols: &onlyHTTP2}}
	for name, transport := range map[string]connect.Transport{
		"connect":             connecthttp.NewTransport(http.DefaultClient, listener.URL),
		"connect over HTTP/2": connecthttp.NewTransport(http2, listener.URL),
		"connect GET":         connecthttp.NewTransport(http.DefaultClient, listener.URL, connecthttp.WithHTTPGet()),
		"grpc":                connecthttp.NewTransport(http2, listener.URL, connecthttp.WithGRPC()),
		"grpc-web":            connecthttp.NewTransport(http.DefaultClient, listener.URL, connecthttp.WithGRPCWeb()),
	} {
		t.Run(name, func(t *testing.T) {
			c := connect.NewClient(transport)
			system := must(amporav1connect.NewSystemServiceClient(c).GetSystem(t.Context(), &amporav1.GetSystemRequest{}))(t)
			if system.GetPrincipal() != "developer" {
				t.Errorf("called as %v", system)
			}
			_, err := amporav1connect.NewGroupServiceClient(c).GetGroup(t.Context(), &amporav1.GetGroupRequest{Group: "nothing"})
			refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
		})
	}
}

// interrogated is a service that does to its caller what a mistake of ours would.
type interrogated struct {
	t *testing.T
	amporav1connect.UnimplementedSystemServiceHandler
}

func (i interrogated) GetSystem(ctx context.Context, _ *amporav1.GetSystemRequest) (*amporav1.GetSystemResponse, error) {
	if ends, limited := ctx.Deadline(); !limited || time.Until(ends) > auth.UnaryTimeout {
		i.t.Error("the call has no end")
	}
	if by := auth.By(ctx); by.Principal.Name != "developer" || by.Tenant != tenant || by.Source != "127.0.0.1" {
		i.t.Errorf("the call is by %+v", by)
	}
	panic("hunter2")
}

func TestPanicsDiscloseNothing(t *testing.T) {
	w := newWorld(t, developing)
	w.register(func(server *connect.Server) {
		amporav1connect.RegisterSystemServiceHandler(server, interrogated{t: t})
	}, developing)
	_, err := w.with("").system.GetSystem(t.Context(), &amporav1.GetSystemRequest{})
	refused(t, err, connect.CodeInternal, fault.ReasonInternal)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the caller reads %v", err)
	}
	if !strings.Contains(w.log.String(), "protocols_test.go") {
		t.Error("the log has no stack")
	}
}

func TestUnforeseenRefusalsAreRecorded(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.token(fleet.APIToken{Role: fleet.RoleAdmin, Procedures: []string{"/ampora.v1.ApiTokenService/CreateApiToken"}})
	request := &amporav1.CreateApiTokenRequest{Name: "x", Role: amporav1.Role_ROLE_ADMIN}
	_, err := w.with(secret).apiTokens.CreateApiToken(t.Context(), request)
	if connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Fatal(err)
	}
	records, _, err := w.store.AuditRecords(t.Context(), tenant, "", fleet.Page{Size: 10})
	if err != nil || records[0].RefusalReason != "EXCEEDS_OWN_RIGHTS" || records[0].Action != "api_token.create" {
		t.Errorf("%v, %+v", err, records)
	}
}
