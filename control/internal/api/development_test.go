// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

func TestDevelopmentLogin(t *testing.T) {
	w := newWorld(t, developing)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	peer := func(address string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = address } }
	both := func(a, b func(*http.Request)) func(*http.Request) { return func(r *http.Request) { a(r); b(r) } }

	admitted := map[string]func(*http.Request){
		"a program here":      host("127.0.0.1:8080"),
		"by name":             host("localhost:8080"),
		"by name, no port":    host("LocalHost"),
		"over IPv6":           both(peer("[::1]:4711"), host("[::1]:8080")),
		"IPv6, no port":       host("[::1]"),
		"IPv4 in IPv6":        peer("[::ffff:127.0.0.1]:4711"),
		"another of 127/8":    both(peer("127.1.2.3:4711"), host("127.1.2.3:8080")),
		"our page":            header("Origin", "http://localhost:8080"),
		"our page says so":    header("Sec-Fetch-Site", "same-origin"),
		"typed into the bar":  header("Sec-Fetch-Site", "none"),
		"our page over https": header("Origin", "https://localhost:8080"),
	}
	refused := map[string]func(*http.Request){
		"another machine":             peer("192.0.2.1:4711"),
		"this machine's other name":   peer("10.0.0.1:4711"),
		"no peer":                     peer(""),
		"rebound name":                host("evil.example.com:8080"),
		"a name like ours":            host("localhost.example.com"),
		"a name around ours":          host("127.0.0.1.nip.example.com"),
		"trailing dot":                host("localhost."),
		"no host":                     host(""),
		"the wildcard address":        host("0.0.0.0:8080"),
		"X-Forwarded-For":             header("X-Forwarded-For", "192.0.2.1"),
		"X-Forwarded-For, empty":      header("X-Forwarded-For", ""),
		"Forwarded":                   header("Forwarded", "for=127.0.0.1"),
		"X-Forwarded-Host":            header("X-Forwarded-Host", "localhost"),
		"X-Real-IP":                   header("X-Real-IP", "127.0.0.1"),
		"Via":                         header("Via", "1.1 proxy"),
		"another's page":              header("Origin", "https://evil.example.com"),
		"another's page here":         header("Origin", "http://localhost:3000"),
		"an opaque origin":            header("Origin", "null"),
		"an empty origin":             header("Origin", ""),
		"a page with our CORS":        header("Origin", "https://ui.example.com"),
		"a cross-site request":        header("Sec-Fetch-Site", "cross-site"),
		"a same-site request":         header("Sec-Fetch-Site", "same-site"),
		"a bad token":                 header("Authorization", "Bearer x"),
		"an unknown token":            header("Authorization", "Bearer "+identity.NewToken(identity.APIToken).Reveal()),
		"an empty Authorization line": header("Authorization", ""),
	}
	here := both(peer("127.0.0.1:4711"), host("localhost:8080"))
	create := procedure{name: "/ampora.v1.ApiTokenService/ListApiTokens", role: fleet.RoleAdmin}
	for name, adjust := range admitted {
		if code, reason := w.raw(create, here, adjust); code != "" {
			t.Errorf("%s is refused: %s %s", name, code, reason)
		}
	}
	for name, adjust := range refused {
		if code, _ := w.raw(create, here, adjust); code != "unauthenticated" {
			t.Errorf("%s is admitted: %q", name, code)
		}
	}

	if _, err := w.with("").tokenPools.DrawToken(t.Context(), &amporav1.DrawTokenRequest{}); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("the developer draws without a pool's secret: %v", err)
	}
	system := must(w.with("").system.GetSystem(t.Context(), &amporav1.GetSystemRequest{}))(t)
	if system.GetPrincipal() != "developer" || system.GetTenant() != "default" || system.GetRole() != amporav1.Role_ROLE_ADMIN {
		t.Errorf("the developer is %v", system)
	}
}

func TestNoDevelopmentLoginUnlessConfigured(t *testing.T) {
	w := newWorld(t)
	for _, p := range procedures(t) {
		code, _ := w.raw(p, func(r *http.Request) { r.RemoteAddr, r.Host = "127.0.0.1:4711", "localhost:8080" })
		if code != "unauthenticated" {
			t.Errorf("%s: %q", p.name, code)
		}
	}
}

// developing admits the developer, of the tenant of these tests.
func developing(c *auth.Config) { c.Development, c.DevelopmentTenant = true, tenant }
