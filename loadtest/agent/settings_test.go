// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// certify signs a certificate for the key with itself: who signed is not looked at here.
func certify(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestAccept(t *testing.T) {
	own, err := newEnrolment("own")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := newEnrolment("foreign")
	if err != nil {
		t.Fatal(err)
	}
	first := &settings{endpoint: "wss://first", header: http.Header{"Authorization": {"Bearer x"}}, tls: &tls.Config{}, enrolment: own}
	for name, test := range map[string]struct {
		certificate *protobufs.TLSCertificate
		want        error
	}{
		"for its key":             {&protobufs.TLSCertificate{Cert: certify(t, own.key)}, nil},
		"for another key":         {&protobufs.TLSCertificate{Cert: certify(t, foreign.key)}, errForeignKey},
		"with a private key":      {&protobufs.TLSCertificate{Cert: certify(t, own.key), PrivateKey: []byte("key")}, errPrivateKey},
		"without a certificate":   {nil, errNoCertificate},
		"with no PEM for one":     {&protobufs.TLSCertificate{Cert: []byte("certificate")}, errNoCertificate},
		"with authorities for us": {&protobufs.TLSCertificate{Cert: certify(t, own.key), CaCert: certify(t, foreign.key)}, nil},
	} {
		next, err := first.accept(&protobufs.OpAMPConnectionSettings{DestinationEndpoint: "wss://next", Certificate: test.certificate}, []byte("hash"))
		if !errors.Is(err, test.want) {
			t.Errorf("%s: error is %v, want %v", name, err, test.want)
			continue
		}
		if err != nil {
			continue
		}
		if next.endpoint != "wss://next" || len(next.header) > 0 || len(next.tls.Certificates) != 1 || next.enrolment != nil {
			t.Errorf("%s: the next settings are %+v", name, next)
		}
		if next.tls.Certificates[0].PrivateKey != own.key {
			t.Errorf("%s: the key is not the agent's", name)
		}
	}
	if len(first.tls.Certificates) > 0 {
		t.Error("accepting changed the former settings")
	}
}

func TestNewUID(t *testing.T) {
	begin := time.UnixMilli(0x0190_1234_5678)
	uid, other := newUID(begin), newUID(begin)
	if text := uidText(uid); text[:13] != "01901234-5678" || text[14] != '7' {
		t.Errorf("%s is no UUIDv7 of that time", text)
	}
	if uid == other {
		t.Error("two uids are equal")
	}
}
