// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/emptypb"

	"gitlab.com/ampora/ampora/shared/calls"
)

// Whose a call is shows in its handshake, before anybody is asked.
func TestOrigin(t *testing.T) {
	var origin calls.Origin
	spec := connect.Spec{Procedure: "/test.v1.Test/Test", StreamType: connect.StreamTypeUnary}
	service := connect.NewServer()
	service.Register(connect.Method{Spec: spec, Handler: func(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
		origin = Origin(ctx)
		var request emptypb.Empty
		if err := stream.Receive(&request); err != nil {
			return err
		}
		return stream.Send(&request)
	}})
	mux := http.NewServeMux()
	connecthttp.Mount(mux, service)
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)

	for _, shown := range []struct {
		certificates []tls.Certificate
		want         calls.Origin
	}{{nil, calls.Strangers}, {[]tls.Certificate{selfSigned(t)}, calls.Ours}} {
		client := server.Client()
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = shown.certificates
		client = &http.Client{Transport: transport}
		var answer emptypb.Empty
		err := connect.NewClient(connecthttp.NewTransport(client, server.URL)).CallUnary(t.Context(), spec, &emptypb.Empty{}, &answer)
		if err != nil || origin != shown.want {
			t.Errorf("with %d certificates the origin is %v: %v", len(shown.certificates), origin, err)
		}
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
