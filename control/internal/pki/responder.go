// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha1" //nolint:gosec // for crypto.SHA1, by which issuers are named; nothing is proven with it
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Times of what answers about single certificates.
const (
	// ResponderLifetime is how long a responder's certificate is good for.
	ResponderLifetime = 90 * 24 * time.Hour
	// AnswerLifetime is how long an answer is.
	AnswerLifetime = 12 * time.Hour
)

// ResponderBinding is the place for which a responder's private key is sealed.
func ResponderBinding(tenant fleet.TenantID, key fleet.KeyID) seal.Binding {
	return seal.At(fleet.WrappedOCSPKey, tenant, string(key))
}

// oidNoCheck is id-pkix-ocsp-nocheck (RFC 6960, section 4.2.2.2.1): the responder's own certificate needs no answer.
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// ReasonNoResponders says that an authority which was imported does not allow OCSP responders below it.
const ReasonNoResponders = "AUTHORITY_WITHOUT_OCSP"

// IssueResponder makes a responder for a signing key: a new key, and its certificate by the signing key. Errors are those
// of [Authority.SignList], and a fault with [ReasonNoResponders].
func (a *Authority) IssueResponder(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID, now time.Time) (fleet.Responder, error) {
	by, err := a.issuer(ctx, tenant, key)
	if err != nil {
		return fleet.Responder{}, err
	}
	if !by.ocsp {
		return fleet.Responder{}, fault.New(fault.FailedPrecondition, ReasonNoResponders, "the authority may not have OCSP responders").With("key", string(key))
	}
	valid, err := by.validity(now, a.config.Backdate, ResponderLifetime)
	if err != nil {
		return fleet.Responder{}, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fleet.Responder{}, fmt.Errorf("pki: responder key: %w", err)
	}
	certificate, err := by.sign(own.Public(), x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{Organization: []string{"Ampora"}, CommonName: "ocsp " + string(key)},
		NotBefore:             valid.notBefore,
		NotAfter:              valid.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}},
	})
	if err != nil {
		return fleet.Responder{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return fleet.Responder{}, fmt.Errorf("pki: encode the responder's key: %w", err)
	}
	defer clear(pkcs8)
	sealed, err := a.ring.Wrap(ResponderBinding(tenant, key), pkcs8)
	if err != nil {
		return fleet.Responder{}, fmt.Errorf("pki: seal the responder's key: %w", err)
	}
	return fleet.Responder{
		Tenant: tenant, Key: key, Serial: fleet.Serial(identity.SerialOf(certificate.SerialNumber)),
		CertificateDER: certificate.Raw, SealedKey: sealed, NotAfter: certificate.NotAfter,
	}, nil
}

// Responder answers for one signing key. It does not change, and is safe for concurrent use.
type Responder struct {
	Tenant      fleet.TenantID
	Key         fleet.KeyID
	certificate *x509.Certificate
	signer      *ecdsa.PrivateKey
	keyHash     []byte // by which answers name the responder
	names       map[crypto.Hash]issuerName
}

// issuerName is how questions name the issuer of a certificate.
type issuerName struct{ name, key string }

// OpenResponder opens a responder that is stored. Errors are those of [Authority.SignList] and of the keyring.
func (a *Authority) OpenResponder(ctx context.Context, r fleet.Responder) (*Responder, error) {
	by, err := a.issuer(ctx, r.Tenant, r.Key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(r.CertificateDER)
	if err != nil {
		return nil, fmt.Errorf("pki: the responder's certificate of key %s: %w", r.Key, err)
	}
	pkcs8, err := a.ring.Unwrap(ResponderBinding(r.Tenant, r.Key), r.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("pki: open the responder of key %s: %w", r.Key, err)
	}
	defer clear(pkcs8)
	private, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("pki: the responder's key of key %s: %w", r.Key, err)
	}
	signer, ok := private.(*ecdsa.PrivateKey)
	if !ok || !signer.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("pki: the responder's key of key %s is not that of its certificate", r.Key)
	}
	opened := &Responder{Tenant: r.Tenant, Key: r.Key, certificate: certificate, signer: signer, names: map[crypto.Hash]issuerName{}}
	own, err := publicBits(certificate)
	if err != nil {
		return nil, err
	}
	issuers, err := publicBits(by.certificate)
	if err != nil {
		return nil, err
	}
	opened.keyHash = digest(crypto.SHA1, own)
	for _, hash := range hashes {
		opened.names[hash] = issuerName{string(digest(hash, by.certificate.RawSubject)), string(digest(hash, issuers))}
	}
	return opened, nil
}

// issuer is a key that signs, or signed. The error is a fault with [ReasonUnknownKey] for another, or that of Bundle.
func (a *Authority) issuer(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID) (*issuer, error) {
	h, err := a.hierarchy(ctx, ofTenant(tenant))
	if err != nil {
		return nil, err
	}
	by := h.issuers[key]
	if by == nil {
		return nil, fault.New(fault.FailedPrecondition, ReasonUnknownKey, "no signing key has this name").With("key", string(key))
	}
	return by, nil
}

// publicBits is the public key of a certificate as issuers and responders are named by it (RFC 6960, section 4.1.1): the
// content of the bit string.
func publicBits(c *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("pki: read a public key: %w", err)
	}
	return info.Key.RightAlign(), nil
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// NotAfter is when the responder's certificate ends.
func (r *Responder) NotAfter() time.Time { return r.certificate.NotAfter }

// AnswersFor says whether the question is about a certificate of the responder's signing key.
func (r *Responder) AnswersFor(q Question) bool {
	return r.names[q.hash] == issuerName{q.nameHash, q.keyHash}
}

// Standing is what a responder says of a certificate. The zero value says that it is good.
type Standing struct {
	RevokedAt time.Time // zero: it is not
	Reason    fleet.RevocationReason
}

// Answer signs what is known of the certificate that the question is about: an OCSP response (RFC 6960, section 4.2) that
// is good from now for [AnswerLifetime], but not for longer than the responder's certificate. It carries the question's
// nonce, if there is one.
func (r *Responder) Answer(q Question, of Standing, now time.Time) (der []byte, next time.Time, err error) {
	serial, ok := new(big.Int).SetString(string(q.Serial), 16)
	if !ok || !r.AnswersFor(q) {
		return nil, time.Time{}, fmt.Errorf("pki: the question is not one for key %s", r.Key)
	}
	now = now.UTC().Truncate(time.Second)
	if next = now.Add(AnswerLifetime); next.After(r.certificate.NotAfter) {
		next = r.certificate.NotAfter.UTC()
	}
	var data cryptobyte.Builder
	data.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ResponseData
		b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.keyHash) }) // byKey
		b.AddASN1GeneralizedTime(now)                                                                                             // producedAt
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addSingle(b, q, serial, of, now, next) })
		})
		if q.Nonce != nil {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { addNonce(b, q.Nonce) })
		}
	})
	signed, err := data.Bytes()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("pki: encode an answer: %w", err)
	}
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, r.signer, sum[:])
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("pki: sign an answer: %w", err)
	}
	der, err = r.response(signed, signature)
	return der, next, err
}

// addSingle writes a SingleResponse.
func addSingle(b *cryptobyte.Builder, q Question, serial *big.Int, of Standing, now, next time.Time) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // CertID
		algorithm := oidSHA1
		if q.hash == crypto.SHA256 {
			algorithm = oidSHA256
		}
		addAlgorithm(b, algorithm, true)
		b.AddASN1OctetString([]byte(q.nameHash))
		b.AddASN1OctetString([]byte(q.keyHash))
		b.AddASN1BigInt(serial)
	})
	if of.RevokedAt.IsZero() {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {}) // good
	} else {
		b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { // revoked
			b.AddASN1GeneralizedTime(of.RevokedAt.UTC().Truncate(time.Second))
			if of.Reason != fleet.ReasonUnspecified { // left out rather than said (RFC 5280, section 5.3.1)
				b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(of.Reason)) })
			}
		})
	}
	b.AddASN1GeneralizedTime(now)
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(next) })
}

func addNonce(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidNonce)
			b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
		})
	})
}

func addAlgorithm(b *cryptobyte.Builder, algorithm asn1.ObjectIdentifier, null bool) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(algorithm)
		if null {
			b.AddASN1NULL()
		}
	})
}

var (
	oidBasicResponse   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// response is an OCSPResponse: successful, of the basic kind, with the responder's certificate.
func (r *Responder) response(data, signature []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidBasicResponse)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						addAlgorithm(b, oidECDSAWithSHA256, false)
						b.AddASN1BitString(signature)
						b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
							b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.certificate.Raw) })
						})
					})
				})
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("pki: encode an answer: %w", err)
	}
	return der, nil
}
