// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/identity"
)

const agentID = "01890a5d-ac96-774b-bcce-b302099a8057"

func TestParseAgentURI(t *testing.T) {
	text := "spiffe://ampora.example_1/tenant/acme/agent/" + agentID
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := identity.ParseAgentURI(u)
	if err != nil {
		t.Fatal(err)
	}
	want := identity.Agent{TrustDomain: "ampora.example_1", Tenant: "acme", ID: agentID}
	if agent != want || agent.String() != text {
		t.Errorf("ParseAgentURI = %+v (%s), want %+v", agent, agent, want)
	}
}

func TestParseAgentURIIsStrict(t *testing.T) {
	for _, text := range []string{
		"https://td/tenant/acme/agent/" + agentID,
		"spiffe:/tenant/acme/agent/" + agentID,
		"spiffe:td/tenant/acme/agent/" + agentID,
		"spiffe:///tenant/acme/agent/" + agentID,
		"spiffe://td/tenant/acme/agent/" + agentID + "?",
		"spiffe://td/tenant/acme/agent/" + agentID + "?a=b",
		"spiffe://td/tenant/acme/agent/" + agentID + "#x",
		"spiffe://user@td/tenant/acme/agent/" + agentID,
		"spiffe://td:443/tenant/acme/agent/" + agentID,
		"spiffe://TD/tenant/acme/agent/" + agentID,
		"spiffe://t%C3%A9/tenant/acme/agent/" + agentID,
		"spiffe://[::1]/tenant/acme/agent/" + agentID,
		"spiffe://td/tenant/%61cme/agent/" + agentID,
		"spiffe://td/tenant/acme%2Fagent/" + agentID,
		"spiffe://td/tenant/ac%20me/agent/" + agentID,
		"spiffe://td/tenant/acme/agent/" + agentID + "/",
		"spiffe://td//tenant/acme/agent/" + agentID,
		"spiffe://td/tenant//agent/" + agentID,
		"spiffe://td/tenant/../agent/" + agentID,
		"spiffe://td/tenant/acme/agent/",
		"spiffe://td/tenant/acme/agent/" + strings.ToUpper(agentID),
		"spiffe://td/tenant/acme/gateway/" + agentID,
		"spiffe://td/agent/" + agentID,
		"spiffe://td",
		"spiffe://" + strings.Repeat("a", 256) + "/tenant/acme/agent/" + agentID,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatalf("%q is no URL: %v", text, err)
		}
		if agent, err := identity.ParseAgentURI(u); !errors.Is(err, identity.ErrSPIFFE) || agent != (identity.Agent{}) {
			t.Errorf("ParseAgentURI(%q) = %+v, %v, want ErrSPIFFE", text, agent, err)
		}
	}
	if _, err := identity.ParseAgentURI(nil); !errors.Is(err, identity.ErrSPIFFE) {
		t.Errorf("ParseAgentURI(nil) = %v, want ErrSPIFFE", err)
	}
}

func TestFromCertificate(t *testing.T) {
	agent := identity.Agent{TrustDomain: "ampora.test", Tenant: "acme", ID: identity.NewAgentID()}
	other := identity.Agent{TrustDomain: "ampora.test", Tenant: "rival", ID: identity.NewAgentID()}
	for name, c := range map[string]struct {
		uris  []*url.URL
		valid bool
	}{
		"one":       {[]*url.URL{agent.URI()}, true},
		"none":      {nil, false},
		"two":       {[]*url.URL{agent.URI(), other.URI()}, false},
		"repeated":  {[]*url.URL{agent.URI(), agent.URI()}, false},
		"not ours":  {[]*url.URL{{Scheme: "https", Host: "example.org"}}, false},
		"no tenant": {[]*url.URL{{Scheme: "spiffe", Host: "ampora.test", Path: "/agent/" + string(agent.ID)}}, false},
	} {
		got, err := identity.FromCertificate(certificate(t, c.uris))
		if c.valid && (err != nil || got != agent) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, agent)
		}
		if !c.valid && !errors.Is(err, identity.ErrSPIFFE) {
			t.Errorf("%s: %v, want ErrSPIFFE", name, err)
		}
	}
}

func TestGatewayFromCertificate(t *testing.T) {
	const domain = "ampora.test"
	agent := identity.Agent{TrustDomain: domain, Tenant: "acme", ID: identity.NewAgentID()}
	if id, err := identity.GatewayFromCertificate(certificate(t, []*url.URL{identity.GatewayURI(domain, "edge-1")}), domain); err != nil || id != "edge-1" {
		t.Errorf("%q, %v", id, err)
	}
	for name, uris := range map[string][]*url.URL{
		"none":            nil,
		"two":             {identity.GatewayURI(domain, "a"), identity.GatewayURI(domain, "b")},
		"another domain":  {identity.GatewayURI("other.test", "a")},
		"an agent":        {agent.URI()},
		"control":         {identity.ControlURI(domain)},
		"no name":         {identity.GatewayURI(domain, "")},
		"a longer path":   {identity.GatewayURI(domain, "a/b")},
		"an escaped name": {{Scheme: "spiffe", Host: domain, Path: "/gateway/a", RawPath: "/gateway/%61"}},
	} {
		if id, err := identity.GatewayFromCertificate(certificate(t, uris), domain); err == nil {
			t.Errorf("%s is taken for gateway %q", name, id)
		}
	}
}

func FuzzParseAgentURI(f *testing.F) {
	f.Add("spiffe://td/tenant/acme/agent/" + agentID)
	f.Add("spiffe://td/tenant/%61cme/agent/" + agentID)
	f.Add("spiffe://td:1/tenant/acme/agent/" + agentID + "?#")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		agent, err := identity.ParseAgentURI(u)
		if err != nil {
			if !errors.Is(err, identity.ErrSPIFFE) || agent != (identity.Agent{}) {
				t.Fatalf("ParseAgentURI(%q) = %+v, %v", text, agent, err)
			}
			return
		}
		// One spelling: what is accepted is what the parts spell. net/url itself
		// forgives the case of the scheme and an empty fragment.
		if spelled := agent.String(); u.String() != spelled {
			t.Fatalf("ParseAgentURI(%q) accepted another spelling of %q", text, spelled)
		}
	})
}

// certificate signs a certificate with the URI names and parses it back, because
// what counts is what arrives in a handshake.
func certificate(t *testing.T, uris []*url.URL) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"ignored"}, URIs: uris}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
