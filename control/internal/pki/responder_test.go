// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

// asking is a responder, and a leaf of its signing key with its issuer.
type asking struct {
	*testing.T
	authority    *pki.Authority
	responder    *pki.Responder
	leaf, issuer *x509.Certificate
}

func newAsking(t *testing.T, algorithm pki.Algorithm) asking {
	t.Helper()
	config := policy
	config.Algorithm = algorithm
	authority := open(t, &memory{}, config, acme)
	signed, leaf := issue(t, authority, request(t, acme, start))
	stored, err := authority.IssueResponder(t.Context(), acme, signed.KeyID, start)
	if err != nil {
		t.Fatal(err)
	}
	if stored.Tenant != acme || stored.Key != signed.KeyID || !stored.NotAfter.Equal(start.Add(pki.ResponderLifetime)) {
		t.Errorf("stored is %+v", stored)
	}
	responder, err := authority.OpenResponder(t.Context(), stored)
	if err != nil {
		t.Fatal(err)
	}
	return asking{t, authority, responder, leaf, bundle(t, authority, acme).Intermediates[0]}
}

// question is one about a certificate as clients make it.
func (a asking) question(leaf *x509.Certificate, hash crypto.Hash) pki.Question {
	a.Helper()
	der, err := ocsp.CreateRequest(leaf, a.issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		a.Fatal(err)
	}
	q, err := pki.ParseQuestion(der)
	if err != nil {
		a.Fatal(err)
	}
	return q
}

func TestAnswer(t *testing.T) {
	a := newAsking(t, pki.ECDSAP256)
	now := start.Add(time.Hour + time.Millisecond)
	revokedAt := start.Add(time.Minute)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		for name, c := range map[string]struct {
			standing pki.Standing
			status   int
			reason   int
		}{
			"good":               {pki.Standing{}, ocsp.Good, 0},
			"revoked":            {pki.Standing{RevokedAt: revokedAt}, ocsp.Revoked, ocsp.Unspecified},
			"revoked for reason": {pki.Standing{RevokedAt: revokedAt, Reason: fleet.ReasonKeyCompromise}, ocsp.Revoked, ocsp.KeyCompromise},
		} {
			q := a.question(a.leaf, hash)
			der, next, err := a.responder.Answer(q, c.standing, now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ocsp.ParseResponseForCert(der, a.leaf, a.issuer)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got.Status != c.status || got.RevocationReason != c.reason || got.IssuerHash != hash || !got.RevokedAt.Equal(c.standing.RevokedAt) ||
				!got.ThisUpdate.Equal(start.Add(time.Hour)) || !got.NextUpdate.Equal(next) || !next.Equal(got.ThisUpdate.Add(pki.AnswerLifetime)) {
				t.Errorf("%s, %v: %+v", name, hash, got)
			}
		}
	}
	// No answer outlives the responder.
	late := start.Add(pki.ResponderLifetime - time.Hour)
	if _, next, err := a.responder.Answer(a.question(a.leaf, crypto.SHA1), pki.Standing{}, late); err != nil || !next.Equal(a.responder.NotAfter()) {
		t.Errorf("a late answer is good until %s, %v", next, err)
	}
}

func TestQuestionsForOthers(t *testing.T) {
	a, other := newAsking(t, pki.ECDSAP256), newAsking(t, pki.ECDSAP256)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		q := other.question(other.leaf, hash)
		if a.responder.AnswersFor(q) || !other.responder.AnswersFor(q) {
			t.Error("a responder answers for the key of another")
		}
		if _, _, err := a.responder.Answer(q, pki.Standing{}, start); err == nil {
			t.Error("it even signed")
		}
	}
	if _, err := a.authority.IssueResponder(t.Context(), acme, "none", start); !fault.Is(err, pki.ReasonUnknownKey) {
		t.Errorf("for an unknown key: %v", err)
	}
	// What is stored for one key is not opened for another.
	stored, err := a.authority.IssueResponder(t.Context(), acme, a.responder.Key, start)
	if err != nil {
		t.Fatal(err)
	}
	moved := stored
	moved.SealedKey = bytes.Clone(stored.SealedKey)
	moved.SealedKey[len(moved.SealedKey)-1] ^= 1
	if _, err := a.authority.OpenResponder(t.Context(), moved); err == nil {
		t.Error("a damaged key was opened")
	}
}

// TestOpenSSLBelievesAnswers lets a second implementation ask and judge, for either kind of authority.
func TestOpenSSLBelievesAnswers(t *testing.T) {
	for _, algorithm := range []pki.Algorithm{pki.ECDSAP256, pki.RSA3072} {
		t.Run(string(algorithm), func(t *testing.T) {
			a := newAsking(t, algorithm)
			dir := t.TempDir()
			leaf, issuer := write(t, dir, "leaf.pem", encode("CERTIFICATE", a.leaf.Raw)), write(t, dir, "issuer.pem", encode("CERTIFICATE", a.issuer.Raw))
			root := write(t, dir, "root.pem", bundle(t, a.authority, acme).RootsPEM)
			at := strconv.FormatInt(start.Add(time.Minute).Unix(), 10)
			for _, flag := range []string{"-sha1", "-sha256"} {
				asked := dir + "/request" + flag
				openssl(t, "ocsp", flag, "-issuer", issuer, "-cert", leaf, "-reqout", asked)
				q, err := pki.ParseQuestion(read(t, asked))
				if err != nil || len(q.Nonce) == 0 {
					t.Fatalf("openssl asks %+v, %v", q, err)
				}
				der, _, err := a.responder.Answer(q, pki.Standing{RevokedAt: start, Reason: fleet.ReasonSuperseded}, start)
				if err != nil {
					t.Fatal(err)
				}
				answer := write(t, dir, "answer", der)
				// The request goes along, and no other nonce, so that its own is compared. The test's time is not now.
				out := openssl(t, "ocsp", flag, "-no_nonce", "-reqin", asked, "-respin", answer, "-issuer", issuer, "-cert", leaf, "-CAfile", root,
					"-verify_other", issuer, "-attime", at, "-validity_period", strconv.Itoa(1<<30))
				if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": revoked") || !strings.Contains(out, "superseded") || strings.Contains(out, "nonce") {
					t.Errorf("openssl says: %s", out)
				}
			}
		})
	}
}

func TestParseQuestion(t *testing.T) {
	a := newAsking(t, pki.ECDSAP256)
	der, err := ocsp.CreateRequest(a.leaf, a.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(1), 8*20)}
	tooLong, err := ocsp.CreateRequest(long, a.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	negative, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(-1)}, a.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "no DER": []byte("hello"), "more behind it": append(bytes.Clone(der), 0), "cut off": der[:len(der)-1],
		"a serial of 21 bytes": tooLong, "a negative serial": negative, "too long": make([]byte, pki.MaxQuestionSize+1),
		"SHA-512": asSHA512(t, a),
	} {
		if _, err := pki.ParseQuestion(bad); err == nil {
			t.Errorf("%s is a question", name)
		}
	}
}

func asSHA512(t *testing.T, a asking) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(a.leaf, a.issuer, &ocsp.RequestOptions{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Whatever is taken for a question says the same to another implementation.
func FuzzParseQuestion(f *testing.F) {
	authority := open(f, &memory{}, policy, acme)
	_, leaf := issue(f, authority, request(f, acme, start))
	issuer := bundle(f, authority, acme).Intermediates[0]
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := pki.ParseQuestion(der)
		if err != nil {
			return
		}
		if len(q.Nonce) > 128 || q.Nonce != nil && len(q.Nonce) == 0 {
			t.Errorf("a nonce of %d bytes", len(q.Nonce))
		}
		theirs, err := ocsp.ParseRequest(der)
		if err != nil {
			if signed(der) {
				return // which that implementation refuses
			}
			t.Fatalf("%x: %v", der, err)
		}
		if serial, ok := new(big.Int).SetString(string(q.Serial), 16); !ok || serial.Cmp(theirs.SerialNumber) != 0 || theirs.HashAlgorithm != q.Hash() {
			t.Errorf("%x: %+v, theirs %+v", der, q, theirs)
		}
	})
}

func signed(der []byte) bool {
	var parts struct{ TBS, Signature asn1.RawValue }
	_, err := asn1.Unmarshal(der, &parts)
	return err == nil
}
