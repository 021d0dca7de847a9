// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/keypair"
)

// authority is one of openssl's, with a responder, and a server certificate that names it.
type authority struct {
	*testing.T
	folder, responder string
}

func (a authority) openssl(args ...string) string {
	a.Helper()
	command := exec.CommandContext(a.Context(), "openssl", args...)
	command.Dir = a.folder
	out, err := command.CombinedOutput()
	if err != nil {
		a.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := authority{t, t.TempDir(), free.Addr().String()}
	_ = free.Close()
	config := `
[ca]
default_ca = own
[own]
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 30
policy = any
x509_extensions = server
unique_subject = no
[any]
commonName = supplied
[server]
subjectAltName = DNS:gateway.test
authorityInfoAccess = OCSP;URI:http://` + a.responder + `
`
	for name, text := range map[string]string{"ca.cnf": config, "index.txt": "", "serial": "01\n"} {
		if err := os.WriteFile(filepath.Join(a.folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "30")
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=gateway.test")
	a.openssl("ca", "-batch", "-config", "ca.cnf", "-in", "server.csr", "-out", "leaf.pem", "-notext")
	var chain []byte
	for _, name := range []string{"leaf.pem", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(a.folder, name))
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, text...)
	}
	if err := os.WriteFile(filepath.Join(a.folder, "server.pem"), chain, 0o600); err != nil { //nolint:gosec // of the test's own folder
		t.Fatal(err)
	}
	return a
}

// respond runs the responder until the test ends or stop is called. It knows what is revoked by then.
func (a authority) respond() (stop func()) {
	a.Helper()
	_, port, _ := net.SplitHostPort(a.responder)
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.Context()))
	command := exec.CommandContext(ctx, "openssl", "ocsp", "-index", "index.txt", "-port", port, "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-nmin", "60")
	command.Dir = a.folder
	says, err := command.StderrPipe()
	if err != nil {
		a.Fatal(err)
	}
	if err := command.Start(); err != nil {
		a.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = command.Wait()
	}
	a.Cleanup(stop)
	// It serves one connection at a time, and says when it does: one that only looked would be served as well.
	lines := bufio.NewScanner(says)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "waiting for OCSP client connections") {
			go func() { _, _ = io.Copy(io.Discard, says) }()
			return stop
		}
	}
	a.Fatal("the responder does not come up")
	return stop
}

// connect says what openssl is told by a server that has the stapler's certificate.
func (a authority) connect(s *Stapler, version string) string {
	a.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.Certificate})
	if err != nil {
		a.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	return a.openssl("s_client", "-connect", l.Addr().String(), "-servername", "gateway.test", "-status", version, "-CAfile", "ca.pem", "-verify_return_error")
}

// TestStaple has openssl for the authority, for its responder and for the client.
func TestStaple(t *testing.T) {
	a := newAuthority(t)
	now := time.Now()
	clock := func() time.Time { return now }
	files, err := keypair.Open(filepath.Join(a.folder, "server.pem"), filepath.Join(a.folder, "server.key"), clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := NewStapler(files.Certificate, slog.New(slog.DiscardHandler), clock)
	if err := s.Refresh(t.Context()); err == nil {
		t.Error("a staple without a responder")
	}
	if out := a.connect(s, "-tls1_3"); !strings.Contains(out, "no response sent") {
		t.Errorf("without a staple: %s", out)
	}
	if left, wanted := s.Left(); left != 0 || !wanted {
		t.Errorf("without a staple %s are left, wanted: %t", left, wanted)
	}
	stop := a.respond()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if left, _ := s.Left(); left > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no staple")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		if out := a.connect(s, version); !strings.Contains(out, "OCSP Response Status: successful") || !strings.Contains(out, "Cert Status: good") {
			t.Errorf("openssl sees: %s", out)
		}
	}
	plain, err := files.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.due(plain) {
		t.Error("it is renewed at once")
	}
	stop()
	// It is used while it is good, also if the responder is away, and no longer.
	now = now.Add(40 * time.Minute)
	if !s.due(plain) {
		t.Error("after half of its life it is not renewed")
	}
	if err := s.Refresh(t.Context()); err == nil {
		t.Error("a staple without a responder")
	}
	if out := a.connect(s, "-tls1_3"); !strings.Contains(out, "Cert Status: good") {
		t.Errorf("while the responder is away: %s", out)
	}
	now = now.Add(40 * time.Minute)
	if out := a.connect(s, "-tls1_3"); !strings.Contains(out, "no response sent") {
		t.Errorf("after its end: %s", out)
	}
	// What the authority says is passed on, also if it is bad news.
	now = time.Now()
	a.openssl("ca", "-config", "ca.cnf", "-revoke", "leaf.pem", "-crl_reason", "superseded")
	a.respond()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := a.connect(s, "-tls1_3"); !strings.Contains(out, "Cert Status: revoked") {
		t.Errorf("revoked: %s", out)
	}
}

func TestStapleOfACertificateThatNamesNone(t *testing.T) {
	a := newAuthority(t)
	source := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(a.folder, "ca.pem"), filepath.Join(a.folder, "ca.key"))
		return &pair, err
	}
	s := NewStapler(source, slog.New(slog.DiscardHandler), time.Now)
	plain, err := source(nil)
	if err != nil {
		t.Fatal(err)
	}
	if left, wanted := s.Left(); left != 0 || wanted || s.due(plain) {
		t.Errorf("a staple is wanted: %t", wanted)
	}
	if err := s.Refresh(t.Context()); err == nil {
		t.Error("a staple without an issuer")
	}
}
