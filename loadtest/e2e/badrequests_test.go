// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// asking is who asks for a certificate: with a token that nobody has redeemed, or with a certificate.
type asking struct {
	token       string
	certificate *tls.Certificate
}

func (b *bad) asking() asking {
	b.Helper()
	certificate, _, _ := b.enrolled()
	return asking{token: b.s.Issue().GetSecret(), certificate: certificate}
}

// refusedBoth expects a body to be refused to both, and the token to be good afterwards.
func (b *bad) refusedBoth(who asking, body []byte) {
	b.Helper()
	_, err := b.stranger().Bearing(who.token).EST(b.Context(), "simpleenroll", body)
	b.refused(err, b.status())
	_, err = b.stranger().With(who.certificate).EST(b.Context(), "simplereenroll", body)
	b.refused(err, b.status())
}

func (b *bad) staysGood(token string) {
	b.Helper()
	if _, err := b.stranger().Enrol(b.Context(), token); err != nil {
		b.Errorf("the token is not good any more: %v", err)
	}
}

func csrMalformed(b *bad) {
	who := b.asking()
	counted, unchanged := b.counted(), b.unchanged()
	for _, body := range [][]byte{nil, []byte("hello"), []byte("aGVsbG8="), who.certificate.Certificate[0]} {
		b.refusedBoth(who, body)
	}
	counted("PKCS #10")
	unchanged(0)
	b.staysGood(who.token)
}

func csrOversized(b *bad) {
	const size = 10_000_000
	who := b.asking()
	counted, unchanged := b.counted(), b.unchanged()
	b.refusedBoth(who, bytes.Repeat([]byte("A"), 64<<10))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: b.stranger().TLS, ExpectContinueTimeout: answerTime}}
	defer client.CloseIdleConnections()
	// At most: who announces it waits for leave, as curl does; of what is not announced some is in the buffers in between.
	for announced, most := range map[int64]int64{size: 0, -1: size / 2} {
		body := new(large)
		request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "https://"+b.s.OpAMP+"/.well-known/est/simpleenroll", io.LimitReader(body, size))
		if err != nil {
			b.Fatal(err)
		}
		request.ContentLength, request.Header = announced, http.Header{"Authorization": {"Bearer " + who.token}}
		if announced > 0 {
			request.Header.Set("Expect", "100-continue")
		}
		response, err := client.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_ = response.Body.Close()
		if sent := body.sent.Load(); response.StatusCode != b.status() || sent > most {
			b.Errorf("announced as %d bytes, it is answered %s after %d", announced, response.Status, sent)
		}
	}
	counted("8192")
	unchanged(0)
	b.staysGood(who.token)
}

// large never ends, and knows how much of it was taken.
type large struct{ sent atomic.Int64 }

func (l *large) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	l.sent.Add(int64(len(p)))
	return len(p), nil
}

func csrWrongKey(b *bad) {
	who := b.asking()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, keys[0])
	if err != nil {
		b.Fatal(err)
	}
	var points [2][]byte
	for i, key := range keys {
		if points[i], err = key.PublicKey.Bytes(); err != nil {
			b.Fatal(err)
		}
	}
	forged := bytes.Replace(der, points[0], points[1], 1)
	if bytes.Equal(forged, der) {
		b.Fatal("the request is the honest one")
	}
	counted, unchanged, recorded := b.counted(), b.unchanged(), b.recorded()
	b.refusedBoth(who, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}))
	counted("not signed by its own key")
	recorded("agent.enrol", 1)
	recorded("agent.renew_certificate", 1)
	unchanged(2)
	b.staysGood(who.token)
}

func csrKeyRefused(b *bad) {
	who := b.asking()
	counted, unchanged, recorded := b.counted(), b.unchanged(), b.recorded()
	for _, key := range [][]string{{"rsa:1024"}, {"ec", "-pkeyopt", "ec_paramgen_curve:P-521"}} {
		b.refusedBoth(who, []byte(read(b.T, b.request("/CN=weak", append([]string{"-newkey"}, key...)...))))
	}
	counted("are certified")
	recorded("agent.enrol", 2)
	recorded("agent.renew_certificate", 2)
	unchanged(4)
	b.staysGood(who.token)
}

// request makes a certificate request with openssl.
func (b *bad) request(subject string, args ...string) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "csr.pem")
	all := append([]string{"req", "-new", "-nodes", "-subj", subject, "-keyout", path + ".key", "-out", path}, args...)
	if out, err := exec.CommandContext(b.Context(), "openssl", all...).CombinedOutput(); err != nil {
		b.Fatalf("openssl %v: %v\n%s", all, err, out)
	}
	return path
}

// recorded returns a check of how many refusals with the case's reason are on record since, for an action.
func (b *bad) recorded() (check func(action string, want int)) {
	b.Helper()
	count := func(action string) int {
		return b.s.Database.Count(b, fmt.Sprintf("SELECT coalesce(sum(count), 0) FROM audit_refusals WHERE action = '%s' AND reason = '%s'", action, b.reason()))
	}
	before := map[string]int{}
	for _, action := range []string{"agent.enrol", "agent.renew_certificate"} {
		before[action] = count(action)
	}
	return func(action string, want int) {
		b.Helper()
		if got := count(action) - before[action]; got != want {
			b.Errorf("%d refusals of %s with %s are on record, want %d", got, action, b.reason(), want)
		}
		if !b.s.Logged("call failed", b.reason()) {
			b.Errorf("the log does not say %s", b.reason())
		}
	}
}

// csrAsksForMore lets openssl ask and judge.
func csrAsksForMore(b *bad) {
	other, _, _ := b.enrolled()
	csr := b.request("/O=evil/CN=admin", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-addext", "subjectAltName=DNS:gateway.evil.example,IP:192.0.2.7,email:root@evil.example,URI:"+other.Leaf.URIs[0].String(),
		"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
		"-addext", "extendedKeyUsage=serverAuth,codeSigning", "-addext", "noCheck=ignored")
	for _, asked := range []string{"CA:TRUE", "gateway.evil.example", other.Leaf.URIs[0].String(), "TLS Web Server Authentication"} {
		if text := openssl(b.T, "req", "-in", csr, "-noout", "-text"); !strings.Contains(text, asked) {
			b.Fatalf("the request does not ask for %s:\n%s", asked, text)
		}
	}
	issued := b.s.Issue()
	certificates, err := b.stranger().Bearing(issued.GetSecret()).EST(b.Context(), "simpleenroll", []byte(read(b.T, csr)))
	if err != nil {
		b.Fatal(err)
	}
	leaf := csr + ".crt"
	put(b.T, leaf, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates[0].Raw})))
	text := openssl(b.T, "x509", "-in", leaf, "-noout", "-text")
	for _, never := range []string{
		"evil", "admin", "192.0.2.7", other.Leaf.URIs[0].String(), "CA:TRUE", "Certificate Sign", "CRL Sign", "TLS Web Server", "Code Signing", "No Check",
	} {
		if strings.Contains(text, never) {
			b.Errorf("the certificate has %q:\n%s", never, text)
		}
	}
	id := b.s.AwaitAgent(issued.GetToken().GetId())
	for _, only := range []string{"Subject: CN = " + id, "URI:spiffe://", "/tenant/default/agent/" + id, "CA:FALSE", "TLS Web Client Authentication", "Digital Signature"} {
		if !strings.Contains(text, only) {
			b.Errorf("the certificate lacks %q:\n%s", only, text)
		}
	}
	if n := b.s.Database.Count(b, fmt.Sprintf("SELECT count(*) FROM certificates WHERE agent_id = '%s'", id)); n != 1 {
		b.Errorf("%d certificates are on record", n)
	}
}

// certRevoked keeps TLS sessions as openssl does, and comes back with them.
func certRevoked(b *bad) {
	certificate, _, id := b.enrolled()
	dir := b.TempDir()
	var chain bytes.Buffer
	for _, der := range certificate.Certificate {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	put(b.T, filepath.Join(dir, "cert.pem"), chain.String())
	put(b.T, filepath.Join(dir, "key.pem"), string(pemOf(b.T, certificate.PrivateKey.(*ecdsa.PrivateKey))))
	connect := func(args ...string) string {
		b.Helper()
		got := rig.Run(b, rig.Command{
			Name: "s_client", Path: "/usr/bin/env", Dir: dir, Args: append([]string{
				"openssl", "s_client", "-connect", b.s.OpAMP, "-CAfile", b.s.CAFile, "-cert", "cert.pem", "-key", "key.pem", "-cert_chain", "cert.pem", "-ign_eof",
			}, args...),
		}, "GET /.well-known/est/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		return got.Stdout + got.Stderr
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		out := connect(version, "-sess_out", "session"+version)
		if !strings.Contains(out, "HTTP/1.1 404") || !strings.Contains(out, "New, TLS") {
			b.Fatalf("before it is revoked:\n%s", out)
		}
	}
	if out := connect("-tls1_2", "-reconnect"); strings.Contains(out, "Reused, TLS") {
		b.Errorf("a session is resumed:\n%s", out)
	}
	counted, unchanged := b.counted(), b.unchanged()
	b.s.Do("certificates", "revoke", id, "--reason", "key-compromise")
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		args := []string{version}
		if _, err := os.Stat(filepath.Join(dir, "session"+version)); err == nil { // none is kept where the server gave none
			args = append(args, "-sess_in", "session"+version)
		}
		rig.AwaitFor(b, 2*cutTime, "openssl to be refused over "+version, func() string {
			out := connect(args...)
			if strings.Contains(out, "Reused, TLS") {
				b.Errorf("a session is resumed:\n%s", out)
			}
			return unless(strings.Contains(out, "alert") && !strings.Contains(out, "HTTP/1.1"), out)
		})
	}
	counted("the certificate is revoked", `"serial"`)
	unchanged(0)
}
