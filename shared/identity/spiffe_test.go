// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

// spellings are names that are nearly those of an agent or a gateway, and must not be taken for them in a second spelling.
var spellings = []string{
	"spiffe://td/tenant/acme/agent/" + agentID,
	"spiffe://td/tenant/%61cme/agent/" + agentID,
	"spiffe://td/tenant/acme%2fagent%2f" + agentID,
	"spiffe://td:1/tenant/acme/agent/" + agentID + "?#",
	"spiffe://td:/tenant/acme/agent/" + agentID,
	"spiffe://@td/tenant/acme/agent/" + agentID,
	"spiffe://td./tenant/acme/agent/" + agentID,
	"SPIFFE://td/tenant/acme/agent/" + agentID + "#",
	"spiffe://xn--td-lka/tenant/acme/agent/" + agentID,
	"spiffe://t\u00e9/tenant/acme/agent/" + agentID,
	"spiffe://td/tenant/acme/agent/" + agentID + "/",
	"spiffe://td/tenant/acme//agent/" + agentID,
	"spiffe://td/tenant/acme/./agent/" + agentID,
	"spiffe://td/tenant/acme/agent/" + agentID + "\nspiffe://td/tenant/rival/agent/" + agentID,
	"spiffe://td/gateway/edge-1",
	"spiffe://td/gateway/edge-1/",
	"spiffe://td/gateway/%65dge-1",
	"spiffe://td/gateway/../gateway/edge-1",
	"spiffe://td/control",
}

func FuzzParseAgentURI(f *testing.F) {
	for _, text := range spellings {
		f.Add(text)
	}
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
		isOnlySpelling(t, text, agent.String())
	})
}

// isOnlySpelling: what is accepted is what the parts spell, byte for byte. Of other spellings net/url lets pass those
// alone that it does not keep: another case of the scheme, and an empty fragment.
func isOnlySpelling(t *testing.T, text, spelled string) {
	t.Helper()
	scheme, rest, _ := strings.Cut(text, ":")
	if strings.ToLower(scheme)+":"+strings.TrimSuffix(rest, "#") != spelled {
		t.Fatalf("%q is taken for %q", text, spelled)
	}
}

// FuzzFromCertificate: a certificate names one agent, or one gateway, or nobody, whatever its URI names are made of.
func FuzzFromCertificate(f *testing.F) {
	for _, text := range spellings {
		f.Add(text)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names := strings.Split(text, "\n")
		parsed := named(t, key, names)
		if parsed == nil {
			return
		}
		agent, err := identity.FromCertificate(parsed)
		gateway, notGateway := identity.GatewayFromCertificate(parsed, "td")
		switch {
		case err == nil && notGateway == nil:
			t.Fatalf("%q is an agent and a gateway", names)
		case (err == nil || notGateway == nil) && len(names) != 1:
			t.Fatalf("%q is one of several names", names)
		case err == nil:
			isOnlySpelling(t, text, agent.String())
		case notGateway == nil:
			isOnlySpelling(t, text, identity.GatewayURI("td", gateway).String())
		case !errors.Is(err, identity.ErrSPIFFE) || agent != (identity.Agent{}) || gateway != "":
			t.Fatalf("%q: %+v, %q, %v", names, agent, gateway, err)
		}
	})
}

// named is a certificate with the URI names as they are, of which no library has made anything yet; nil if none reads it.
func named(t *testing.T, key *ecdsa.PrivateKey, names []string) *x509.Certificate {
	t.Helper()
	var general []asn1.RawValue
	for _, name := range names {
		general = append(general, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(name)})
	}
	value, err := asn1.Marshal(general)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return parsed
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
