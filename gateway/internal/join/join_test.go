// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

const domain = "ampora.test"

// authority signs for one root.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) sign(public any, name *url.URL, usage x509.ExtKeyUsage, life time.Duration) []byte {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		URIs: []*url.URL{name}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// plane is a control plane as far as joining goes.
type plane struct {
	internalv1connect.UnimplementedGatewayServiceHandler
	roots, gateways *authority
	server          *httptest.Server
	life            time.Duration

	mu     sync.Mutex
	token  string
	key    *ecdsa.PublicKey // that the token was used with
	lose   int              // answers to Join that are lost
	tokens int              // calls to Join
	serial string           // of the last caller
}

func newPlane(t *testing.T) *plane {
	p := &plane{roots: newAuthority(t), gateways: newAuthority(t), life: 90 * time.Hour, token: "amp-gw.secret"} //nolint:gosec // no real token
	server := connect.NewServer(p.remember)
	internalv1connect.RegisterGatewayServiceHandler(server, p)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := p.roots.sign(key.Public(), identity.ControlURI(domain), x509.ExtKeyUsageServerAuth, time.Hour)
	p.server = httptest.NewUnstartedServer(mux)
	p.server.EnableHTTP2 = true
	p.server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13,
	}
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	return p
}

func (p *plane) remember(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if info, ok := connecthttp.ServerInfoForContext(ctx); ok && len(info.TLS().PeerCertificates) > 0 {
			p.mu.Lock()
			p.serial = info.TLS().PeerCertificates[0].SerialNumber.String()
			p.mu.Unlock()
		}
		return next(ctx, spec, stream)
	}
}

func (p *plane) Join(_ context.Context, r *internalv1.JoinRequest) (*internalv1.JoinResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens++
	block, _ := pem.Decode(r.GetCsrPem())
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	key := csr.PublicKey.(*ecdsa.PublicKey)
	if r.GetToken() != p.token || p.key != nil && !p.key.Equal(key) {
		return nil, connect.NewError(connect.CodeUnauthenticated, "the join token is not valid")
	}
	p.key = key
	if p.lose > 0 {
		p.lose--
		return nil, connect.NewError(connect.CodeUnavailable, "lost")
	}
	return &internalv1.JoinResponse{GatewayId: "edge-1", CertificateChainPem: p.leaf(key)}, nil
}

func (p *plane) RenewIdentity(_ context.Context, r *internalv1.RenewIdentityRequest) (*internalv1.RenewIdentityResponse, error) {
	block, _ := pem.Decode(r.GetCsrPem())
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &internalv1.RenewIdentityResponse{CertificateChainPem: p.leaf(csr.PublicKey)}, nil
}

func (p *plane) GetTrust(context.Context, *internalv1.GetTrustRequest) (*internalv1.GetTrustResponse, error) {
	return &internalv1.GetTrustResponse{}, nil
}

func (p *plane) leaf(public any) []byte {
	der := p.gateways.sign(public, identity.GatewayURI(domain, "edge-1"), x509.ExtKeyUsageClientAuth, p.life)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// caller is the serial of the certificate that the control plane sees.
func (p *plane) caller(t *testing.T, m *Member) string {
	t.Helper()
	if _, err := m.Control().GetTrust(t.Context(), &internalv1.GetTrustRequest{}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serial
}

func (p *plane) config(dir, token string) Config {
	return Config{
		URLs: []string{p.server.URL}, ControlCA: p.roots.pem(), Token: token, Dir: dir,
		Log: slog.New(slog.DiscardHandler), Clock: time.Now,
	}
}

func TestJoinAndReturn(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	m, err := Open(t.Context(), p.config(dir, p.token))
	if err != nil {
		t.Fatal(err)
	}
	if m.ID() != "edge-1" || p.caller(t, m) != m.current.Load().leaf.SerialNumber.String() {
		t.Errorf("it is %q and calls with %s", m.ID(), p.serial)
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the identity's file: %v, %v", info, err)
	}
	again, err := Open(t.Context(), p.config(dir, "")) // the token is gone
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != "edge-1" || p.tokens != 1 || p.caller(t, again) != p.caller(t, m) {
		t.Errorf("after a restart it is %q; %d tokens were spent", again.ID(), p.tokens)
	}
}

// An answer that is lost, even to a process that ends, costs nothing: the key is on disk
// before the token is spent on it.
func TestLostAnswers(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.lose = 2
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, p.config(dir, p.token)); err == nil {
		t.Fatal("it joined without an answer")
	}
	m, err := Open(t.Context(), p.config(dir, p.token))
	if err != nil {
		t.Fatal(err)
	}
	if p.tokens < 2 || !p.key.Equal(m.current.Load().key.Public()) {
		t.Errorf("after %d calls it has another key", p.tokens)
	}
}

func TestWhoAnswersMustBeControl(t *testing.T) {
	p := newPlane(t)
	config := p.config("", p.token)
	config.ControlCA = newAuthority(t).pem()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, config); err == nil || p.tokens != 0 {
		t.Errorf("a stranger was given the token: %v", err)
	}
	// A gateway's certificate, of the right root by mistake, is not control's either.
	m := &Member{Config: config, roots: x509.NewCertPool()}
	m.roots.AddCert(p.roots.cert)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[*url.URL]bool{
		identity.ControlURI(domain): true, identity.GatewayURI(domain, "edge-1"): false, {Scheme: "https", Host: domain, Path: "/control"}: false,
	} {
		leaf, err := x509.ParseCertificate(p.roots.sign(key.Public(), name, x509.ExtKeyUsageServerAuth, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.verifyControl(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusedTokens(t *testing.T) {
	p := newPlane(t)
	for name, token := range map[string]string{"wrong": "amp-gw.other", "none": ""} {
		_, err := Open(t.Context(), p.config(t.TempDir(), token))
		if err == nil || strings.Contains(err.Error(), "amp-gw.other") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRenewal(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	var mu sync.Mutex
	var skew time.Duration
	config := p.config(dir, p.token)
	config.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(skew) }
	m, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	m.Observe(config.Log, func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			seen++
			return next(ctx, spec)
		}
	})
	before := p.caller(t, m)
	m.roots.AddCert(p.roots.cert)
	if err := m.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := p.caller(t, m)
	if before == after || after != m.current.Load().leaf.SerialNumber.String() {
		t.Errorf("it calls with %s, before with %s", after, before)
	}
	if seen != 3 {
		t.Errorf("%d of 3 calls were observed", seen)
	}
	kept, err := m.load()
	if err != nil || kept.leaf.SerialNumber.String() != after {
		t.Errorf("on disk is another: %v", err)
	}
	if due := m.current.Load().renewAt(); time.Until(due) < 59*time.Hour || time.Until(due) > 61*time.Hour {
		t.Errorf("it is renewed in %v of 90h", time.Until(due))
	}
	mu.Lock()
	skew = 91 * time.Hour
	mu.Unlock()
	if _, err := Open(t.Context(), Config{URLs: config.URLs, ControlCA: config.ControlCA, Dir: dir, Log: config.Log, Clock: config.Clock}); err == nil {
		t.Error("an identity that has expired was taken up without a token")
	}
}

func TestOtherAddressAnswers(t *testing.T) {
	p := newPlane(t)
	config := p.config("", p.token)
	config.URLs = []string{"https://127.0.0.1:1", p.server.URL}
	if m, err := Open(t.Context(), config); err != nil || m.ID() != "edge-1" {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	c, err := newCredential()
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if kept, err := parse(text); err == nil && kept.key == nil {
			t.Error("a credential without a key")
		}
	})
}
