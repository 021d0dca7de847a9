// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
)

const cloudTestRing = "projects/p/locations/europe-west1/keyRings/ampora"

// TestCloudKMS speaks to a server of the four calls that are used. What it signs is verified by those who ask it, with
// the public key.
func TestCloudKMS(t *testing.T) {
	fake := &cloudFake{keys: map[string]crypto.Signer{}}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, asked any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if fake.trouble.Suffer() {
			return nil, status.Error(codes.Unavailable, "away")
		}
		return handler(ctx, asked)
	}))
	kmspb.RegisterKeyManagementServiceServer(server, fake)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	kmstest.Run(t, kmstest.Backend{
		Driver: newCloudKMS(option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))),
		URI: "cloudkms:" + cloudTestRing, Missing: "cloudkms:" + cloudTestRing + "/cryptoKeys/nobody/cryptoKeyVersions/1",
		Away: fake.trouble.Away, Slow: fake.trouble.Slow,
	})
}

type cloudFake struct {
	kmspb.UnimplementedKeyManagementServiceServer
	trouble kmstest.Trouble
	mu      sync.Mutex
	keys    map[string]crypto.Signer
}

func (f *cloudFake) key(version string) (crypto.Signer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, ok := f.keys[version]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such version")
	}
	return key, nil
}

func (f *cloudFake) GetKeyRing(_ context.Context, r *kmspb.GetKeyRingRequest) (*kmspb.KeyRing, error) {
	if r.GetName() != cloudTestRing {
		return nil, status.Error(codes.NotFound, "no such ring")
	}
	return &kmspb.KeyRing{Name: r.GetName()}, nil
}

var cloudMakers = map[kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm]func() (crypto.Signer, error){
	kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256: newECDSA, kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_3072_SHA256: newRSA,
}

func (f *cloudFake) CreateCryptoKey(_ context.Context, r *kmspb.CreateCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	made := cloudMakers[r.GetCryptoKey().GetVersionTemplate().GetAlgorithm()]
	if made == nil || r.GetParent() != cloudTestRing || r.GetCryptoKey().GetPurpose() != kmspb.CryptoKey_ASYMMETRIC_SIGN {
		return nil, status.Error(codes.InvalidArgument, "another key was expected")
	}
	key, err := made()
	if err != nil {
		return nil, err
	}
	name := r.GetParent() + "/cryptoKeys/" + r.GetCryptoKeyId()
	f.mu.Lock()
	f.keys[name+"/cryptoKeyVersions/1"] = key
	f.mu.Unlock()
	return &kmspb.CryptoKey{Name: name}, nil
}

func (f *cloudFake) GetPublicKey(_ context.Context, r *kmspb.GetPublicKeyRequest) (*kmspb.PublicKey, error) {
	key, err := f.key(r.GetName())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	algorithm := kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256
	if isRSA(key) {
		algorithm = kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_3072_SHA256
	}
	return &kmspb.PublicKey{Name: r.GetName(), Algorithm: algorithm, Pem: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, nil
}

func (f *cloudFake) AsymmetricSign(_ context.Context, r *kmspb.AsymmetricSignRequest) (*kmspb.AsymmetricSignResponse, error) {
	key, err := f.key(r.GetName())
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(rand.Reader, r.GetDigest().GetSha256(), crypto.SHA256)
	return &kmspb.AsymmetricSignResponse{Name: r.GetName(), Signature: signature}, err
}

func TestCloudKeysWithoutAVersionAreRefused(t *testing.T) {
	services := kmstest.Backend{Driver: newCloudKMS(), URI: "cloudkms:" + cloudTestRing}.Open(t, 0)
	for _, uri := range []string{"cloudkms:" + cloudTestRing + "/cryptoKeys/ca", "cloudkms:" + cloudTestRing, "cloudkms:x"} {
		if _, err := services.Find(t.Context(), uri); err == nil || !strings.HasPrefix(err.Error(), "the key's URI") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
