// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// StolenAuthority is what somebody has who holds both the database and the master key:
// the key that signs the agents of a tenant. Tests forge with it what nobody else can,
// such as a certificate that has expired. It opens the envelope by its description in
// package seal, without its code.
func (s *Server) StolenAuthority(tenant string) *Authority {
	s.t.Helper()
	var id string
	var certificate, sealed []byte
	db := connect(s.t, s.Database.driver, s.Database.source)
	row := db.QueryRowContext(s.t.Context(), `SELECT id, certificate_der, sealed_key FROM signing_keys
		WHERE tenant_id = $1 AND kind = 'intermediate' AND state = 'active'`, tenant)
	if err := row.Scan(&id, &certificate, &sealed); err != nil {
		s.t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(open(s.t, s.masterKey(), sealed, []string{"ca-key", tenant, "signing_keys", id, "sealed_key"}))
	if err != nil {
		s.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		s.t.Fatal(err)
	}
	return &Authority{certificate: parsed, key: key.(*ecdsa.PrivateKey)}
}

func (s *Server) masterKey() []byte {
	s.t.Helper()
	path := s.master
	if path == "" {
		path = filepath.Join(s.Env["AMPORA_DATA_DIR"], "master.key")
	}
	text, err := os.ReadFile(path) //nolint:gosec // a file of the installation under test
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// open opens an envelope: scheme (1 byte), key id (8), record key under the master key
// (60), data under the record key.
func open(t testing.TB, master, envelope []byte, place []string) []byte {
	t.Helper()
	const keyAt, dataAt = 9, 69
	mac := hmac.New(sha256.New, master)
	mac.Write([]byte("ampora/seal/1/aes-256-gcm"))
	record := decrypt(t, mac.Sum(nil), envelope[keyAt:dataAt], binding("wrap", string(envelope[:keyAt]), place))
	return decrypt(t, record, envelope[dataAt:], binding("data", string(envelope[:1]), place))
}

func binding(label, keyed string, place []string) (out []byte) {
	for _, part := range append([]string{label, keyed}, place...) {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}

func decrypt(t testing.TB, key, sealed, additional []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, nil, sealed, additional)
	if err != nil {
		t.Fatalf("open the sealed key: %v", err)
	}
	return plain
}
