// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/keypair"
)

// TestTheAPIsCertificateIsReadAgain: whoever renews it need not restart anything, and a half of a pair disturbs nobody.
func TestTheAPIsCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var ahead atomic.Int64
	c := &Control{handler: http.NotFoundHandler(), deps: Deps{
		Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}}
	c.config.API.CertFile, c.config.API.KeyFile = filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	renew := func(name string, files ...string) {
		t.Helper()
		made := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-subj", "/CN="+name, "-addext", "subjectAltName=DNS:localhost", "-keyout", "new.key", "-out", "new.crt")
		made.Dir = folder
		if out, err := made.CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
		for _, file := range files {
			if err := os.Rename(filepath.Join(folder, "new"+file), filepath.Join(folder, "tls"+file)); err != nil {
				t.Fatal(err)
			}
		}
		ahead.Add(int64(keypair.Every))
	}
	plain, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	renew("first", ".crt", ".key")
	l, err := c.overTLS(plain)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- c.serve(ctx, &http.Server{Handler: c.handler, ReadHeaderTimeout: headerTimeout}, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	shows := func(want string) {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("it shows the certificate of %s, want %s", got, want)
		}
	}
	shows("first")
	renew("second", ".crt")
	shows("first")
	renew("third", ".crt", ".key")
	shows("third")

	if err := os.Remove(c.config.API.KeyFile); err != nil {
		t.Fatal(err)
	}
	unused, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.overTLS(unused); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its key: %v", err)
	}
}
