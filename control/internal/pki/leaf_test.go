// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// TestALeafSaysNothingThatTheRequestAskedFor: names, usages and extensions that a
// stranger chose end with the request.
func TestALeafSaysNothingThatTheRequestAskedFor(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	constraints, err := asn1.Marshal(struct{ IsCA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	r := request(t, acme, start)
	r.CSR = csr(t, key, x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "admin", Organization: []string{"evil"}},
		DNSNames:       []string{"gateway.example"},
		EmailAddresses: []string{"root@example.com"},
		IPAddresses:    []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs:           []*url.URL{{Scheme: "spiffe", Host: "fleet.example", Path: "/tenant/globex/agent/x"}},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 1, 6}},              // certSign, cRLSign
			{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{48, 6, 6, 4, 85, 29, 37, 0}},              // any usage
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 37476, 9000, 64, 1}, Value: []byte{4, 1, 1}},         // step-ca's own
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes, Critical: true}, // no OCSP check
		},
	})
	leaf, certificate := issue(t, authority, r)

	agent, err := identity.FromCertificate(certificate)
	want := identity.Agent{TrustDomain: "fleet.example", Tenant: "acme", ID: identity.AgentID(r.Agent)}
	if err != nil || agent != want {
		t.Errorf("it names %v (%v), want %v", agent, err, want)
	}
	if n := len(certificate.DNSNames) + len(certificate.EmailAddresses) + len(certificate.IPAddresses); n != 0 {
		t.Errorf("it has %d names that are not the SPIFFE ID", n)
	}
	if got, want := certificate.Subject.String(), "CN="+string(r.Agent); got != want {
		t.Errorf("its subject is %s, want %s", got, want)
	}
	if certificate.IsCA || certificate.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %t, key usage %b", certificate.IsCA, certificate.KeyUsage)
	}
	if !slices.Equal(certificate.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || len(certificate.UnknownExtKeyUsage) > 0 {
		t.Errorf("extended key usage %v %v", certificate.ExtKeyUsage, certificate.UnknownExtKeyUsage)
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		t.Error("it certifies another key")
	}
	base := "http://pki.example:8081/pki/" + string(leaf.KeyID)
	if !slices.Equal(certificate.CRLDistributionPoints, []string{base + "/crl.der"}) || !slices.Equal(certificate.OCSPServer, []string{base + "/ocsp"}) {
		t.Errorf("it points to %v and %v", certificate.CRLDistributionPoints, certificate.OCSPServer)
	}
	onlyExtensions(t, certificate)
}

// onlyExtensions fails for any extension that we do not mean to write.
func onlyExtensions(t *testing.T, certificate *x509.Certificate) {
	t.Helper()
	ours := []string{
		"2.5.29.15", "2.5.29.37", "2.5.29.19", // key usage, extended key usage, basic constraints
		"2.5.29.14", "2.5.29.35", // subject and authority key identifier
		"2.5.29.17", "2.5.29.31", "1.3.6.1.5.5.7.1.1", // names, CRL distribution points, authority information access
	}
	var found []string
	for _, extension := range certificate.Extensions {
		found = append(found, extension.Id.String())
	}
	slices.Sort(found)
	slices.Sort(ours)
	if !slices.Equal(found, ours) {
		t.Errorf("its extensions are %v, want %v", found, ours)
	}
}

func TestALeafDescribesItself(t *testing.T) {
	store := &memory{}
	leaf, certificate := issue(t, open(t, store, policy, acme), request(t, acme, start))
	block, rest := pem.Decode(leaf.ChainPEM)
	issuer, end := pem.Decode(rest)
	if block == nil || issuer == nil || len(end) > 0 || !bytes.Equal(block.Bytes, leaf.CertificateDER) ||
		!bytes.Equal(issuer.Bytes, store.key(t, acme, fleet.SigningKeyIntermediate).CertificateDER) {
		t.Errorf("the chain is not leaf and issuer:\n%s", leaf.ChainPEM)
	}
	if leaf.Serial != fleet.Serial(identity.SerialOf(certificate.SerialNumber)) ||
		leaf.Fingerprint != fleet.Fingerprint(identity.FingerprintOf(certificate.Raw)) ||
		leaf.KeyID != store.key(t, acme, fleet.SigningKeyIntermediate).ID ||
		!leaf.NotBefore.Equal(certificate.NotBefore) || !leaf.NotAfter.Equal(certificate.NotAfter) {
		t.Errorf("%+v does not describe its certificate", leaf)
	}
	if bits := certificate.SerialNumber.BitLen(); bits != 127 || certificate.SerialNumber.Sign() <= 0 {
		t.Errorf("serial number of %d bits", bits)
	}
}

func TestSerialsDoNotRepeat(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	r := request(t, acme, start)
	first, _ := issue(t, authority, r)
	again, _ := issue(t, authority, r)
	if first.Serial == again.Serial {
		t.Error("two certificates for one request have one serial")
	}
}

// TestALeafLivesWithinPolicyAndIssuer is about a library that bounds nothing.
func TestALeafLivesWithinPolicyAndIssuer(t *testing.T) {
	store := &memory{}
	open(t, store, policy, acme)
	issuer := parse(t, store.key(t, acme, fleet.SigningKeyIntermediate).CertificateDER)
	r := request(t, acme, start)
	rapid.Check(t, func(rt *rapid.T) {
		config := policy
		config.LeafLifetime = time.Duration(rapid.Int64Range(int64(time.Hour), int64(100*365*24*time.Hour)).Draw(rt, "lifetime"))
		config.Backdate = time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(rt, "backdate"))
		authority := open(t, store, config)
		life := issuer.NotAfter.Sub(issuer.NotBefore)
		r := r
		r.Now = issuer.NotBefore.Add(time.Duration(rapid.Int64Range(0, int64(life)-1).Draw(rt, "now")))
		leaf, _ := issue(t, authority, r)
		switch {
		case leaf.NotAfter.After(issuer.NotAfter) || leaf.NotBefore.Before(issuer.NotBefore):
			rt.Fatalf("%s to %s is beyond the issuer", leaf.NotBefore, leaf.NotAfter)
		case leaf.NotBefore.After(r.Now) || leaf.NotAfter.Before(r.Now.Truncate(time.Second)):
			rt.Fatalf("%s to %s does not hold %s", leaf.NotBefore, leaf.NotAfter, r.Now)
		case leaf.NotAfter.Sub(r.Now) > config.LeafLifetime || r.Now.Sub(leaf.NotBefore) >= config.Backdate+time.Second:
			rt.Fatalf("%s to %s is more than the policy allows at %s", leaf.NotBefore, leaf.NotAfter, r.Now)
		}
	})
}

func TestALeafHasTheDefaultLife(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	now := start.Add(48 * time.Hour)
	leaf, _ := issue(t, authority, request(t, acme, now))
	if want := now.Add(-5 * time.Minute); !leaf.NotBefore.Equal(want) {
		t.Errorf("valid from %s, want %s", leaf.NotBefore, want)
	}
	if want := now.Add(365 * 24 * time.Hour); !leaf.NotAfter.Equal(want) {
		t.Errorf("valid to %s, want %s", leaf.NotAfter, want)
	}
}

func TestAnExpiredAuthorityIssuesNothing(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	for name, now := range map[string]time.Time{
		"after its end":    start.Add(5 * 365 * 24 * time.Hour),
		"before its start": start.Add(-time.Hour),
	} {
		if _, err := authority.Issue(t.Context(), request(t, acme, now)); !fault.Is(err, pki.ReasonAuthorityExpired) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestKeysThatAreCertified(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	for name, generate := range map[string]func() (crypto.Signer, error){
		"P-256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"RSA-2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519":  func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err },
	} {
		t.Run(name, func(t *testing.T) {
			key, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			r := request(t, acme, start)
			r.CSR = csr(t, key, x509.CertificateRequest{})
			_, certificate := issue(t, authority, r)
			if err := verify(certificate, bundle(t, authority, acme), start); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	good := request(t, acme, start)
	for name, test := range map[string]struct {
		edit   func(*pki.LeafRequest)
		reason string
	}{
		"no request":                   {func(r *pki.LeafRequest) { r.CSR = pki.Request{} }, pki.ReasonCSRInvalid},
		"a tenant without authority":   {func(r *pki.LeafRequest) { r.Tenant = globex }, pki.ReasonNoAuthority},
		"the installation as tenant":   {func(r *pki.LeafRequest) { r.Tenant = "" }, fault.ReasonInternal},
		"a tenant that is a path":      {func(r *pki.LeafRequest) { r.Tenant = "acme/agent" }, fault.ReasonInternal},
		"an agent id that is a path":   {func(r *pki.LeafRequest) { r.Agent = "../x" }, fault.ReasonInternal},
		"an agent id that was not set": {func(r *pki.LeafRequest) { r.Agent = "" }, fault.ReasonInternal},
	} {
		r := good
		test.edit(&r)
		if _, err := authority.Issue(t.Context(), r); !fault.Is(err, test.reason) {
			t.Errorf("%s: error %v, want %s", name, err, test.reason)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	for _, algorithm := range []pki.Algorithm{pki.ECDSAP256, pki.RSA3072} {
		b.Run(string(algorithm), func(b *testing.B) {
			config := policy
			config.Algorithm = algorithm
			authority := open(b, &memory{}, config, acme)
			r := request(b, acme, start)
			for b.Loop() {
				issue(b, authority, r)
			}
		})
	}
}
