// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/provisioner"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// issuer is the border to the step-ca library: one embedded authority for one
// signing key. One per key and not one for all, because the library makes a single
// CRL per authority, signed by whatever key is current.
//
// The library has no policy of its own in this use: without a template it copies
// the names that the request asks for, it does not bound a lifetime, and it gives
// a certificate without dates no life at all. So the whole template is ours, and
// sign is the only call. Renewal is a new signature: the library's own renews
// expired certificates and those of strangers, and keeps the old issuer's URLs.
type issuer struct {
	keyID       fleet.KeyID
	certificate *x509.Certificate
	signer      crypto.Signer
	library     *authority.Authority
	// ocsp says that certificates below it may be those of OCSP responders; an authority that was imported may not have any.
	ocsp bool
}

func newIssuer(keyID fleet.KeyID, certificate, root *x509.Certificate, signer crypto.Signer) (*issuer, error) {
	library, err := authority.NewEmbedded(
		authority.WithX509RootCerts(root),
		authority.WithX509SignerChain([]*x509.Certificate{certificate}, signer),
		authority.WithX509IntermediateCerts(certificate),
		authority.WithDatabase(nowhere{}),
		authority.WithQuietInit(),
	)
	if err != nil {
		return nil, fmt.Errorf("embed authority: %w", err)
	}
	ocsp := allows(certificate, x509.ExtKeyUsageOCSPSigning) && allows(root, x509.ExtKeyUsageOCSPSigning)
	return &issuer{keyID, certificate, signer, library, ocsp}, nil
}

// sign returns a certificate that says what the template says, for the public key
// of the request, whose signature is verified. The template needs dates and a
// serial number.
func (i *issuer) sign(ctx context.Context, request *x509.CertificateRequest, template x509.Certificate) (*x509.Certificate, error) {
	// An enforcer is the library's last word before it signs.
	ours := provisioner.CertificateEnforcerFunc(func(certificate *x509.Certificate) error {
		template.PublicKey, template.PublicKeyAlgorithm = certificate.PublicKey, certificate.PublicKeyAlgorithm
		*certificate = template
		return nil
	})
	chain, err := i.library.SignWithContext(ctx, bare(request), provisioner.SignOptions{}, ours)
	if err != nil {
		return nil, fmt.Errorf("pki: sign with key %s: %w", i.keyID, err)
	}
	return chain[0], nil
}

// bare leaves of a request what its signature is verified with. No name and no
// extension that a stranger chose reaches the library.
func bare(request *x509.CertificateRequest) *x509.CertificateRequest {
	return &x509.CertificateRequest{
		RawTBSCertificateRequest: request.RawTBSCertificateRequest,
		Signature:                request.Signature,
		SignatureAlgorithm:       request.SignatureAlgorithm,
		PublicKey:                request.PublicKey,
		PublicKeyAlgorithm:       request.PublicKeyAlgorithm,
	}
}

// window is a time of validity in whole seconds, which is all a certificate holds.
type window struct{ notBefore, notAfter time.Time }

// validity is the time for which a certificate made now may be valid: the lifetime,
// backdated, and within the issuer's own.
func (i *issuer) validity(now time.Time, backdate, lifetime time.Duration) (window, error) {
	if now.Before(i.certificate.NotBefore) || !now.Before(i.certificate.NotAfter) {
		return window{}, fault.New(fault.FailedPrecondition, ReasonAuthorityExpired,
			"the certificate authority is not valid at this time").With("key", string(i.keyID))
	}
	w := window{now.Add(-backdate), now.Add(lifetime)}
	if w.notBefore.Before(i.certificate.NotBefore) {
		w.notBefore = i.certificate.NotBefore
	}
	if w.notAfter.After(i.certificate.NotAfter) {
		w.notAfter = i.certificate.NotAfter
	}
	return window{w.notBefore.UTC().Truncate(time.Second), w.notAfter.UTC().Truncate(time.Second)}, nil
}
