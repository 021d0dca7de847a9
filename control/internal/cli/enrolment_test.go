// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smallstep/pkcs7"

	"gitlab.com/ampora/ampora/shared/identity"
)

// gateway is an EST server over TLS that really signs, with an intermediate under a root. A token is good for one key.
type gateway struct {
	t                  *testing.T
	listen             *pipes
	tokens             map[string][]byte // token -> the key it was redeemed with, nil before
	root, intermediate *x509.Certificate
	key                *ecdsa.PrivateKey
	issued             map[string][]byte // by public key
	requests           atomic.Int64
	revoked            atomic.Bool // what agents show does not stand any more
	// away breaks every connection without an answer.
	away atomic.Bool
	// answer replaces the ordinary answer once.
	answer func(w http.ResponseWriter, chain []byte)
	dir    string
	caFile string
}

func inGateway(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{
			t: t, listen: newPipes(), tokens: map[string][]byte{}, issued: map[string][]byte{},
			dir: filepath.Join(t.TempDir(), "identity"), caFile: filepath.Join(t.TempDir(), "server-ca.pem"),
		}
		g.makeAuthority()
		server := httptest.NewUnstartedServer(http.HandlerFunc(g.serve))
		_ = server.Listener.Close()
		server.Listener = g.listen
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // handshakes fail on purpose
		server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
		server.StartTLS()
		defer server.Close()
		if err := os.WriteFile(g.caFile, pemOf(server.Certificate().Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		test(t, g)
	})
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

func (g *gateway) makeAuthority() {
	rootKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
		}
	}
	g.root = g.sign(template("root"), template("root"), rootKey.Public(), rootKey)
	g.intermediate = g.sign(template("intermediate"), g.root, g.key.Public(), rootKey)
}

func (g *gateway) sign(template, parent *x509.Certificate, public any, by *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		g.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		g.t.Fatal(err)
	}
	return certificate
}

func (g *gateway) token() string {
	token := identity.NewToken(identity.BootstrapToken).Reveal()
	g.tokens[token] = nil
	return token
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	g.requests.Add(1)
	operation, est := strings.CutPrefix(r.URL.Path, "/.well-known/est/")
	if !est || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	der, err := base64.StdEncoding.DecodeString(string(body))
	request, parseErr := x509.ParseCertificateRequest(der)
	if err != nil || parseErr != nil || request.CheckSignature() != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		http.Error(w, "no request", http.StatusBadRequest)
		return
	}
	agent, accepted := identity.Agent{TrustDomain: "example.org", Tenant: "default", ID: identity.NewAgentID()}, false
	switch operation {
	case "simpleenroll":
		accepted = g.redeem(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), request.RawSubjectPublicKeyInfo)
	case "simplereenroll":
		agent, accepted = g.shown(r)
	}
	if !accepted {
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	chain := g.certsOnly(request, agent)
	if g.away.Load() {
		panic(http.ErrAbortHandler)
	}
	if answer := g.answer; answer != nil {
		g.answer = nil
		answer(w, chain)
		return
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	text := base64.StdEncoding.EncodeToString(chain)
	for len(text) > 64 { // in lines, as many servers send it
		_, _ = io.WriteString(w, text[:64]+"\r\n")
		text = text[64:]
	}
	_, _ = io.WriteString(w, text+"\r\n")
}

// redeem says whether a token is good for a key.
func (g *gateway) redeem(token string, key []byte) bool {
	redeemed, known := g.tokens[token]
	if !known || redeemed != nil && string(redeemed) != string(key) {
		return false
	}
	g.tokens[token] = key
	return true
}

// shown says whose certificate a request came with, if one did that stands.
func (g *gateway) shown(r *http.Request) (agent identity.Agent, ok bool) {
	if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].CheckSignatureFrom(g.intermediate) != nil ||
		r.Header.Get("Authorization") != "" || g.revoked.Load() {
		return agent, false
	}
	agent, err := identity.FromCertificate(r.TLS.PeerCertificates[0])
	return agent, err == nil
}

// certsOnly signs, or signs again what was signed before, in an order that is not the chain's.
func (g *gateway) certsOnly(request *x509.CertificateRequest, id identity.Agent) []byte {
	leaf := g.issued[string(request.RawSubjectPublicKeyInfo)]
	if leaf == nil {
		leaf = g.sign(&x509.Certificate{
			SerialNumber: big.NewInt(int64(len(g.issued) + 2)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{id.URI()},
		}, g.intermediate, request.PublicKey, g.key).Raw
		g.issued[string(request.RawSubjectPublicKeyInfo)] = leaf
	}
	der, err := pkcs7.DegenerateCertificate(append(append(append([]byte{}, g.root.Raw...), g.intermediate.Raw...), leaf...))
	if err != nil {
		g.t.Fatal(err)
	}
	return der
}

func (g *gateway) enroll(token string, flags ...string) outcome {
	args := append([]string{"enroll", "--server", "https://127.0.0.1:4320", "--ca-file", g.caFile, "--out-dir", g.dir}, flags...)
	if token != "" {
		args = append(args, "--token-file", "-")
	}
	return g.run(token, args)
}

func (g *gateway) renew(flags ...string) outcome {
	return g.run("", append([]string{"renew", "--server", "https://127.0.0.1:4320", "--dir", g.dir}, flags...))
}

func (g *gateway) run(input string, args []string) outcome {
	return g.runUntil(g.t.Context(), input, args)
}

func (g *gateway) runUntil(ctx context.Context, input string, args []string) outcome {
	var out, errOut strings.Builder
	p := newProgram(Streams{strings.NewReader(input), &out, &errOut}, nil)
	p.dial = g.listen.dial
	return outcome{p.run(ctx, args), out.String(), errOut.String()}
}

func (g *gateway) path(name string) string { return filepath.Join(g.dir, name) }

func (g *gateway) read(name string) string {
	content, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(content)
}

// verify checks the identity on disk as an agent would use it.
func (g *gateway) verify() *x509.Certificate {
	g.t.Helper()
	pair, err := tls.LoadX509KeyPair(g.path("cert.pem"), g.path("key.pem"))
	if err != nil {
		g.t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(g.root)
	for _, der := range pair.Certificate[1:] {
		certificate, _ := x509.ParseCertificate(der)
		intermediates.AddCert(certificate)
	}
	if len(pair.Certificate) != 2 {
		g.t.Errorf("cert.pem holds %d certificates, want leaf and intermediate", len(pair.Certificate))
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		g.t.Error(err)
	}
	for name, mode := range map[string]fs.FileMode{"key.pem": 0o600, "cert.pem": 0o644, "ca.pem": 0o644} {
		if info, err := os.Stat(g.path(name)); err != nil || info.Mode().Perm() != mode {
			g.t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil || len(entries) != 3 {
		g.t.Errorf("%d files are left: %v, %v", len(entries), entries, err)
	}
	return pair.Leaf
}

func TestEnroll(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		token := g.token()
		got := g.enroll(token)
		leaf := g.verify()
		id, err := identity.FromCertificate(leaf)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "enroll", strings.NewReplacer(g.dir, "DIR", string(id.ID), "AGENT").Replace(got.golden()))
		if strings.Contains(got.out+got.errOut, token[:20]) {
			t.Error("the token was printed")
		}
		ca, _ := os.ReadFile(g.caFile)
		if g.read("ca.pem") != string(ca) {
			t.Error("ca.pem is not the server's authority")
		}
	})
}

func TestEnrollRefusals(t *testing.T) {
	status := func(code int, words string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Retry-After", "42")
			http.Error(w, words, code)
		}
	}
	answers := func(contentType, body string) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, body)
		}
	}
	cases := []struct {
		name   string
		token  func(g *gateway) string
		flags  []string
		answer func(http.ResponseWriter, []byte)
		exit   ExitCode
		says   string
		asked  int64
	}{
		{name: "unknown token", token: func(*gateway) string { return identity.NewToken(identity.BootstrapToken).Reveal() }, exit: ExitDenied, says: "unknown, used, expired or revoked", asked: 1},
		{name: "truncated token", token: func(g *gateway) string { return g.token()[:40] }, exit: ExitUsage, says: "damaged copy"},
		{name: "API token", token: func(*gateway) string { return identity.NewToken(identity.APIToken).Reveal() }, exit: ExitUsage, says: "amp-bs."},
		{name: "no token", token: func(*gateway) string { return "" }, exit: ExitUsage, says: "amporactl tokens issue"},
		{name: "plain http", flags: []string{"--server", "http://127.0.0.1:4320"}, exit: ExitUsage, says: "https://HOST"},
		{name: "another path", flags: []string{"--server", "https://127.0.0.1:4320/api"}, exit: ExitUsage, says: "https://HOST"},
		{name: "unknown authority", flags: []string{"--ca-file", ""}, exit: ExitUnavailable, says: "certificate"},
		{name: "bad request", answer: status(http.StatusBadRequest, "the key is \x1b[1mtoo short"), exit: ExitError, says: `the key is \x1b[1mtoo short`, asked: 1},
		{name: "busy", answer: status(http.StatusServiceUnavailable, ""), exit: ExitUnavailable, says: "in 42s", asked: 1},
		{name: "elsewhere", answer: status(http.StatusNotFound, ""), exit: ExitUsage, says: "no gateway", asked: 1},
		{name: "redirect", answer: func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Location", "https://thief.example.org/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, exit: ExitError, says: "307", asked: 1},
		{name: "a web page", answer: answers("text/html", "<html>"), exit: ExitError, says: "content type", asked: 1},
		{name: "no base64", answer: answers("application/pkcs7-mime", "%%%"), exit: ExitError, says: "base64", asked: 1},
		{name: "no PKCS #7", answer: answers("application/pkcs7-mime", "AAAA"), exit: ExitError, says: "PKCS", asked: 1},
		{name: "endless", answer: answers("application/pkcs7-mime", strings.Repeat("A", 1<<20)), exit: ExitError, says: "too large", asked: 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inGateway(t, func(t *testing.T, g *gateway) {
				token := g.token()
				if c.token != nil {
					token = c.token(g)
				}
				g.answer = c.answer
				got := g.enroll(token, c.flags...)
				if got.code != int(c.exit) || !strings.Contains(got.errOut, c.says) || got.out != "" {
					t.Errorf("exit %d, want %d and %q: %s", got.code, c.exit, c.says, got.errOut)
				}
				if g.requests.Load() != c.asked {
					t.Errorf("%d requests, want %d", g.requests.Load(), c.asked)
				}
				if token != "" && strings.Contains(got.errOut, token[len(token)/2:]) {
					t.Error("the token was printed")
				}
				if _, err := os.Stat(g.path("cert.pem")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is a certificate: %v", err)
				}
			})
		})
	}
}

// The certificate of another key is no answer.
func TestEnrollWrongKey(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		g.answer = func(w http.ResponseWriter, _ []byte) {
			other, _ := pkcs7.DegenerateCertificate(g.intermediate.Raw)
			w.Header().Set("Content-Type", "application/pkcs7-mime")
			_, _ = io.WriteString(w, base64.StdEncoding.EncodeToString(other))
		}
		if got := g.enroll(g.token()); got.code != int(ExitError) || !strings.Contains(got.errOut, "no certificate for the key") {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
	})
}

// The token is spent and the answer lost: the same command gets the same certificate.
func TestEnrollAgainAfterALostAnswer(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		token := g.token()
		g.answer = func(w http.ResponseWriter, _ []byte) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.Close()
		}
		got := g.enroll(token)
		if got.code != int(ExitUnavailable) || !strings.Contains(got.errOut, "run the same command again") {
			t.Fatalf("exit %d: %s", got.code, got.errOut)
		}
		if info, err := os.Stat(g.path("key.pem.pending")); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the key is not kept: %v", err)
		}
		if got := g.enroll(token); got.code != 0 {
			t.Fatalf("exit %d: %s", got.code, got.errOut)
		}
		g.verify()
		if len(g.issued) != 1 {
			t.Errorf("%d certificates were issued", len(g.issued))
		}
	})
}

// Whatever rename was the last before the power went, the next run finishes without token and server.
func TestEnrollFinishesAfterACrash(t *testing.T) {
	crashes := map[string]func(g *gateway) error{
		"before the first rename": func(g *gateway) error {
			return errors.Join(os.Rename(g.path("key.pem"), g.path("key.pem.pending")), os.Rename(g.path("cert.pem"), g.path("cert.pem.pending")))
		},
		"between the renames": func(g *gateway) error { return os.Rename(g.path("key.pem"), g.path("key.pem.pending")) },
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			inGateway(t, func(t *testing.T, g *gateway) {
				if got := g.enroll(g.token()); got.code != 0 {
					t.Fatal(got.errOut)
				}
				first := g.verify()
				if err := crash(g); err != nil {
					t.Fatal(err)
				}
				_ = g.listen.Close()
				got := g.enroll("")
				if got.code != 0 || !strings.Contains(got.errOut, "finished the earlier enrolment") {
					t.Fatalf("exit %d: %s", got.code, got.errOut)
				}
				if !g.verify().Equal(first) {
					t.Error("it is another certificate")
				}
			})
		})
	}
}

func TestEnrollKeepsAValidIdentity(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != 0 {
			t.Fatal(got.errOut)
		}
		first, unused := g.verify(), g.token()
		got := g.enroll(unused)
		if got.code != int(ExitConflict) || !strings.Contains(got.errOut, "--force") || g.tokens[unused] != nil || !g.verify().Equal(first) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if got := g.enroll(unused, "--force"); got.code != 0 || g.verify().Equal(first) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		second := g.verify()
		time.Sleep(25 * time.Hour) // of the bubble: the certificate expires
		if got := g.enroll(g.token()); got.code != 0 || g.verify().Equal(second) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
	})
}

// The token is worth more than the directory: it is not spent when nothing can be kept.
func TestEnrollIntoNowhere(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if err := os.WriteFile(g.dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		token := g.token()
		if got := g.enroll(token); got.code != int(ExitError) || !strings.Contains(got.errOut, "--out-dir") || g.requests.Load() != 0 {
			t.Errorf("exit %d, %d requests: %s", got.code, g.requests.Load(), got.errOut)
		}
	})
	inGateway(t, func(t *testing.T, g *gateway) {
		if err := os.MkdirAll(g.path("key.pem.pending"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := g.enroll(g.token()); got.code != int(ExitError) || g.requests.Load() != 0 {
			t.Errorf("exit %d, %d requests: %s", got.code, g.requests.Load(), got.errOut)
		}
	})
}

func TestEnrollTimesOut(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		var out, errOut strings.Builder
		p := newProgram(Streams{strings.NewReader(g.token()), &out, &errOut}, nil)
		p.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		code := p.run(t.Context(), []string{"enroll", "--server", "wss://127.0.0.1:4320/v1/opamp", "--out-dir", g.dir, "--token-file", "-"})
		if code != int(ExitUnavailable) || !strings.Contains(errOut.String(), "run the same command again") {
			t.Errorf("exit %d: %s", code, errOut.String())
		}
	})
}
