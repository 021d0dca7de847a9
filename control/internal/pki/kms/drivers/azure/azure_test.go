// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// The tests of Azure Key Vault are a package of their own, hence a process: the library goes to vaults of Azure and
// nowhere else, so a proxy brings it to ours, and Go reads once where the proxy is and which authorities are trusted.
package azure_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
)

// TestAzureKMS speaks to a server of the three calls that are used. What it signs is verified by those who ask it, with
// the public key.
func TestAzureKMS(t *testing.T) {
	fake := &fake{keys: map[string]crypto.Signer{}}
	certificate, ca := certified(t)
	vault := httptest.NewUnstartedServer(fake.trouble.Handler(fake))
	vault.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	vault.StartTLS()
	t.Cleanup(vault.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { connect(t, w, r, vault.Listener.Addr().String()) }))
	t.Cleanup(proxy.Close)
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": "token", "expires_on": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10), "resource": "https://vault.azure.net", "token_type": "Bearer",
		})
	}))
	t.Cleanup(identity.Close)
	for name, value := range map[string]string{
		"HTTPS_PROXY": proxy.URL, "SSL_CERT_FILE": ca, "IDENTITY_ENDPOINT": identity.URL, "IDENTITY_HEADER": "x",
		"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
	} {
		t.Setenv(name, value)
	}
	kmstest.Run(t, kmstest.Backend{
		Driver: driver(t), URI: "azurekms:vault=ampora-test", Missing: "azurekms:name=nobody;vault=ampora-test?version=00",
		Away: fake.trouble.Away, Slow: fake.trouble.Slow,
	})
}

func TestKeysWithoutAVersionAreRefused(t *testing.T) {
	services := kmstest.Backend{Driver: driver(t), URI: "azurekms:vault=ampora-test;hsm=true"}.Open(t, 0)
	for _, uri := range []string{"azurekms:name=ca;vault=v", "azurekms:vault=v?version=1", "azurekms:name=ca?version=1"} {
		if _, err := services.Find(t.Context(), uri); err == nil || !strings.HasPrefix(err.Error(), "the key's URI") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func driver(t *testing.T) kms.Driver {
	t.Helper()
	for _, d := range drivers.All() {
		if d.Scheme == "azurekms" {
			return d
		}
	}
	t.Fatal("the tests are built without azurekms")
	return kms.Driver{}
}

// connect brings whoever asks for a vault of Azure to ours.
func connect(t *testing.T, w http.ResponseWriter, r *http.Request, to string) {
	if r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, ".vault.azure.net:443") {
		t.Errorf("somebody wants to go to %s", r.Host)
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	there, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(there, here); _ = there.Close() }()
	_, _ = io.Copy(here, there)
	_ = here.Close()
}

// certified is a certificate for the vaults of Azure, and the file that verifies it.
func certified(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"*.vault.azure.net"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// fake is a vault.
type fake struct {
	trouble kmstest.Trouble
	mu      sync.Mutex
	keys    map[string]crypto.Signer // by name
}

const version = "0123456789abcdef0123456789abcdef"

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer token" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var asked struct {
		Kty, Crv, Alg, Value string
		KeySize              int `json:"key_size"`
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			refuse(w, http.StatusBadRequest)
			return
		}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/") // keys, the name, and what is asked for
	if len(parts) == 3 && parts[2] == "create" {
		made, err := f.make(asked.Kty, asked.Crv, asked.KeySize)
		if err != nil {
			refuse(w, http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		f.keys[parts[1]] = made
		f.mu.Unlock()
		answer(w, parts[1], made)
		return
	}
	f.mu.Lock()
	key := f.keys[parts[1]]
	f.mu.Unlock()
	switch {
	case key == nil || len(parts) < 3 || parts[2] != version:
		refuse(w, http.StatusNotFound)
	case len(parts) == 3:
		answer(w, parts[1], key)
	case parts[3] == "sign":
		digest, _ := base64.RawURLEncoding.DecodeString(asked.Value)
		signature := sign(key, asked.Alg, digest)
		_ = json.NewEncoder(w).Encode(map[string]string{"kid": "x", "value": base64.RawURLEncoding.EncodeToString(signature)})
	}
}

func (f *fake) make(kty, crv string, size int) (crypto.Signer, error) {
	switch {
	case kty == "EC" && crv == "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case kty == "RSA" && size == 3072:
		return rsa.GenerateKey(rand.Reader, size)
	}
	return nil, io.ErrUnexpectedEOF
}

// sign answers as the vault does: of ECDSA r and s, one after the other.
func sign(key crypto.Signer, algorithm string, digest []byte) []byte {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if r, s, err := ecdsa.Sign(rand.Reader, key, digest); err == nil && algorithm == "ES256" {
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	case *rsa.PrivateKey:
		if signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest); err == nil && algorithm == "RS256" {
			return signature
		}
	}
	return nil
}

func answer(w http.ResponseWriter, name string, key crypto.Signer) {
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := map[string]any{"kid": "https://ampora-test.vault.azure.net/keys/" + name + "/" + version}
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			refuse(w, http.StatusInternalServerError)
			return
		}
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"key": jwk, "attributes": map[string]any{"enabled": true}})
}

func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": http.StatusText(status), "message": "no"}})
}
