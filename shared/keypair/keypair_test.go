// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package keypair_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/keypair"
)

// pair is a certificate and its key in PEM.
type pair struct {
	leaf      *x509.Certificate
	cert, key []byte
}

func newPair(t *testing.T, serial int64) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		leaf: leaf, cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	folder := t.TempDir()
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	store := func(name string, data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(name, data, 0o600), os.Chtimes(name, now, now)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keypair.Open(certFile, keyFile, clock, log); err == nil {
		t.Error("missing files were accepted")
	}
	first, second := newPair(t, 1), newPair(t, 2)
	store(certFile, first.cert)
	store(keyFile, second.key)
	if _, err := keypair.Open(certFile, keyFile, clock, log); err == nil || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("the key of another certificate: %v", err)
	}
	store(keyFile, first.key)
	files, err := keypair.Open(certFile, keyFile, clock, log)
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want pair, warnings, changes int) {
		t.Helper()
		if got, err := files.Certificate(nil); err != nil || !got.Leaf.Equal(want.leaf) {
			t.Errorf("another certificate is served (%v)", err)
		}
		if w, c := strings.Count(said.String(), "level=WARN"), strings.Count(said.String(), "level=INFO"); w != warnings || c != changes {
			t.Errorf("%d warnings and %d changes, want %d and %d:\n%s", w, c, warnings, changes, said.String())
		}
	}
	serves(first, 0, 0)
	now = now.Add(keypair.Every)
	store(certFile, second.cert)
	for range 3 { // half of the new pair is there, which is said once
		serves(first, 1, 0)
		now = now.Add(keypair.Every)
	}
	store(keyFile, second.key)
	serves(second, 1, 1)
	now = now.Add(keypair.Every)
	serves(second, 1, 1)

	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	now = now.Add(keypair.Every)
	serves(second, 2, 1)
	now = now.Add(keypair.Every)
	store(certFile, first.cert)
	store(keyFile, first.key)
	now = now.Add(keypair.Every - time.Second)
	serves(first, 2, 2)
}
