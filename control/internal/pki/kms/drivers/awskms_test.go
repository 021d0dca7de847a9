// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
)

// TestAWSKMS speaks to a server of the four calls that are used, in AWS's JSON 1.1. What it signs is verified by those
// who ask it, with the public key.
func TestAWSKMS(t *testing.T) {
	fake := &awsFake{keys: map[string]crypto.Signer{}}
	server := httptest.NewServer(fake.trouble.Handler(fake))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_KMS": server.URL, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	kmstest.Run(t, kmstest.Backend{
		Driver: awsKMS, URI: "awskms:region=eu-west-2", Missing: "awskms:key-id=" + uuid.NewString(), Away: fake.trouble.Away, Slow: fake.trouble.Slow,
	})
}

func TestAliasesAreRefused(t *testing.T) {
	for _, uri := range []string{"awskms:key-id=alias/ca", "awskms:key-id=ABC", "awskms:name=ca"} {
		if services := (kmstest.Backend{Driver: awsKMS, URI: "awskms:region=eu-west-2"}).Open(t, 0); services != nil {
			if _, err := services.Find(t.Context(), uri); err == nil || !strings.HasPrefix(err.Error(), "the key's URI") {
				t.Errorf("%s: %v", uri, err)
			}
		}
	}
}

type awsFake struct {
	trouble kmstest.Trouble
	mu      sync.Mutex
	keys    map[string]crypto.Signer
}

func (f *awsFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		KeyID            string `json:"KeyId"`
		KeySpec          string `json:"KeySpec"`
		KeyUsage         string `json:"KeyUsage"`
		Message          []byte `json:"Message"`
		MessageType      string `json:"MessageType"`
		SigningAlgorithm string `json:"SigningAlgorithm"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		awsError(w, "SerializationException")
		return
	}
	operation, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	f.mu.Lock()
	key := f.keys[asked.KeyID]
	f.mu.Unlock()
	if key == nil && (operation == "GetPublicKey" || operation == "Sign") {
		awsError(w, "NotFoundException")
		return
	}
	switch operation {
	case "CreateKey":
		made, err := map[string]func() (crypto.Signer, error){"ECC_NIST_P256": newECDSA, "RSA_3072": newRSA}[asked.KeySpec]()
		if err != nil || asked.KeyUsage != "SIGN_VERIFY" {
			awsError(w, "ValidationException")
			return
		}
		id := uuid.NewString()
		f.mu.Lock()
		f.keys[id] = made
		f.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyMetadata": map[string]any{"KeyId": id}})
	case "CreateAlias":
	case "GetPublicKey":
		der, _ := x509.MarshalPKIXPublicKey(key.Public())
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": asked.KeyID, "PublicKey": der})
	case "Sign":
		want := map[bool]string{true: "RSASSA_PKCS1_V1_5_SHA_256", false: "ECDSA_SHA_256"}[isRSA(key)]
		if asked.MessageType != "DIGEST" || asked.SigningAlgorithm != want {
			awsError(w, "InvalidKeyUsageException")
			return
		}
		signature, _ := key.Sign(rand.Reader, asked.Message, crypto.SHA256)
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": asked.KeyID, "Signature": signature})
	default:
		awsError(w, "UnknownOperationException")
	}
}

func awsError(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": code})
}

func newECDSA() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) }

func isRSA(key crypto.Signer) bool {
	_, ok := key.(*rsa.PrivateKey)
	return ok
}
